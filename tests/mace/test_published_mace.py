"""Same weights, same numbers: golden outputs of mace-torch.

Beside those of shared/golden there are some of single options, written in the same way by mace-torch 0.3.16
from random weights (those of the products three times as large as it draws them), for three elements:
mace_three_layers: RealAgnosticResidual blocks alone, 4x0e+4x1o+4x2e, max_ell 2, correlation [1, 2, 3],
radial_MLP [16, 16];
mace_one_layer: one RealAgnosticDensityResidual block, 8x0e, three heads;
mace_correlation_4: 4x0e+4x1o, max_ell 1, correlation 4;
mace_gaussian: 12 Gaussians of the Soft transform, radial_MLP [16, 24], 4x0e;
mace_soft_zbl: Soft, pair_repulsion, gate tanh, MLP_irreps 7x0e, 4x0e, correlation 2;
mace_plain_heads: class MACE, no gate, two heads (the second is called Default), 4x0e+4x1o, correlation 2.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_files import STRUCTURES, Golden, golden_files

from nequip.data.frame import Frame
from nequip.data.graph import collate
from nequip.data.neighbors import TypeMapper, build_graph
from nequip.errors import CheckpointError
from nequip.interop import from_published

FILES = {path.stem.removeprefix("mace_"): path for path in golden_files("mace")}


def golden(name: str, head: str | None = None) -> Golden:
    loaded = Golden(FILES[name])
    if head is not None:
        loaded.config["head"] = head
    return loaded


def heads(name: str) -> list[str | None]:
    config = json.loads(str(np.load(FILES[name])["config"]))
    return config.get("heads", [None])


each_head = pytest.mark.parametrize(
    ("name", "head"), [(name, head) for name in FILES for head in heads(name)]
)
each_backend = pytest.mark.parametrize("backend", ["reference", "cpu"])


@each_head
@pytest.mark.parametrize("structure", STRUCTURES)
def test_float64_agrees_to_1e_10(name, head, structure):
    file = golden(name, head)
    file.check_float64(file.predict(structure, "float64", "reference"), structure)


@each_head
def test_float64_in_c_agrees_to_1e_10(name, head):
    file = golden(name, head)
    file.check_float64(file.predict("triclinic", "float64", "cpu"), "triclinic")


@each_backend
@each_head
def test_float32_agrees_to_5e_5_relative(name, head, backend):
    file = golden(name, head)
    file.check_float32(file.predict("triclinic", "float32", backend), "triclinic")


@pytest.mark.parametrize("name", ["l2_residual", "density_zbl", "soft_zbl", "gaussian"])
def test_tables_of_radial_networks_agree_in_float32(name):
    file = golden(name, heads(name)[0])
    file.check_float32(file.predict("triclinic", "float32", tables=True), "triclinic")


def test_the_published_model_of_ani_agrees(data_dir):
    file = Golden(Path(data_dir).parent / "pretrained" / "ani500k_small_cc.npz")
    for structure in ("ethanol", "water"):
        predicted = file.predict(structure, "float64")
        for name, theirs in (("energy", "total_energy"), ("forces", "forces")):
            want = torch.from_numpy(file.arrays[f"out/{structure}/{theirs}"])
            got = getattr(predicted, name).reshape(want.shape)
            torch.testing.assert_close(got, want, atol=1e-10, rtol=0)


def test_every_head_is_there_and_a_graph_says_which():
    potential = from_published(
        golden("two_heads").config | {"head": "cc"}, golden("two_heads").state, "float64"
    )
    assert potential.heads == ("cc", "dft")
    arrays = golden("two_heads").arrays
    frame = Frame(arrays["struct/ethanol/numbers"], arrays["struct/ethanol/positions"])
    graph = build_graph(frame, TypeMapper(potential.card.type_names), potential.cutoffs)
    both = potential(collate([graph, graph._replace(head=torch.ones_like(graph.head))]))
    want = [float(arrays[f"out/ethanol/{head}/total_energy"]) for head in potential.heads]
    assert both.energy.tolist() == pytest.approx(want, abs=1e-10)


@pytest.mark.parametrize(("name", "first"), [("plain_heads", "Default"), ("two_heads", "dft")])
def test_without_a_choice_the_head_is_the_default_one_or_the_first(name, first):
    assert from_published(golden(name).config, golden(name).state).heads[0] == first


@pytest.mark.parametrize(
    "key",
    [
        "interactions.1.skip_tp.weight",
        "products.0.symmetric_contractions.contractions.0.weights.1",
        "products.0.symmetric_contractions.contractions.0.U_matrix_3",
        "readouts.1.linear_2.weight",
        "radial_embedding.bessel_fn.bessel_weights",
        "interactions.0.density_fn.layer0.weight",
        "atomic_energies_fn.atomic_energies",
        "atomic_numbers",
    ],
)
def test_a_missing_weight_is_named(key):
    file = golden("density_zbl")
    del file.state[key]
    with pytest.raises(CheckpointError, match=key.replace(".", r"\.")):
        from_published(file.config, file.state)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (
            {"first": "RealAgnosticAttResidualInteractionBlock"},
            "first 'RealAgnosticAttResidualInteractionBlock'",
        ),
        ({"rest": "RealAgnosticResidualNonLinearInteractionBlock"}, "did you mean 'RealAgnosticResidual"),
        ({"class": "AtomicDipolesMACE"}, "class 'AtomicDipolesMACE'"),
        ({"radial_type": "spline"}, "radial_type 'spline'"),
        ({"distance_transform": "Tanh"}, "distance_transform 'Tanh'"),
        ({"gate": "relu"}, "gate 'relu'"),
        ({"apply_cutoff": False}, "apply_cutoff=False"),
        ({"edge_irreps": "64x0e"}, "edge_irreps='64x0e'"),
        ({"num_besel": 8}, r"num_besel .*did you mean 'num_bessel'"),
        ({"MLP_irreps": "16x0e+16x1o"}, r"MLP_irreps 16x0e\+16x1o"),
        ({"correlation": 5}, "correlation is 5"),
        ({"hidden_irreps": "8x0e+4x1o"}, r"hidden_irreps '8x0e\+4x1o'"),
        ({"r_max": 6.0}, "r_max 4.5 Å, but the configuration 6 Å"),
        ({"max_ell": 2}, "U_matrix|linear.weight"),
        ({"head": "pbe"}, "no head 'pbe'"),
    ],
)
def test_an_option_that_we_lack_is_named(changes, named):
    file = golden("density_zbl")
    with pytest.raises(CheckpointError, match=named):
        from_published(file.config | changes, file.state)


@pytest.mark.parametrize("key", ["first", "rest", "max_ell", "hidden_irreps", "correlation"])
def test_a_missing_option_is_named(key):
    file = golden("invariant")
    del file.config[key]
    with pytest.raises(CheckpointError, match=f"no '{key}'"):
        from_published(file.config, file.state)


def test_neighbors_must_be_given_where_sums_are_divided_by_them():
    invariant, density = golden("invariant"), golden("density_zbl")
    del invariant.config["avg_num_neighbors"], density.config["avg_num_neighbors"]
    with pytest.raises(CheckpointError, match="avg_num_neighbors"):
        from_published(invariant.config, invariant.state)
    density.check_float64(density.predict("dimer", "float64"), "dimer")


def test_trained_constants_of_a_transform_are_refused():
    file = golden("density_zbl")
    file.state["radial_embedding.distance_transform.a"] = np.array(1.1)
    with pytest.raises(CheckpointError, match=r"distance_transform\.a is 1\.1"):
        from_published(file.config, file.state)


def test_options_under_the_names_of_their_code_are_taken():
    file = golden("gaussian")
    config = file.config
    config["interaction_cls_first"], config["interaction_cls"] = config.pop("first"), config.pop("rest")
    config |= {"apply_cutoff": True, "edge_irreps": None, "use_reduced_cg": True}
    file.check_float64(file.predict("dimer", "float64"), "dimer")
