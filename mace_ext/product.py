"""Many-body features: products of an atom's messages with themselves."""

from __future__ import annotations

from collections import Counter

import torch

from mace_ext.config import MACEConfig
from mace_ext.contraction import SymmetricSpec, contract_symmetric
from nequip.kernels.backend import Backend
from nequip.model.potential import DTYPES
from nequip.nn.linear import IrrepsLinear
from nequip.o3 import Irrep, Irreps
from nequip.typing import Float, Int, Tensor


class Product(torch.nn.Module):
    """`h_i <- Linear(Σ_ν Σ_p W[t_i, p] P_p(m_i, ..., m_i)) + kept_i`, ν messages in each product.

    P_p are the equivariant polynomials of degree ν, W one weight for each element, polynomial and channel.
    Source: Batatia et al., arXiv:2206.07697, eq. 10 and 11.
    """

    def __init__(self, config: MACEConfig, index: int):
        super().__init__()
        dtype = DTYPES[config.dtype]
        self.backend: Backend = config.backend
        self.spec = SymmetricSpec(config.messages(index), config.correlations[index], config.features(index))
        self.weight = torch.nn.Parameter(_initial_weights(len(config.type_names), self.spec, dtype))
        self.linear = IrrepsLinear(self.spec.irreps_out, self.spec.irreps_out, dtype, config.backend)

    def forward(
        self,
        message: Float[Tensor, "owned component_message"],
        kept: Float[Tensor, "owned component_out"] | None,
        types: Int[Tensor, " owned"],
    ) -> Float[Tensor, "owned component_out"]:
        """Features of the next layer; `kept` is what the interaction took past the messages."""
        product = contract_symmetric(message, self.weight, types, spec=self.spec, backend=self.backend)
        h = self.linear(product)
        return h if kept is None else h + kept


def _initial_weights(
    num_types: int, spec: SymmetricSpec, dtype: torch.dtype
) -> Float[Tensor, "type path_channel"]:
    """Normal, over the number of ways to couple as many factors to the same irrep.

    MACE has a weight for each of these ways, drawn like that; they are more than there are polynomials, and
    the weights of these come out with about the same deviation.
    """
    ways = {order: _num_couplings(spec.irreps_in, order) for order in range(1, spec.correlation + 1)}
    scale = torch.tensor([1 / ways[path.order][path.irrep_out] for path in spec.paths], dtype=dtype)
    return torch.randn(num_types, spec.num_weights, dtype=dtype) * scale.repeat_interleave(spec.channels)


def _num_couplings(irreps: Irreps, order: int) -> Counter[Irrep]:
    """In how many ways `order` factors couple to each irrep, one after the other."""
    factors = [irrep for _, irrep in irreps]
    ways = Counter(factors)
    for _ in range(order - 1):
        coupled: Counter[Irrep] = Counter()
        for left, count in ways.items():
            for factor in factors:
                coupled.update(dict.fromkeys(left.product(factor), count))
        ways = coupled
    return ways
