"""The weights of the published package (mace-torch) in our shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import pi, sqrt

import torch

from mace_ext.contraction.basis import project
from mace_ext.interaction import SILU_GAIN, Interaction
from mace_ext.model import MACE
from mace_ext.product import Product
from mace_ext.radial import GaussianBasis
from mace_ext.readout import MLPReadout
from nequip.interop.published import take, take_flat
from nequip.nn.linear import ElementLinear, IrrepsLinear
from nequip.nn.radial import BesselBasis
from nequip.nn.radial_network import RadialNetwork
from nequip.o3 import wigner_3j_array

State = Mapping[str, torch.Tensor]
Weights = dict[str, torch.Tensor]


def our_weights(model: MACE, state: State, heads: Sequence[int]) -> Weights:
    """Rename and reshape; theirs are flat, ours [type, channels_in, channels_out] and alike.

    Args:
        model: of the shape that the weights are for.
        heads: for each of our heads the position of theirs.

    Raises:
        CheckpointError: for weights that are missing, or of another shape.
    """
    embedding = take_flat(state, "node_embedding.linear.weight", model.type_embedding.numel())
    weights: Weights = {"type_embedding": embedding.reshape(model.type_embedding.shape)}
    weights |= _radial_basis(model, state)
    factor = _bessel_factor(model, state)
    for index, (interaction, product) in enumerate(model.layers()):
        weights |= _interaction(f"interactions.{index}", interaction, state, factor)
        weights |= _product(f"products.{index}", product, state)
    return weights | _readouts(model, state, heads) | _scale_shift(model, state, heads)


def _scale_shift(model: MACE, state: State, heads: Sequence[int]) -> Weights:
    """Their shift of what the layers say is one of every atom; a model of class MACE has neither."""
    num_heads, num_types = model.scale_shift.shifts.shape
    isolated = take_flat(state, "atomic_energies_fn.atomic_energies", num_heads * num_types).double()
    scale, shift = isolated.new_ones(1), isolated.new_zeros(1)
    if "scale_shift.scale" in state:
        scale, shift = (take_flat(state, f"scale_shift.{name}", num_heads) for name in ("scale", "shift"))
    table = isolated.reshape(num_heads, num_types)
    return {
        "scale_shift.scales": scale.double().unsqueeze(1).expand_as(table)[heads].clone(),
        "scale_shift.shifts": (table + shift.double().unsqueeze(1))[heads],
    }


def _radial_basis(model: MACE, state: State) -> Weights:
    """Roots of Bessel functions and centers of Gaussians, in units of the cutoff."""
    basis, r_max = model.radial_embedding.basis, model.card.r_max
    theirs, ours = "radial_embedding.bessel_fn", "radial_embedding.basis"
    if isinstance(basis, BesselBasis):
        roots = take(state, f"{theirs}.bessel_weights", basis.roots.shape).double()
        return {f"{ours}.roots": roots * (r_max / pi)}
    if isinstance(basis, GaussianBasis):
        centers = take(state, f"{theirs}.gaussian_weights", basis.centers.shape).double()
        return {f"{ours}.centers": centers / r_max}
    return {}


def _bessel_factor(model: MACE, state: State) -> float:
    """What the prefactor of their Bessel functions is in units of ours: 1 up to rounding."""
    if not isinstance(model.radial_embedding.basis, BesselBasis):
        return 1.0
    return float(take(state, "radial_embedding.bessel_fn.prefactor")) / sqrt(2 / model.card.r_max)


def _interaction(name: str, own: Interaction, state: State, factor: float) -> Weights:
    weights = {
        **_linear(f"{name}.linear_up", own.linear_up, state),
        **_linear(f"{name}.linear", own.linear, state),
        **_skip(name, own.skip, state),
        **_network(f"{name}.conv_tp_weights", own.radial, f"{name}.radial", state, factor),
    }
    last = f"{name}.radial.weights.{len(own.radial.weights) - 1}"
    weights[last] = weights[last][:, _path_columns(own)] * _path_signs(name, own, state)
    if own.density is not None:
        weights |= _network(f"{name}.density_fn", own.density, f"{name}.density", state, factor)
    return weights


def _linear(name: str, own: IrrepsLinear, state: State) -> Weights:
    """A matrix for each irrep, cut from a row of numbers."""
    sizes = [weight.numel() for weight in own.weights.values()]
    parts = take_flat(state, f"{name}.weight", sum(sizes)).split(sizes)
    return {
        f"{name}.weights.{irrep}": part.reshape(weight.shape)
        for part, (irrep, weight) in zip(parts, own.weights.items(), strict=True)
    }


def _skip(name: str, own: ElementLinear, state: State) -> Weights:
    """Theirs are [channels_in, element, channels_out] for each irrep."""
    sizes = [weight.numel() for weight in own.weights.values()]
    parts = take_flat(state, f"{name}.skip_tp.weight", sum(sizes)).split(sizes)
    weights: Weights = {}
    for part, (irrep, weight) in zip(parts, own.weights.items(), strict=True):
        num_types, fan_in, fan_out = weight.shape
        weights[f"{name}.skip.weights.{irrep}"] = part.reshape(fan_in, num_types, fan_out).transpose(0, 1)
    return weights


def _network(theirs: str, own: RadialNetwork, ours: str, state: State, factor: float) -> Weights:
    """Layers after the first see activations that theirs multiply by another number than ours."""
    return {
        f"{ours}.weights.{i}": take(state, f"{theirs}.layer{i}.weight", weight.shape).double()
        * (SILU_GAIN if i > 0 else factor)
        for i, weight in enumerate(own.weights)
    }


def _path_columns(own: Interaction) -> torch.Tensor:
    """Theirs are in the order of outputs, ours in that of paths: for each of our columns, theirs."""
    spec = own.spec
    columns = torch.arange(spec.num_weights).split([spec.channels(spec.paths[p]) for p in spec.output_order])
    by_path = dict(zip(spec.output_order, columns, strict=True))
    return torch.cat([by_path[path] for path in range(len(spec.paths))])


def _path_signs(name: str, own: Interaction, state: State) -> torch.Tensor:
    """-1 for paths whose coupling coefficients have the other sign in the file: it differs between e3nn's."""
    signs: list[torch.Tensor] = []
    for path in own.spec.paths:
        irreps = (own.spec.irreps_in.terms[path.block_in][1], own.spec.irreps_sh.terms[path.block_sh][1])
        degrees = (*(irrep.l for irrep in irreps), path.irrep_out.l)
        stored = state.get(f"{name}.conv_tp._compiled_main_left_right._w3j_{'_'.join(map(str, degrees))}")
        same = stored is None or float((stored.double().numpy() * wigner_3j_array(*degrees)).sum()) > 0
        signs.append(torch.full((own.spec.channels(path),), 1.0 if same else -1.0, dtype=torch.float64))
    return torch.cat(signs)


