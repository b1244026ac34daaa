"""Run a compiled potential in a process of its own: `python -m nequip.export.rerun FILE INPUTS OUTPUTS`."""

from __future__ import annotations

import sys
from contextlib import nullcontext

import torch

from nequip.export.artefact import Artefact
from nequip.nn.exchange import owners


def rerun(path: str, source: str, target: str) -> None:
    """Outputs of the file at `path` for each (inputs, owners of ghosts or None) in the list in `source`."""
    artefact = Artefact(path)
    results = []
    for inputs, owner in torch.load(source):
        with nullcontext() if owner is None else owners(owner.to(artefact.device)):
            results.append(artefact.run([value.to(artefact.device) for value in inputs]))
    torch.save([[value.cpu() for value in outputs] for outputs in results], target)


if __name__ == "__main__":
    rerun(*sys.argv[1:])
