"""SevenNet's checkpoints: the numbers of the package that wrote them, and what is refused.

The files were written by sevenn 0.13.0 (e3nn 0.5.6) with random weights, their numbers computed in float64.
Rotations: even irreps alone, XPLOR's switch, shared self-connections. Modalities: two levels of theory,
biases, solid harmonics, shifted softplus. Network: both parities, a readout with hidden layers, l_max 1 of
harmonics and features where that of the model is 2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nequip.data.frame import Frame
from nequip.data.neighbors import TypeMapper, build_graph
from nequip.errors import CheckpointError, DataError
from nequip.interop import from_published
from nequip.interop.archives import read_torch_file
from nequip.interop.published_maps import sorted_paths
from nequip.interop.published_sevennet import read_sevennet
from nequip.interop.sevennet_header import Header
from nequip.model.potential import Potential
from nequip.nn.derivatives import Prediction

FILES = Path(__file__).parent / "files"
CASES = [
    ("sevennet_rotations", None),
    ("sevennet_modalities", "PBE"),
    ("sevennet_modalities", "SCAN"),
    ("sevennet_network", None),
]

Published = tuple[dict[str, Any], dict[str, Any]]


def published(name: str) -> Published:
    return read_sevennet(read_torch_file(FILES / f"{name}.pth"))


def predict(potential: Potential, numbers: list[int], positions: Any) -> Prediction:
    frame = Frame(np.asarray(numbers), np.asarray(positions, dtype=np.float64))
    return potential(build_graph(frame, TypeMapper(potential.card.type_names), potential.cutoffs))


def expected(name: str, head: str | None) -> dict[str, torch.Tensor]:
    arrays, suffix = np.load(FILES / f"{name}.npz"), f"/{head}" if head else ""
    return {key: torch.from_numpy(np.asarray(arrays[key + suffix])) for key in ("energy", "forces")} | {
        key: arrays[key] for key in ("numbers", "positions")
    }


def check(potential: Potential, name: str, head: str | None, tolerance: float) -> None:
    wanted = expected(name, head)
    prediction = predict(potential, wanted["numbers"], wanted["positions"])
    torch.testing.assert_close(prediction.energy[0], wanted["energy"], atol=0, rtol=tolerance)
    scale = float(wanted["forces"].abs().max())
    torch.testing.assert_close(prediction.forces, wanted["forces"], atol=tolerance * scale, rtol=0)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize(("name", "head"), CASES)
def test_float64_agrees_to_1e_12(name, head, backend):
    config, state = published(name)
    check(from_published({**config, "head": head}, state, "float64", backend), name, head, 1e-12)


@pytest.mark.parametrize("tables", [False, True])
@pytest.mark.parametrize(("name", "head"), CASES)
def test_float32_agrees_to_1e_5(name, head, tables):
    config, state = published(name)
    potential = from_published({**config, "head": head}, state, "float32", "cpu")
    if tables:
        assert potential.tabulate_radial() < 1e-8
    check(potential, name, head, 1e-5)


def test_the_default_modality_is_asked_where_none_is_named():
    config, state = published("sevennet_modalities")
    check(from_published(config, state, "float64"), "sevennet_modalities", "SCAN", 1e-12)


def test_an_unknown_modality_is_named():
    config, state = published("sevennet_modalities")
    with pytest.raises(CheckpointError, match=r"'PBD' \(did you mean 'PBE'\?\)"):
        from_published({**config, "head": "PBD"}, state)


def as_before_0_11(config: dict[str, Any], state: dict[str, Any]) -> Published:
    """Columns in the order of inputs, the coupling of 1 x 1 -> 1 of the other sign, and older names."""
    older = dict(state)
    for index, shape in enumerate(Header.model_validate(config).shapes()):
        product, last = shape.product, f"{index}_convolution.weight_nn.layer2.weight"
        paths = sorted_paths(product)
        ends = np.cumsum([product.channels(path) for path in paths])[:-1]
        blocks = dict(zip(paths, np.split(state[last], ends, axis=1), strict=True))
        coupling = f"{index}_convolution.convolution._compiled_main_left_right._w3j_1_1_1"
        if coupling in state:
            older[coupling] = -state[coupling]
        for path in paths:
            degrees = (product.irreps_in.terms[path.block_in][1].l, path.block_sh, path.irrep_out.l)
            if degrees == (1, 1, 1) and coupling in state:
                blocks[path] = -blocks[path]
        older[last] = np.concatenate([blocks[path] for path in product.paths], axis=1)
        older[f"{index} convolution.denumerator"] = older.pop(f"{index}_convolution.denominator")
    older["EdgeEmbedding.basis_function.coeffs"] = older.pop("edge_embedding.basis_function.coeffs")
    return {**config, "version": "0.9.4"}, older


def test_older_files_have_columns_couplings_and_names_of_their_own():
    config, state = as_before_0_11(*published("sevennet_rotations"))
    check(from_published(config, state, "float64"), "sevennet_rotations", None, 1e-12)


def test_up_to_0_9_harmonics_were_solid_where_nothing_is_said():
    config, _ = published("sevennet_network")
    del config["_normalize_sph"]
    solid = {v: Header.model_validate({**config, "version": v}).solid for v in ("0.9.5", "0.10.0")}
    assert solid == {"0.9.5": True, "0.10.0": False}


def test_atoms_far_apart_do_not_see_each_other():
    potential = from_published(*published("sevennet_rotations"), "float64")
    alone = predict(potential, [1], [[0, 0, 0]]).energy + predict(potential, [8], [[0, 0, 0]]).energy
    pair = predict(potential, [1, 8], [[0, 0, 0], [0, 0, 50]])
    torch.testing.assert_close(pair.energy, alone)
    assert pair.forces.abs().max() == 0


def test_an_element_outside_the_model_is_named_with_those_it_knows():
    potential = from_published(*published("sevennet_network"))
    with pytest.raises(DataError, match="Na, but the model knows only C, H, O"):
        predict(potential, [11], [[0, 0, 0]])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"act_gate": {"e": "ssp", "o": "tanh"}}, "act_gate"),
        ({"interaction_type": "mace"}, "interaction_type"),
        ({"self_connection_type": "none"}, "self_connection_type"),
        ({"irreps_manual": ["3x0e", "3x0e+2x1o"]}, "irreps_manual has 2 entries"),
        ({"irreps_manual": ["3x0e", "3x1q", "3x0e"]}, "3x1q"),
        ({"version": "new"}, "version"),
        ({"channel": 4}, "configuration asks for"),
        ({"_type_map": {1: 0, 6: 0, 8: 1}}, "_type_map"),
    ],
)
def test_what_we_cannot_take_over_is_named(change, named):
    config, state = published("sevennet_network")
    with pytest.raises(CheckpointError, match=named):
        from_published({**config, **change}, state)


def test_a_part_that_we_do_not_know_is_named():
    config, state = published("sevennet_network")
    with pytest.raises(CheckpointError, match=r"1_long_range\.weight"):
        from_published(config, {**state, "1_long_range.weight": np.ones(2)})


def test_a_coupling_of_another_basis_is_refused():
    config, state = published("sevennet_rotations")
    key = "1_convolution.convolution._compiled_main_left_right._w3j_1_1_2"
    with pytest.raises(CheckpointError, match="_w3j_1_1_2"):
        from_published(config, {**state, key: np.roll(state[key], 1, axis=0)})


@pytest.mark.parametrize("tree", [None, {}, {"config": {}, "model_state_dict": {}}, {"config": 3}])
def test_other_content_is_refused(tree):
    with pytest.raises(CheckpointError, match="no SevenNet model"):
        read_sevennet(tree)
