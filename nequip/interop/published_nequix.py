"""Nequix weights: a file of a JSON line and raw arrays, its configuration and arrays -> ours.

Koker et al., arXiv:2508.16067. Types are one-hot features of the first layer, and a norm stands before
each gate.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from ase.data import chemical_symbols
from numpy.typing import NDArray
from pydantic import BaseModel, Field, field_validator

from nequip.errors import CheckpointError
from nequip.interop.published import Conversion, take
from nequip.interop.published_maps import (
    columns_of,
    parse_irreps,
    refuse,
    rescaled_network,
    silu_ratio,
    sorted_paths,
    validated,
)
from nequip.kernels.tensor_product import TensorProductSpec
from nequip.model.card import DtypeName
from nequip.model.nequip import NequIPConfig, build
from nequip.nn.convolution import InteractionLayer
from nequip.o3 import Irrep, Irreps

EVEN = Irrep(0, 1)
# 1/√⟨silu(z)²⟩ for z ~ N(0, 1), at a million quantiles and summed in float32, as the weights were trained.
SILU_GAIN = 1.6765647888183594
LONGEST_HEADER = 10_000_000  # bytes


class _Header(BaseModel, frozen=True):
    """What shapes the model; what else is there tells of training."""

    atomic_numbers: list[int] = Field(min_length=1)
    cutoff: float = Field(gt=0)
    hidden_irreps: str
    lmax: int = Field(ge=0)
    n_layers: int = Field(ge=1)
    radial_basis_size: int = Field(ge=1)
    radial_mlp_size: int = Field(ge=1)
    radial_mlp_layers: int = Field(ge=0)
    radial_polynomial_p: int = Field(ge=2)
    index_weights: bool
    layer_norm: bool
    scale: float
    shift: float
    avg_n_neighbors: float = Field(gt=0)

    @field_validator("atomic_numbers")
    @classmethod
    def _elements(cls, numbers: list[int]) -> list[int]:
        if not set(numbers) <= set(range(1, len(chemical_symbols))) or len(set(numbers)) < len(numbers):
            raise ValueError("these are no elements, each of them once")
        return numbers

    @property
    def irreps(self) -> Irreps:
        """Between layers, in their order: by l, the parity (-1)^l first."""
        irreps = Irreps(sorted(parse_irreps(self.hidden_irreps, "hidden_irreps"), key=lambda t: _order(t[1])))
        if EVEN not in irreps or Irrep(0, -1) in irreps:
            refuse(f"hidden_irreps is {self.hidden_irreps!r}, but has to have 0e and not 0o")
        return irreps

    @property
    def type_names(self) -> tuple[str, ...]:
        """Chemical symbols in the order of the weights."""
        return tuple(chemical_symbols[number] for number in self.atomic_numbers)


def _order(irrep: Irrep) -> tuple[int, int]:
    return irrep.l, -irrep.p * (-1) ** irrep.l


class _Layer(NamedTuple):
    """The irreps that meet in one of their layers."""

    irreps_in: Irreps
    product: TensorProductSpec
    before_gate: Irreps


def _layers(header: _Header) -> Iterator[_Layer]:
    irreps_in = Irreps([(len(header.atomic_numbers), EVEN)])
    harmonics = Irreps((1, Irrep(degree, (-1) ** degree)) for degree in range(header.lmax + 1))
    for index in range(header.n_layers):
        last = index == header.n_layers - 1
        irreps_out = Irreps([(header.irreps.mul(EVEN), EVEN)]) if last else header.irreps
        gates = sum(mul for mul, irrep in irreps_out if irrep != EVEN)
        before_gate = Irreps((mul + gates if irrep == EVEN else mul, irrep) for mul, irrep in irreps_out)
        product = TensorProductSpec.full(irreps_in, harmonics, irreps_out)
        if not all(irrep in product.irreps_out for _, irrep in irreps_out):
            refuse(f"hidden_irreps is {header.hidden_irreps!r}, which layer {index} does not reach")
        yield _Layer(irreps_in, product, before_gate)
        irreps_in = irreps_out


def _arrays(header: _Header) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes in the order of the file."""
    types = len(header.atomic_numbers)
    yield "atom_energies", (types,)
    for index, layer in enumerate(_layers(header)):
        where = f"layers.{index}"
        widths = [header.radial_basis_size, *[header.radial_mlp_size] * header.radial_mlp_layers]
        for number, shape in enumerate(zip(widths, [*widths[1:], layer.product.num_weights], strict=True)):
            yield f"{where}.radial_mlp.{number}", shape
        yield from _matrices(f"{where}.linear_1", layer.irreps_in, layer.irreps_in)
        yield from _matrices(f"{where}.linear_2", layer.product.irreps_out, layer.before_gate)
        for name, shape in _matrices(f"{where}.skip", layer.irreps_in, layer.before_gate):
            yield name, (types, *shape) if header.index_weights else shape
        if header.layer_norm:
            for mul, irrep in layer.before_gate:
                yield f"{where}.layer_norm.{irrep}", (mul,)
    yield "readout", (header.irreps.mul(EVEN), 1)


def _matrices(name: str, left: Irreps, right: Irreps) -> Iterator[tuple[str, tuple[int, int]]]:
    """One for each irrep that both sides have, by the names they are given: numbers sorted as text."""
    ordered = sorted(left, key=lambda term: _order(term[1]))
    for _, mul, irrep in sorted((str(number), *term) for number, term in enumerate(ordered)):
        if irrep in right:
            yield f"{name}.{irrep}", (mul, right.mul(irrep))


