"""Sums by torch_scatter: its `scatter` alone, since `segment_csr` drops second derivatives. See README.md."""

from __future__ import annotations

from importlib import import_module

from nequip.errors import KernelError
from nequip.kernels.scatter.reference import centers
from nequip.typing import Float, Int, Tensor

try:
    _scatter = import_module("torch_scatter").scatter
except (ImportError, OSError) as error:  # OSError: it was built for another torch
    raise KernelError(
        f"segment_sum: backend torch_scatter cannot be imported ({error}): install it with "
        "`pip install --no-build-isolation torch-scatter`, or choose reference."
    ) from error


def segment_sum(
    values: Float[Tensor, "edge column"], row_ptr: Int[Tensor, " atom+1"]
) -> Float[Tensor, "atom column"]:
    """`out[n] = Σ values[e]` over the edges of center n."""
    center = centers(row_ptr, values.shape[0])
    return _scatter(values, center, dim=0, dim_size=row_ptr.shape[0] - 1, reduce="sum")
