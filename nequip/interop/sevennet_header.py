"""What the configuration of a SevenNet checkpoint says of the shape of the model."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from ase.data import chemical_symbols
from pydantic import BaseModel, Field, field_validator

from nequip.errors import did_you_mean
from nequip.interop.published_maps import parse_irreps, refuse
from nequip.kernels.tensor_product import TensorProductSpec
from nequip.nn.convolution import SelfConnection
from nequip.nn.mlp import Nonlinearity
from nequip.o3 import Irrep, Irreps

EVEN = Irrep(0, 1)
# Theirs -> ours, and 1/√⟨f(z)²⟩ by a million draws, which follows the activation.
ACTIVATIONS: dict[str, tuple[Nonlinearity, float]] = {
    "silu": ("silu", 1.6791767923989418),
    "ssp": ("shifted_softplus", 1.878204668541552),
    "relu": ("relu", 1.4163393446331365),
    "elu": ("elu", 1.2467863885570512),
    "tanh": ("tanh", 1.5937334472592695),
    "sigmoid": ("sigmoid", 1.8467055342154763),
    "abs": ("abs", 1.001110600838467),
}
ActivationName = Literal["silu", "ssp", "relu", "elu", "tanh", "sigmoid", "abs"]
_CONNECTIONS: dict[str, SelfConnection] = {"nequip": "element", "linear": "shared"}
_GATE = {"e": "silu", "o": "tanh"}


class RadialBasis(BaseModel, frozen=True, extra="forbid"):
    """Functions of length."""

    radial_basis_name: Literal["bessel"] = "bessel"
    bessel_basis_num: int = Field(8, ge=1)
    trainable_coeff: bool = True


class CutoffFunction(BaseModel, frozen=True):
    """How edges go to zero."""

    cutoff_function_name: Literal["poly_cut", "XPLOR"] = "poly_cut"
    poly_cut_p_value: int = 6
    cutoff_on: float | None = None

    @property
    def onset(self) -> float | None:
        """Å, of the switching function."""
        return self.cutoff_on if self.cutoff_function_name == "XPLOR" else None


class Shape(NamedTuple):
    """The irreps of one layer, and all paths of its convolution: those that lead nowhere too."""

    irreps_in: Irreps
    product: TensorProductSpec
    irreps_out: Irreps


class Header(BaseModel, frozen=True):
    """Their configuration, with their defaults."""

    version: str
    type_map: dict[int, int] = Field(alias="_type_map", min_length=1)  # atomic number -> place
    cutoff: float = Field(gt=0)
    channel: int = Field(ge=1)
    lmax: int = Field(ge=0)
    lmax_edge: int = -1  # lmax where it is not positive, as the next
    lmax_node: int = -1
    is_parity: bool = True
    irreps_manual: list[str] | Literal[False] = False
    num_convolution_layer: int = Field(ge=1)
    radial_basis: RadialBasis = RadialBasis(bessel_basis_num=8)
    cutoff_function: CutoffFunction = CutoffFunction()
    weight_nn_hidden_neurons: list[int] = [64, 64]
    act_radial: ActivationName = "silu"
    act_scalar: dict[str, str] = _GATE
    act_gate: dict[str, str] = _GATE
    self_connection_type: str | list[str] = "nequip"
    interaction_type: Literal["nequip"] = "nequip"
    use_bias_in_linear: bool = False
    train_shift_scale: bool = False
    readout_as_fcn: bool = False
    readout_fcn_hidden_neurons: list[int] | None = None
    readout_fcn_activation: ActivationName | None = None
    normalize_sph: bool | None = Field(None, alias="_normalize_sph")
    use_modality: bool = False
    use_modal_node_embedding: bool = False
    use_modal_self_inter_intro: bool = False
    use_modal_self_inter_outro: bool = False
    use_modal_output_block: bool = False
    modal_map: dict[str, int] | None = Field(None, alias="_modal_map")
    default_modal: str | None = None
    optimize_by_reduce: bool = True

    @field_validator("optimize_by_reduce")
    @classmethod
    def _sums_over_edges(cls, value: bool) -> bool:
        if not value:
            raise ValueError("models that were built without it compute something else")
        return value

    @field_validator("version")
    @classmethod
    def _numbered(cls, text: str) -> str:
        if re.match(r"\d+\.\d+\.\d+", text) is None:
            raise ValueError(f"{text!r} is no version")
        return text

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version, to be compared; the first development version comes before its release."""
        major, minor, patch = re.split(r"\D+", self.version)[:3]
        return int(major), int(minor), int(patch), -1 if self.version.endswith(".dev0") else 0

    @property
    def solid(self) -> bool:
        """Whether harmonics carry r^l: where nothing is said, they did up to 0.9."""
        return self.numbers < (0, 10) if self.normalize_sph is None else not self.normalize_sph

    @property
    def columns_sorted(self) -> bool:
        """Whether columns of radial networks are in the order of outputs; before 0.11 in that of inputs."""
        return self.numbers >= (0, 11, 0, 0)

    @property
    def type_names(self) -> tuple[str, ...]:
        """Chemical symbols in the order of the weights."""
        numbers = sorted(self.type_map, key=lambda number: self.type_map[number])
        if sorted(self.type_map.values()) != list(range(len(numbers))) or max(numbers) >= len(
            chemical_symbols
        ):
            refuse("_type_map is no numbering of elements")
        return tuple(chemical_symbols[number] for number in numbers)

    @property
    def parity(self) -> Literal[True, "ignored"]:
        """In our words; which parities there are is told by the irreps."""
        return True if self.is_parity else "ignored"

    @property
    def irreps_sh(self) -> Irreps:
        """Of spherical harmonics."""
        highest = self.lmax_edge if self.lmax_edge > 0 else self.lmax
        odd = -1 if self.is_parity else 1
        return Irreps((1, Irrep(degree, odd**degree)) for degree in range(highest + 1))

    @property
    def modalities(self) -> list[str]:
        """Their names in the order of the weights; none where the model has but one."""
        places = (self.modal_map or {}) if self.use_modality else {}
        return sorted(places, key=lambda name: places[name])

    def modality(self, chosen: str | None) -> int | None:
        """The place of the one that is chosen, or of the default; None where there are none.

        Raises:
            CheckpointError: for a name that there is not, or where none is given and none is the default.
        """
        names = self.modalities
        if not names and chosen is None:
            return None
        name = self.default_modal if chosen is None else chosen
        if name not in names:
            hint = "" if name is None else did_you_mean(name, names)
            refuse(f"head is {name!r}{hint}, but its modalities are {', '.join(names) or 'none'}")
        return names.index(name)

    def connection(self, index: int) -> SelfConnection:
        """What layer `index` adds of the atom itself, in our words."""
        kinds = self.self_connection_type
        kinds = [kinds] * self.num_convolution_layer if isinstance(kinds, str) else kinds
        if len(kinds) != self.num_convolution_layer or kinds[index] not in _CONNECTIONS:
            refuse(f"self_connection_type is {self.self_connection_type!r}")
        return _CONNECTIONS[kinds[index]]

    def shapes(self) -> list[Shape]:
        """Of every layer.

        Raises:
            CheckpointError: for irreps that we cannot take over.
        """
        given = self._given_irreps()
        irreps = Irreps([(self.channel, EVEN)]) if given is None else given[0]
        shapes: list[Shape] = []
        for index in range(self.num_convolution_layer):
            last = index == self.num_convolution_layer - 1
            kinds = sorted({k for _, a in irreps for _, b in self.irreps_sh for k in a.product(b)})
            kinds = [irrep for irrep in kinds if irrep.p == 1 or not last]
            if given is None:
                highest = 0 if last else self.lmax_node if self.lmax_node > 0 else self.lmax
                irreps_out = Irreps((self.channel, irrep) for irrep in kinds if irrep.l <= highest)
            else:
                irreps_out = given[index + 1]
            kept = [irrep for irrep in kinds if irrep.l <= irreps_out.l_max]
            shapes.append(Shape(irreps, TensorProductSpec.full(irreps, self.irreps_sh, kept), irreps_out))
            irreps = irreps_out
        return shapes

    def _given_irreps(self) -> list[Irreps] | None:
        if self.irreps_manual is False:
            return None
        given = [parse_irreps(text, "irreps_manual") for text in self.irreps_manual]
        if len(given) != self.num_convolution_layer + 1:
            refuse(f"irreps_manual has {len(given)} entries for {self.num_convolution_layer} layers")
        if not all(EVEN in irreps for irreps in given) or len(given[0]) > 1 or len(given[-1]) > 1:
            refuse(f"irreps_manual is {self.irreps_manual}, but has to have 0e, first and last nothing else")
        return given

    def check_gates(self) -> None:
        """Raises CheckpointError for activations of scalars and gates that we do not have."""
        parities = "eo" if self.is_parity else "e"
        for key, given in (("act_scalar", self.act_scalar), ("act_gate", self.act_gate)):
            if any(given.get(parity) != _GATE[parity] for parity in parities):
                refuse(f"{key} is {given}, and not {_GATE}")

    @property
    def readout_hidden(self) -> list[int]:
        """Widths of the hidden layers of the readout."""
        if self.readout_as_fcn:
            return [30, 30] if self.readout_fcn_hidden_neurons is None else self.readout_fcn_hidden_neurons
        return [self.shapes()[-1].irreps_out.dim // 2]

    @property
    def readout_activation(self) -> ActivationName | None:
        """After each of them."""
        return (self.readout_fcn_activation or "relu") if self.readout_as_fcn else None

    @classmethod
    def names(cls) -> set[str]:
        """Those of their configuration that are read."""
        return {field.alias or name for name, field in cls.model_fields.items()}
