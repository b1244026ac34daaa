"""SevenNet weights: the configuration and state dict of a checkpoint -> ours.

Park et al., J. Chem. Theory Comput. 20, 4857 (2024). What we compute differs from it by names and factors
alone, once one of its modalities (levels of theory in one model) is chosen: that adds numbers to scalars.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import pi, prod, sqrt
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from nequip.errors import CheckpointError
from nequip.interop.published import Conversion, take, take_flat
from nequip.interop.published_maps import (
    Matrices,
    columns_of,
    refuse,
    rescaled_network,
    sorted_paths,
    validated,
)
from nequip.interop.sevennet_header import ACTIVATIONS, EVEN, Header, Shape
from nequip.kernels.tensor_product import Path
from nequip.model.card import DtypeName
from nequip.model.nequip import NequIPConfig, build
from nequip.nn.convolution import InteractionLayer, SelfConnection
from nequip.o3 import Irrep, Irreps, wigner_3j
from nequip.typing import Float, Tensor

# Names of parts in checkpoints before 0.10.
_OLD_NAMES = {
    "EdgeEmbedding": "edge_embedding",
    "reducing nn input to hidden": "reduce_input_to_hidden",
    "reducing nn hidden to energy": "reduce_hidden_to_energy",
    "rescale atomic energy": "rescale_atomic_energy",
}


def read_sevennet(tree: Any) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Configuration and weights in the plain content of a checkpoint (.pth).

    Raises:
        CheckpointError: for content of another kind.
    """
    config, state = (
        tree.get(key) if isinstance(tree, Mapping) else None for key in ("config", "model_state_dict")
    )
    if not isinstance(config, Mapping) or not isinstance(state, Mapping) or "_model_type" not in config:
        raise CheckpointError("the file holds no SevenNet model: it has no config or no model_state_dict.")
    arrays: dict[str, NDArray[Any]] = {}
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise CheckpointError(f"the SevenNet checkpoint has a weight {key!r} that is no tensor.")
        arrays[key] = value.detach().cpu().numpy()
    read = Header.names()
    plain = {str(key): value for key, value in config.items() if key in read}
    return {"architecture": "sevennet", **plain}, arrays


def convert(
    config: Mapping[str, Any], state: Mapping[str, NDArray[np.floating[Any]]], dtype: DtypeName
) -> Conversion:
    """Our configuration and weights for what `read_sevennet` gives.

    A model of several modalities is taken over for one: that which `config["head"]` names, by default the
    one that its configuration has as default_modal.

    Raises:
        CheckpointError: for an option that we do not have, or weights that are missing.
    """
    header = validated(Header, config, "SevenNet")
    header.check_gates()
    tensors = {_modern(key): torch.as_tensor(np.asarray(value)).double() for key, value in state.items()}
    source = _Source(header, tensors, header.modality(config.get("head")))
    source.check_parts()
    ours = _config(source, dtype)
    return Conversion(ours, _weights(source, ours))


def _modern(key: str) -> str:
    part, _, rest = key.partition(".")
    return f"{_OLD_NAMES.get(part, part.replace(' ', '_'))}.{rest.replace('denumerator', 'denominator')}"


class _Linear(NamedTuple):
    """A linear map in our normalisation: a matrix for each irrep, and what is added to even scalars."""

    matrices: Matrices
    bias: Float[Tensor, " channel"]