def read_nequix(path: str | Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Configuration and arrays of an .nqx file, each array under the name of its part.

    Raises:
        CheckpointError: for a file of another kind, of other arrays than its first line tells, or cut short.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            config = _read_config(file)
            state = {name: _read_array(file, name, shape) for name, shape in _arrays(_header(config))}
            if file.read(2) not in (b"", b"\n"):
                raise CheckpointError("it goes on after its last array")
    except (OSError, CheckpointError) as error:
        problem = error.strerror if isinstance(error, OSError) else str(error).rstrip(".")
        raise CheckpointError(f"{path} cannot be read as a Nequix file: {problem}.") from error
    return {"architecture": "nequix", **config}, state


def _read_config(file: BinaryIO) -> dict[str, Any]:
    line = file.readline(LONGEST_HEADER)
    try:
        config = json.loads(line) if line.startswith(b"{") else None
    except (RecursionError, ValueError):
        config = None
    if not isinstance(config, dict):
        raise CheckpointError("its first line is no JSON object")
    return config


def _read_array(file: BinaryIO, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """The next array, which has to have that shape: nothing is read for any other."""
    try:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"its array {name} is of format {version}")
        found, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    except ValueError as error:
        raise CheckpointError(f"its array {name} is missing or cut short") from error
    if found != shape or dtype not in (np.dtype("<f4"), np.dtype("<f8")):
        raise CheckpointError(f"its array {name} is {found} of {dtype}, not {shape} of float32 or float64")
    content = file.read(prod(shape) * dtype.itemsize)
    if len(content) < prod(shape) * dtype.itemsize:
        raise CheckpointError(f"its array {name} is cut short")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def _header(config: Mapping[str, Any]) -> _Header:
    return validated(_Header, config, "Nequix")


def convert(
    config: Mapping[str, Any], state: Mapping[str, NDArray[np.floating[Any]]], dtype: DtypeName
) -> Conversion:
    """Our configuration and weights for what `read_nequix` gives.

    Raises:
        CheckpointError: for an option that we do not have, or weights that are missing.
    """
    header = _header(config)
    tensors = {name: torch.tensor(np.asarray(value), dtype=torch.float64) for name, value in state.items()}
    tensors = {name: take(tensors, name, shape) for name, shape in _arrays(header)}
    ours = _config(header, tensors, dtype)
    return Conversion(ours, _weights(header, tensors, ours))


def _config(header: _Header, tensors: Mapping[str, torch.Tensor], dtype: DtypeName) -> NequIPConfig:
    names = header.type_names
    shifts = (tensors["atom_energies"] + header.shift).tolist()
    kind = "element" if header.index_weights else "shared"
    scalars = f"{header.irreps.mul(EVEN)}x0e"
    return NequIPConfig(
        type_names=names,
        r_max=header.cutoff,
        num_layers=header.n_layers,
        l_max=header.lmax,
        hidden_irreps=(*[str(header.irreps)] * (header.n_layers - 1), scalars),
        type_embed_num_features=len(names),
        radial_mlp_depth=header.radial_mlp_layers,
        radial_mlp_width=header.radial_mlp_size,
        num_bessels=header.radial_basis_size,
        polynomial_cutoff_p=header.radial_polynomial_p,
        self_connection=(kind,) * header.n_layers,
        rms_norm=header.layer_norm,
        avg_num_neighbors=header.avg_n_neighbors,
        per_type_energy_scales=header.scale,
        per_type_energy_shifts=dict(zip(names, shifts, strict=True)),
        dtype=dtype,
    )


def _weights(
    header: _Header, theirs: Mapping[str, torch.Tensor], config: NequIPConfig
) -> dict[str, torch.Tensor]:
    model = build(config)
    types = len(config.type_names)
    weights = {"type_embedding": torch.eye(types, dtype=torch.float64)}
    weights["bessel.roots"] = model.bessel.roots
    for index, (layer, own) in enumerate(zip(_layers(header), model.layers, strict=True)):
        assert isinstance(own, InteractionLayer)
        name, ours = f"layers.{index}", f"layers.{index}"
        # features after a gate are larger than ours by this
        ratio = silu_ratio(SILU_GAIN) if index > 0 else 1.0
        for part, their_part, factor in (
            ("linear_in", "linear_1", ratio),
            ("linear_out", "linear_2", 1.0),
            ("self_connection", "skip", ratio * (types**0.5 if header.index_weights else 1.0)),
        ):
            for irrep in getattr(own, part).weights:
                weights[f"{ours}.{part}.weights.{irrep}"] = theirs[f"{name}.{their_part}.{irrep}"] * factor
        network = [theirs[f"{name}.radial_mlp.{n}"] for n in range(header.radial_mlp_layers + 1)]
        network[-1] = columns_of(sorted_paths(layer.product, _order), layer.product, own.spec, network[-1])
        for number, weight in enumerate(rescaled_network(network, 1.0, divided=False)):
            weights[f"{ours}.radial.weights.{number}"] = weight
        for _, irrep in layer.before_gate if header.layer_norm else ():
            weights[f"{ours}.rms_norm.weights.{irrep}"] = theirs[f"{name}.layer_norm.{irrep}"]
    weights["readout.weights.0"] = theirs["readout"] * silu_ratio(SILU_GAIN)
    weights |= {f"scale_shift.{key}": value for key, value in model.scale_shift.state_dict().items()}
    return weights
