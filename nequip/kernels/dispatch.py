"""The choice of a backend where tensors are at hand."""

from __future__ import annotations

import torch

from nequip.kernels.backend import Backend, choose


@torch.compiler.assume_constant_result
def chosen_backend(requested: Backend, device: str) -> Backend:
    """`choose`, as a constant of whatever is compiled: a compiler of graphs cannot look for one of C++.

    Raises:
        KernelError: as `choose`.
    """
    return choose(requested, device).name
