"""Small potentials with weights that nobody trained, compiled.

Files are kept in the user's cache for as long as the code stays the same: each takes half a minute.
"""

from __future__ import annotations

import hashlib
import shutil
import time
import warnings
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from one_at_a_time import one_at_a_time

from nequip.export.card import Target
from nequip.export.export import ExportSettings, export
from nequip.model.card import DtypeName
from nequip.model.potential import Potential
from nequip.model.registry import build_potential

REPOSITORY = Path(__file__).parents[1]
COMPILED_FROM = (
    "nequip/export",
    "nequip/kernels",
    "nequip/model",
    "nequip/nn",
    "nequip/o3",
    "allegro",
    "mace_ext",
)
CACHE = Path.home() / ".cache" / "e3forge" / "test_artefacts"
WEEK = 7 * 24 * 3600.0
TYPE_NAMES = ("O", "H", "Si", "C")


class SmallArtefact(NamedTuple):
    path: Path
    potential: Potential  # what was compiled, with the same tables


def small_potential(architecture: str, dtype: DtypeName) -> Potential:
    """A potential of H, C, O and Si that keeps atoms apart, soft enough for dynamics."""
    common = {
        "type_names": TYPE_NAMES,
        "r_max": 4.0,
        "avg_num_neighbors": 20.0,
        "per_type_energy_shifts": {"O": -3.0, "H": -1.0, "Si": -5.0, "C": -6.0},
        "per_type_energy_scales": 0.2,
        "pair_potential": "zbl",
        "dtype": dtype,
    }
    if architecture == "nequip":
        from nequip.model.nequip import NequIPConfig

        # three layers, so that gradients of exchanged features pass through an exchange themselves
        shape = {"num_layers": 3, "l_max": 1, "num_features": 4, "radial_mlp_width": 8}
        return build_potential(NequIPConfig(**common, **shape, per_edge_type_cutoff={"H": {"H": 2.5}}))
    if architecture == "allegro":
        from allegro.config import AllegroConfig

        shape = {"num_layers": 2, "l_max": 1, "num_scalar_features": 8, "num_tensor_features": 4}
        return build_potential(AllegroConfig(**common, **shape))
    from mace_ext.config import MACEConfig

    shape = {
        "num_layers": 2,
        "l_max": 2,
        "hidden_irreps": "4x0e+4x1o",
        "radial_mlp": (8,),
        "interaction_shift": 0.0,
    }
    return build_potential(MACEConfig(**common, **shape))


def make_artefact(
    architecture: str, dtype: DtypeName = "float64", target: Target = "lammps"
) -> SmallArtefact:
    """Compiled now, or as an earlier session with the same code left it."""
    folder = _folder()
    path = folder / f"{architecture}_{dtype}_{target}.nequip.pt2"
    potential = small_potential(architecture, dtype).eval().requires_grad_(False)
    with one_at_a_time(folder), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about itself
        if not path.exists():
            export(potential, path, ExportSettings(target, radial_table=0))
    return SmallArtefact(path, potential)


@cache
def _folder() -> Path:
    """Where files of this code are; those of code that is gone for a week are removed."""
    for old in CACHE.glob("*"):
        if time.time() - old.stat().st_mtime > WEEK:
            shutil.rmtree(old, ignore_errors=True)
    folder = CACHE / _digest_of_code()
    folder.mkdir(parents=True, exist_ok=True)
    folder.touch()
    return folder


def _digest_of_code() -> str:
    digest = hashlib.sha256(version("torch").encode() + Path(__file__).read_bytes())
    for folder in COMPILED_FROM:
        for file in sorted((REPOSITORY / folder).rglob("*")):
            if file.suffix in {".py", ".h", ".cpp"}:
                digest.update(file.read_bytes())
    return digest.hexdigest()[:32]