def _product(name: str, own: Product, state: State) -> Weights:
    """The columns of the stored coefficients in terms of our polynomials, and weights of these."""
    spec, parts = own.spec, list[torch.Tensor]()
    for block, (_, irrep) in enumerate(spec.irreps_out):
        theirs = f"{name}.symmetric_contractions.contractions.{block}"
        for order in range(1, spec.correlation + 1):
            # counted down from the largest degree, which has a name of its own
            below = spec.correlation - order
            key = f"{theirs}.weights.{below - 1}" if below else f"{theirs}.weights_max"
            stored = take(state, f"{theirs}.U_matrix_{order}").numpy()
            shape = (len(own.weight), stored.shape[-1], spec.channels)
            columns = torch.from_numpy(project(stored, spec.irreps_in, irrep))
            parts.append(torch.einsum("zkc,kp->zpc", take(state, key, shape).double(), columns).flatten(1))
    return {f"{name}.weight": torch.cat(parts, dim=1), **_linear(f"{name}.linear", own.linear, state)}


def _readouts(model: MACE, state: State, heads: Sequence[int]) -> Weights:
    weights: Weights = {}
    for index, readout in enumerate(model.readouts):
        name = f"readouts.{index}"
        if isinstance(readout, MLPReadout):
            (num_heads, width), channels = readout.weight.shape, readout.hidden.shape[0]
            hidden = take_flat(state, f"{name}.linear_1.weight", readout.hidden.numel())
            weights[f"{name}.hidden"] = hidden.reshape(channels, num_heads, width)[:, heads].flatten(1)
            # theirs lead from all neurons to all heads, behind a mask that leaves those of the same head
            outer = take_flat(state, f"{name}.linear_2.weight", num_heads * width * num_heads)
            weights[f"{name}.weight"] = torch.stack(
                [outer.reshape(num_heads, width, num_heads)[head, :, head] for head in heads]
            )
        else:
            flat = take_flat(state, f"{name}.linear.weight", model.type_embedding.shape[1] * len(heads))
            weights[f"{name}.weight"] = flat.reshape(-1, len(heads))[:, heads]
    return weights
