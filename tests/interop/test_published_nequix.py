"""Nequix's files: published numbers of four crystals, and what is refused.

The small file was written by nequix 0.4.5 with random weights: a matrix for each element in the place of
one for all, no norm, and irreps in an order of their own.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nequip.data.frame import Frame
from nequip.data.neighbors import TypeMapper, build_graph
from nequip.errors import CheckpointError
from nequip.interop import from_published
from nequip.interop.published_nequix import read_nequix
from nequip.model.potential import Potential

SMALL = Path(__file__).parent.parent / "golden" / "nequix_elements.nqx"
VOIGT = ((0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1))


def check(potential: Potential, reference: dict[str, np.ndarray]) -> None:
    """Energy, forces and stress agree to 1e-5 of the largest."""
    pbc = tuple(bool(x) for x in reference.get("pbc", np.ones(3)))
    frame = Frame(reference["numbers"], reference["positions"], reference["cell"], pbc)
    prediction = potential(build_graph(frame, TypeMapper(potential.card.type_names), potential.cutoffs))
    predicted = {
        "energy": prediction.energy[0].numpy(),
        "forces": prediction.forces.numpy(),
        "stress": prediction.stress[0].numpy()[VOIGT],
    }
    for name, value in predicted.items():
        wanted = reference[name]
        assert np.array_equal(np.isnan(value), np.isnan(wanted))
        assert np.nanmax(np.abs(value - wanted), initial=0) <= 1e-5 * np.nanmax(np.abs(wanted), initial=0), (
            name
        )


def structure(path: Path, prefix: str) -> dict[str, np.ndarray]:
    with np.load(path) as arrays:
        return {key.removeprefix(prefix): arrays[key] for key in arrays if key.startswith(prefix)}


@pytest.mark.parametrize(
    ("dtype", "backend", "tables"), [("float64", "reference", False), ("float32", "cpu", True)]
)
@pytest.mark.parametrize("model", ["nequix-mp-1", "nequix-mp-1-pft"])
def test_published_models_give_the_published_numbers(data_dir, model, dtype, backend, tables):
    folder = data_dir.parent / "pretrained"
    potential = from_published(*read_nequix(folder / f"{model}.nqx"), dtype, backend)
    if tables:
        potential.tabulate_radial()
    for crystal in ("NaCl", "Si8", "BaTiO3", "Cu"):
        check(potential, structure(folder / "nequix_reference.npz", f"{model}/{crystal}/"))


@pytest.mark.parametrize("name", ["molecule", "crystal"])
@pytest.mark.parametrize(("dtype", "backend"), [("float64", "reference"), ("float32", "cpu")])
def test_a_matrix_for_each_element(name, dtype, backend):
    potential = from_published(*read_nequix(SMALL), dtype, backend)
    check(potential, structure(SMALL.with_suffix(".npz"), f"{name}/"))


def test_the_card_has_elements_and_energies_of_atoms():
    config, state = read_nequix(SMALL)
    card = from_published(config, state).card
    assert card.type_names == ("H", "C", "O")
    shifts = [card.config["per_type_energy_shifts"][name] for name in card.type_names]
    np.testing.assert_allclose(shifts, state["atom_energies"] + config["shift"], rtol=1e-7)


@pytest.fixture
def written(tmp_path):
    """Writes bytes, and reads them as a Nequix file."""

    def read(content: bytes):
        path = tmp_path / "x.nqx"
        path.write_bytes(content)
        return read_nequix(path)

    return read


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.2, 0.5, 0.9, 0.9999])
def test_a_file_cut_short_is_refused_in_one_sentence(written, share):
    content = SMALL.read_bytes()
    with pytest.raises(CheckpointError) as error:
        written(content[: int(share * len(content))])
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"\x80\x04N.", "no JSON object"),
        (b"[1, 2]\n", "no JSON object"),
        (b'{"cutoff": ' + b"[" * 100_000 + b"\n", "no JSON object"),
        (b'{"cutoff": 6.0}\n', "atomic_numbers"),
        (SMALL.read_bytes() + b"more", "goes on"),
    ],
)
def test_other_content_is_refused(written, content, named):
    with pytest.raises(CheckpointError, match=named):
        written(content)


def with_header(**change: object) -> bytes:
    line, _, arrays = SMALL.read_bytes().partition(b"\n")
    return json.dumps({**json.loads(line), **change}).encode() + b"\n" + arrays


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"hidden_irreps": "4x0e+3x1e"}, "does not reach"),
        ({"hidden_irreps": "4x0e+4x0o"}, "0o"),
        ({"hidden_irreps": "4x0e+4x0e"}, "one twice"),
        ({"hidden_irreps": "999999999x0e"}, r"layers\.0\.radial_mlp\.2 is"),
        ({"atomic_numbers": [1, 6, 300]}, "atomic_numbers"),
        ({"n_layers": 1_000_000_000}, r"layers\.1\."),
        ({"radial_polynomial_p": 2.5}, "radial_polynomial_p"),
        ({"layer_norm": True}, r"layers\.0\.layer_norm"),
    ],
)
def test_a_first_line_that_tells_of_another_model_is_refused(written, change, named):
    with pytest.raises(CheckpointError, match=named):
        written(with_header(**change))


def test_there_must_be_a_file(tmp_path):
    with pytest.raises(CheckpointError, match="No such file"):
        read_nequix(tmp_path / "none.nqx")