@dataclass(frozen=True)
class _Source:
    """Their model, and which modality of it is asked."""

    header: Header
    state: dict[str, Tensor]
    modality: int | None

    def check_parts(self) -> None:
        """Raises CheckpointError for weights of parts that are not known."""
        layers = "self_connection_intro|self_interaction_1|convolution|self_interaction_2|equivariant_gate"
        others = (
            "edge_embedding|onehot_to_feature_x|reduce_input_to_hidden|reduce_hidden_to_energy|readout_FCN"
        )
        known = re.compile(rf"(\d+_({layers})|{others}|rescale_atomic_energy)\.")
        unknown = [key for key, value in self.state.items() if value.numel() and not known.match(key)]
        if unknown:
            refuse(f"it has weights {unknown[0]!r} of a part that we do not know")

    def take(self, key: str, shape: Sequence[int]) -> Tensor:
        """The tensor of that name, of that shape once it is flat."""
        return take_flat(self.state, key, prod(shape)).reshape(tuple(shape))

    def linear(self, part: str, left: Irreps, right: Irreps, *, modal: bool = False) -> _Linear:
        """A linear map from `left` to `right`; with `modal`, the modality stands beside the scalars."""
        extra = len(self.header.modalities) if modal else 0
        sizes = {irrep: mul * right.mul(irrep) for mul, irrep in left if irrep in right}
        scalars = right.mul(EVEN)
        rows = [*sizes.values(), extra * scalars]
        *parts, of_modalities = take_flat(self.state, f"{part}.linear.weight", sum(rows)).split(rows)
        matrices = {
            irrep: flat.reshape(left.mul(irrep), -1) for irrep, flat in zip(sizes, parts, strict=True)
        }
        bias = torch.zeros(scalars, dtype=torch.float64)
        own = self.state.get(f"{part}.linear.bias")
        if own is not None and own.numel():
            bias = self.take(f"{part}.linear.bias", (scalars,))
        if extra:
            fan_in = left.mul(EVEN) + extra  # they divide by its root, we by that of the scalars alone
            matrices[EVEN] = matrices[EVEN] * sqrt(left.mul(EVEN) / fan_in)
            bias = bias + of_modalities.reshape(extra, scalars)[self.modality] / sqrt(fan_in)
        return _Linear(matrices, bias)

    def network(self, part: str, widths: Sequence[int], activation: str | None) -> list[Tensor]:
        """The matrices of an MLP in our normalisation."""
        gain = sqrt(2) if activation is None else ACTIVATIONS[activation][1]
        weights = [
            self.take(f"{part}.layer{number}.weight", shape) for number, shape in enumerate(pairwise(widths))
        ]
        return rescaled_network(weights, gain, divided=True)

    def readout(self) -> tuple[list[Tensor], Tensor]:
        """Its matrices, and the constant that it adds to every energy."""
        header, features = self.header, self.header.shapes()[-1].irreps_out
        if header.readout_as_fcn:
            widths = [features.dim, *header.readout_hidden, 1]
            return self.network("readout_FCN.fcn", widths, header.readout_activation), torch.zeros(1)
        hidden = Irreps([(header.readout_hidden[0], EVEN)])
        first = self.linear("reduce_input_to_hidden", features, hidden, modal=header.use_modal_output_block)
        second = self.linear("reduce_hidden_to_energy", hidden, Irreps([(1, EVEN)]))
        constant = first.bias @ second.matrices[EVEN] / sqrt(hidden.dim) + second.bias
        return [first.matrices[EVEN], second.matrices[EVEN]], constant

    def per_type(self, name: str) -> Float[Tensor, " type"]:
        """Scales or shifts of the energies of all types."""
        value = take(self.state, f"rescale_atomic_energy.{name}")
        if value.dim() == 2:
            value = value[0 if self.modality is None else self.modality]
        types = len(self.header.type_names)
        if value.shape not in ((1,), (types,)):
            refuse(f"its energies have {value.numel()} {name}s for {types} elements")
        return value.expand(types)

    def denominator(self, index: int) -> float:
        """What divides the sums of layer `index`."""
        return float(self.take(f"{index}_convolution.denominator", (1,)))

    def sign(self, index: int, degrees: tuple[int, int, int]) -> float:
        """That of the coupling which the weights were trained with, relative to ours."""
        name = "_w3j_" + "_".join(map(str, degrees))
        theirs = self.state.get(f"{index}_convolution.convolution._compiled_main_left_right.{name}")
        if theirs is None:
            return 1.0
        ours = wigner_3j(*degrees)
        if theirs.shape != ours.shape or abs(abs(float((theirs * ours).sum())) - 1) > 1e-4:
            refuse(f"its coupling {name} of layer {index} is another")
        return 1.0 if float((theirs * ours).sum()) > 0 else -1.0


def _config(source: _Source, dtype: DtypeName) -> NequIPConfig:
    header = source.header
    names, shapes = header.type_names, header.shapes()
    _, constant = source.readout()
    scales = source.per_type("scale")
    shifts = source.per_type("shift") + scales * constant
    has_bias = header.use_bias_in_linear or bool(
        header.modalities and (header.use_modal_self_inter_intro or header.use_modal_self_inter_outro)
    )
    activation = header.readout_activation
    connections: tuple[SelfConnection, ...] = tuple(header.connection(i) for i in range(len(shapes)))
    return NequIPConfig(
        type_names=names,
        r_max=header.cutoff,
        num_layers=header.num_convolution_layer,
        l_max=header.irreps_sh.l_max,
        parity=header.parity,
        harmonics="solid" if header.solid else "surface",
        hidden_irreps=tuple(str(shape.irreps_out) for shape in shapes),
        type_embed_num_features=shapes[0].irreps_in.dim,
        radial_mlp_depth=len(header.weight_nn_hidden_neurons),
        radial_mlp_width=tuple(header.weight_nn_hidden_neurons),
        radial_mlp_nonlinearity=ACTIVATIONS[header.act_radial][0],
        num_bessels=header.radial_basis.bessel_basis_num,
        bessel_trainable=header.radial_basis.trainable_coeff,
        polynomial_cutoff_p=header.cutoff_function.poly_cut_p_value,
        cutoff_onset=header.cutoff_function.onset,
        self_connection=connections,
        linear_bias=has_bias,
        readout_mlp_depth=len(header.readout_hidden),
        readout_mlp_width=tuple(header.readout_hidden),
        readout_mlp_nonlinearity=None if activation is None else ACTIVATIONS[activation][0],
        avg_num_neighbors=source.denominator(0) ** 2,
        per_type_energy_scales=dict(zip(names, scales.tolist(), strict=True)),
        per_type_energy_shifts=dict(zip(names, shifts.tolist(), strict=True)),
        per_type_energy_scales_trainable=header.train_shift_scale,
        per_type_energy_shifts_trainable=header.train_shift_scale,
        dtype=dtype,
    )


