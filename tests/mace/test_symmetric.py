"""The symmetric contraction: against the published formula, symmetric, differentiable, bad input named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mace_ext.contraction import SymmetricSpec, contract_symmetric, reference
from mace_ext.contraction.basis import project
from nequip.errors import KernelError
from nequip.o3 import Irreps, split, wigner_d

GOLDEN = Path(__file__).parents[1] / "golden"
CONTRACTIONS = "state/products.0.symmetric_contractions.contractions."
SMALL = SymmetricSpec.parse("2x0e+2x1o|3|2x0e+2x1o")


def arguments(spec: SymmetricSpec, atoms: int = 5, num_types: int = 3) -> tuple[torch.Tensor, ...]:
    """Features, weights and types."""
    generator = torch.Generator().manual_seed(3)
    shapes = (atoms, spec.irreps_in.dim), (num_types, spec.num_weights)
    x, weight = (torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes)
    return x, weight, torch.randint(0, num_types, (atoms,), generator=generator)


def published(name: str) -> tuple[SymmetricSpec, torch.Tensor, list[list[tuple[np.ndarray, np.ndarray]]]]:
    """Specification and weights of a golden file, and what they were made of: (U, W) by block and degree."""
    arrays = np.load(GOLDEN / f"mace_{name}.npz")
    blocks: list[list[tuple[np.ndarray, np.ndarray]]] = []
    while (prefix := f"{CONTRACTIONS}{len(blocks)}.") + "weights_max" in arrays:
        correlation = sum(key.startswith(f"{prefix}U_matrix_") for key in arrays)
        names = [*(f"weights.{correlation - 1 - order}" for order in range(1, correlation)), "weights_max"]
        stored = [arrays[f"{prefix}U_matrix_{order}"] for order in range(1, correlation + 1)]
        blocks.append([(u, arrays[prefix + w]) for u, w in zip(stored, names, strict=True)])
    channels, l_max = blocks[0][0][1].shape[2], int(len(blocks[0][0][0]) ** 0.5) - 1
    features = Irreps("+".join(f"{channels}x{n}{'eo'[n % 2]}" for n in range(l_max + 1)))
    outputs = Irreps(features.terms[: len(blocks)])
    weights = [
        np.einsum("zkc,kp->zpc", w, project(u, features, irrep)).reshape(len(w), -1)
        for (_, irrep), block in zip(outputs, blocks, strict=True)
        for u, w in block
    ]
    spec = SymmetricSpec(features, len(blocks[0]), outputs)
    return spec, torch.from_numpy(np.concatenate(weights, axis=1)), blocks


@pytest.mark.parametrize("name", ["l1", "invariant", "l2_residual"])
def test_projected_weights_give_what_the_published_ones_do(name):
    spec, weight, blocks = published(name)
    x, _, types = arguments(spec)
    features = x.unflatten(1, (-1, spec.channels))
    want: list[torch.Tensor] = []
    for (_, irrep), block in zip(spec.irreps_out, blocks, strict=True):
        total = torch.zeros(len(x), irrep.dim, spec.channels, dtype=torch.float64)
        for order, (u, w) in enumerate(block, 1):
            letters = "ijk"[:order]
            factors = ",".join(f"n{letter}c" for letter in letters)
            dense = torch.from_numpy(u if irrep.l > 0 else u[np.newaxis])
            rule = f"m{letters}q,nqc,{factors}->nmc"
            total += torch.einsum(rule, dense, torch.from_numpy(w)[types], *[features] * order)
        want.append(total.flatten(1))
    got = contract_symmetric(x, weight, types, spec=spec, backend="reference")
    torch.testing.assert_close(got, torch.cat(want, dim=1), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("determinant", [1, -1])
@pytest.mark.parametrize("correlation", [1, 2, 3, 4])
def test_it_is_equivariant(correlation, determinant):
    spec = SymmetricSpec(Irreps("2x0e+2x1o+2x2e"), correlation, Irreps("2x0e+2x1o+2x2e"))
    x, weight, types = arguments(spec)
    rotation, _ = torch.linalg.qr(x[:3, :3])
    rotation = rotation * determinant * rotation.det().sign()

    def turn(features: torch.Tensor) -> torch.Tensor:
        parts = split(features, [mul * irrep.dim for mul, irrep in spec.irreps_in])
        turned = [
            torch.einsum("ab,nbu->nau", wigner_d(rotation, irrep), part.unflatten(1, (-1, mul))).flatten(1)
            for part, (mul, irrep) in zip(parts, spec.irreps_in, strict=True)
        ]
        return torch.cat(turned, dim=1)

    got = contract_symmetric(turn(x), weight, types, spec=spec, backend="reference")
    want = turn(contract_symmetric(x, weight, types, spec=spec, backend="reference"))
    torch.testing.assert_close(got, want, atol=1e-11, rtol=1e-11)


def test_the_reference_is_differentiable_twice():
    x, weight, types = arguments(SMALL, atoms=2)
    inputs = [x.requires_grad_(), weight.requires_grad_()]
    assert torch.autograd.gradgradcheck(
        lambda *values: contract_symmetric(*values, types, spec=SMALL, backend="reference"), inputs
    )


def test_the_number_of_atoms_at_a_time_changes_nothing(monkeypatch):
    x, weight, types = arguments(SMALL, atoms=9)
    whole = contract_symmetric(x, weight, types, spec=SMALL, backend="reference")
    monkeypatch.setattr(reference, "CHUNK", 2)
    pieces = contract_symmetric(x, weight, types, spec=SMALL, backend="reference")
    torch.testing.assert_close(pieces, whole)


def test_no_atoms_give_no_rows():
    x, weight, types = arguments(SMALL, atoms=0)
    assert contract_symmetric(x, weight, types, spec=SMALL, backend="reference").shape == (0, 8)


def test_the_text_of_a_spec_gives_it_again():
    again = SymmetricSpec.parse(str(SMALL))
    assert (again, hash(again), again.paths) == (SMALL, hash(SMALL), SMALL.paths)


def test_paths_are_ordered_by_output_then_degree():
    spec = SymmetricSpec.parse("1x0e+1x1o|2|1x0e+1x1o")
    assert [(str(irrep), order, number) for irrep, order, number in spec.paths] == [
        ("0e", 1, 0),
        ("0e", 2, 0),
        ("0e", 2, 1),
        ("1o", 1, 0),
        ("1o", 2, 0),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, w, t: (x[:, 1:], w, t), r"x is \[5, 7\]"),
        (lambda x, w, t: (x, w[:, 1:], t), r"weight is \[3, \d+\], not .* and \[type, 18\]"),
        (lambda x, w, t: (x, w.float(), t), r"weight is torch\.float32 on cpu where x is torch\.float64"),
        (lambda x, w, t: (x, w, t[1:]), r"types is \[4\]"),
        (lambda x, w, t: (x, w, t.int()), r"of torch\.int32 on cpu, not \[5\] of torch\.int64"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    with pytest.raises(KernelError, match=rf"^contract_symmetric: .*{message}"):
        contract_symmetric(*change(*arguments(SMALL)), spec=SMALL, backend="reference")


def test_an_output_that_no_product_leads_to_is_told():
    spec = SymmetricSpec.parse("1x0e+1x2e|3|1x1o")
    with pytest.raises(KernelError, match="has no paths"):
        contract_symmetric(*arguments(spec), spec=spec)
