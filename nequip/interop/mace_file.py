"""A whole MACE as mace-torch saves it (`.model`): its configuration, from its structure, and its weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nequip.errors import CheckpointError
from nequip.interop.archives.modules import attributes, class_name, find, state_dict, submodules, walk
from nequip.interop.archives.pickled import Global, Record
from nequip.interop.archives.torch_file import read_program_values

MODELS = ("MACE", "ScaleShiftMACE")
_INTERACTIONS = {
    "RealAgnosticInteractionBlock",
    "RealAgnosticResidualInteractionBlock",
    "RealAgnosticDensityInteractionBlock",
    "RealAgnosticDensityResidualInteractionBlock",
}
_BASES = {"BesselBasis": "bessel", "ChebychevBasis": "chebyshev", "GaussianBasis": "gaussian"}
_TRANSFORMS = {"AgnesiTransform": "Agnesi", "SoftTransform": "Soft"}
_BLOCKS = {
    *MODELS,
    *_INTERACTIONS,
    *_BASES,
    *_TRANSFORMS,
    *("LinearNodeEmbeddingBlock", "RadialEmbeddingBlock", "PolynomialCutoff", "ZBLBasis"),
    *("AtomicEnergiesBlock", "reshape_irreps", "EquivariantProductBasisBlock", "SymmetricContraction"),
    *("Contraction", "LinearReadoutBlock", "NonLinearReadoutBlock", "ScaleShiftBlock"),
}
# Options of the model that change its formula, with the value that ours has.
_FIXED: dict[str, Any] = {
    "apply_cutoff": True,
    "use_so3": False,
    "use_agnostic_product": False,
    "use_last_readout_only": False,
    "use_edge_irreps_first": False,
}


def is_mace(tree: Any) -> bool:
    """Whether a saved object is a model of mace-torch."""
    return isinstance(tree, Record) and tree.maker.startswith("mace.")


def read_mace(model: Record) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The configuration, with `architecture`, and the state dict.

    Raises:
        CheckpointError: naming a block or an option that we do not have.
    """
    _check_blocks(model)
    tensors = state_dict(model)
    layers = list(submodules(_part(model, "interactions")).values())
    readout = list(submodules(_part(model, "readouts")).values())[-1]
    heads = [str(name) for name in attributes(model).get("heads") or ["Default"]]
    radial = submodules(_part(model, "radial_embedding"))
    neighbors = {float(attributes(layer)["avg_num_neighbors"]) for layer in layers}
    if len(neighbors) != 1:
        raise CheckpointError("its layers divide by different numbers of neighbors, which ours do not")
    config: dict[str, Any] = {
        "architecture": "mace",
        "class": class_name(model),
        "model_dtype": str(tensors["node_embedding.linear.weight"].dtype).removeprefix("torch."),
        "r_max": float(tensors["r_max"]),
        "atomic_numbers": tensors["atomic_numbers"].tolist(),
        "num_interactions": len(layers),
        "first": class_name(layers[0]),
        "rest": class_name(layers[-1]),
        "hidden_irreps": _irreps(attributes(layers[0])["hidden_irreps"]),
        "max_ell": _largest_degree(attributes(layers[0])["edge_attrs_irreps"]),
        "avg_num_neighbors": neighbors.pop(),
        "correlation": [_correlation(tensors, index) for index in range(len(layers))],
        "num_bessel": tensors["interactions.0.conv_tp_weights.layer0.weight"].shape[0],
        "radial_mlp": _widths(tensors),
        "radial_type": _BASES[class_name(radial["bessel_fn"])],
        "num_polynomial_cutoff": int(tensors["radial_embedding.cutoff_fn.p"]),
        "pair_repulsion": "pair_repulsion_fn.c" in tensors,
        **_readout(readout, len(heads)),
    }
    if "distance_transform" in radial:
        config["distance_transform"] = _TRANSFORMS[class_name(radial["distance_transform"])]
    if "scale_shift.scale" in tensors:
        config |= {key: tensors[f"scale_shift.{key}"].tolist() for key in ("scale", "shift")}
    if len(heads) > 1:
        config["heads"] = heads
    return config, _arrays(tensors | _coupling_coefficients(layers))


def _part(model: Record, path: str) -> Record:
    found = find(model, path)
    if found is None:
        raise CheckpointError(f"it is a {class_name(model)} without {path}")
    return found