def _weights(source: _Source, config: NequIPConfig) -> dict[str, Tensor]:
    model, header = build(config), source.header
    types = Irreps([(len(config.type_names), EVEN)])
    shapes = header.shapes()
    embedding = source.linear(
        "onehot_to_feature_x", types, shapes[0].irreps_in, modal=header.use_modal_node_embedding
    )
    weights = {"type_embedding": embedding.matrices[EVEN] / sqrt(types.dim) + embedding.bias}
    roots = source.state.get("edge_embedding.basis_function.coeffs")
    weights["bessel.roots"] = model.bessel.roots.detach() if roots is None else roots * (header.cutoff / pi)
    for index, (shape, layer) in enumerate(zip(shapes, model.layers, strict=True)):
        assert isinstance(layer, InteractionLayer)
        own = _layer_weights(source, index, shape, layer)
        weights |= {f"layers.{index}.{key}": value for key, value in own.items()}
    readout, _ = source.readout()
    weights |= {f"readout.weights.{number}": weight for number, weight in enumerate(readout)}
    # the configuration has them, with the readout's constant
    return weights | {f"scale_shift.{k}": value for k, value in model.scale_shift.state_dict().items()}


def _layer_weights(source: _Source, index: int, shape: Shape, layer: InteractionLayer) -> dict[str, Tensor]:
    header, before_gate = source.header, layer.gate.irreps_in
    into = source.linear(
        f"{index}_self_interaction_1",
        shape.irreps_in,
        shape.irreps_in,
        modal=header.use_modal_self_inter_intro,
    )
    out = source.linear(
        f"{index}_self_interaction_2",
        shape.product.irreps_out,
        before_gate,
        modal=header.use_modal_self_inter_outro,
    )
    # sums are divided by one number of the first layer's, here and there
    ratio = source.denominator(0) / source.denominator(index)
    weights = {f"linear_in.weights.{irrep}": matrix for irrep, matrix in into.matrices.items()}
    weights |= {f"linear_out.weights.{irrep}": matrix * ratio for irrep, matrix in out.matrices.items()}
    if layer.linear_in.bias is not None:
        weights |= {"linear_in.bias": into.bias, "linear_out.bias": out.bias}
    for irrep, matrix in _connection(source, index, shape, before_gate).items():
        weights[f"self_connection.weights.{irrep}"] = matrix
    for number, matrix in enumerate(_radial_network(source, index, shape, layer)):
        weights[f"radial.weights.{number}"] = matrix
    return weights


def _connection(
    source: _Source, index: int, shape: Shape, before_gate: Irreps
) -> Mapping[Irrep, Float[Tensor, "... fan_in fan_out"]]:
    part = f"{index}_self_connection_intro"
    if source.header.connection(index) == "shared":
        return source.linear(part, shape.irreps_in, before_gate).matrices
    types = len(source.header.type_names)
    sizes = {
        irrep: (mul, types, before_gate.mul(irrep)) for mul, irrep in shape.irreps_in if irrep in before_gate
    }
    flat = take_flat(source.state, f"{part}.fc_tensor_product.weight", sum(map(prod, sizes.values())))
    parts = flat.split([prod(size) for size in sizes.values()])
    return {
        irrep: part.reshape(size).transpose(0, 1)
        for part, (irrep, size) in zip(parts, sizes.items(), strict=True)
    }


def _radial_network(source: _Source, index: int, shape: Shape, layer: InteractionLayer) -> list[Tensor]:
    header, product = source.header, shape.product
    widths = [header.radial_basis.bessel_basis_num, *header.weight_nn_hidden_neurons, product.num_weights]
    network = source.network(f"{index}_convolution.weight_nn", widths, header.act_radial)

    def sign(path: Path) -> float:
        left, right = product.irreps_in.terms[path.block_in][1], product.irreps_sh.terms[path.block_sh][1]
        return source.sign(index, (left.l, right.l, path.irrep_out.l))

    paths = sorted_paths(product) if header.columns_sorted else product.paths
    return [*network[:-1], columns_of(paths, product, layer.spec, network[-1], sign)]