def _check_blocks(model: Record) -> None:
    """Every block is one that we have, and no option changes what it does."""
    if class_name(model) not in MODELS:
        raise CheckpointError(
            f"it is a {class_name(model)} of mace-torch, which we do not have: there are {', '.join(MODELS)}"
        )
    for path, module in walk(model):
        name = class_name(module)
        if module.maker.startswith("mace.") and name not in _BLOCKS:
            raise CheckpointError(f"its {path.rstrip('.')} is a {name}, a block that we do not have")
        if attributes(module).get("cueq_config") is not None:
            raise CheckpointError(
                "its weights are laid out for cuEquivariance: convert it with mace_cueq_to_e3nn of mace-torch"
            )
    options = attributes(model)
    for key, value in _FIXED.items():
        if options.get(key, value) != value:
            raise CheckpointError(f"it was not made with {key}={value}, which is all that we have")
    if options.get("edge_irreps") is not None:
        raise CheckpointError("it was made with edge_irreps, which we do not have")


def _irreps(given: Any) -> str:
    """Irreps as text, from text or from nested tuples of numbers."""
    if isinstance(given, str):
        return given.replace(" ", "")
    return "+".join(f"{mul}x{degree}{'e' if parity == 1 else 'o'}" for mul, degree, parity in _terms(given))


def _terms(given: Record) -> list[tuple[int, int, int]]:
    terms: list[tuple[int, int, int]] = []
    for entry in _values(given):
        mul, irrep = _values(entry)
        degree, parity = _values(irrep)
        terms.append((int(mul), int(degree), int(parity)))
    return terms


def _values(record: Record) -> tuple[Any, ...]:
    """Of a class that is a tuple, which is made from the tuple of its values."""
    (values,) = record.args
    return values


def _largest_degree(harmonics: Record) -> int:
    terms = _terms(harmonics)
    if any(parity != (-1) ** degree for _, degree, parity in terms):
        raise CheckpointError("its spherical harmonics have no parity (use_so3), which we do not have")
    return max(degree for _, degree, _ in terms)


def _correlation(tensors: dict[str, torch.Tensor], index: int) -> int:
    prefix = f"products.{index}.symmetric_contractions.contractions.0.U_matrix_"
    return max(int(key.removeprefix(prefix)) for key in tensors if key.startswith(prefix))


def _widths(tensors: dict[str, torch.Tensor]) -> list[int]:
    """Hidden layers of the radial network."""
    prefix = "interactions.0.conv_tp_weights.layer"
    layers = [value for key, value in tensors.items() if key.startswith(prefix) and key.endswith(".weight")]
    return [weight.shape[1] for weight in layers[:-1]]


def _readout(readout: Record, num_heads: int) -> dict[str, Any]:
    """Width and gate of the last readout; a model of one layer has a linear one alone."""
    if class_name(readout) != "NonLinearReadoutBlock":
        return {}
    ((width, _, _),) = _terms(attributes(readout)["hidden_irreps"])
    gate = find(readout, "non_linearity.acts.0")
    return {
        "MLP_irreps": f"{width // num_heads}x0e",
        "gate": None if gate is None else _function_name(attributes(gate)["f"]),
    }


def _function_name(function: Any) -> str:
    """Of a function that was pickled by name, or as an attribute of torch's functions."""
    if isinstance(function, Record) and function.maker.rpartition(".")[2] == "getattr":
        return str(function.args[1])
    if isinstance(function, Global):
        return function.name.rpartition(".")[2]
    raise CheckpointError("the gate of its readout is a function without a name")


def _coupling_coefficients(layers: list[Record]) -> dict[str, torch.Tensor]:
    """Those of the convolutions, whose signs differ between versions of e3nn, by their names in a state dict.

    They lie in the compiled programs within the file, of which nothing else is read.

    Raises:
        CheckpointError: where a convolution of vectors has none.
    """
    found: dict[str, torch.Tensor] = {}
    for index, layer in enumerate(layers):
        product = _part(layer, "conv_tp")
        programs = attributes(product).get("__codegen__")
        for name, content in (programs if isinstance(programs, dict) else {}).items():
            if isinstance(content, bytes):
                values = read_program_values(content)
                prefix = f"interactions.{index}.conv_tp.{name}."
                found |= {f"{prefix}{key}": value for key, value in values.items() if key.startswith("_w3j_")}
        vectors = any(degree > 0 for _, degree, _ in _terms(attributes(product)["irreps_in1"]))
        if vectors and not any(key.startswith(f"interactions.{index}.") for key in found):
            raise CheckpointError(
                f"its interactions.{index}.conv_tp has no coupling coefficients: save it with e3nn 0.4.4"
            )
    return found


def _arrays(tensors: dict[str, torch.Tensor]) -> dict[str, NDArray[np.generic]]:
    """What holds numbers of the model, and not where the outputs of an operator lie."""
    return {
        key: value.numpy()
        for key, value in tensors.items()
        if value.numel() and not key.endswith("output_mask")
    }
