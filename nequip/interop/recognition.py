"""Which package wrote a file, from what is in it, and the configuration and weights that it holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray

from nequip.errors import CheckpointError
from nequip.interop.archives import Record, describe_archive, read_torch_file
from nequip.interop.archives.torch_file import PICKLE, ZIP
from nequip.interop.mace_file import is_mace, read_mace
from nequip.interop.nequip_checkpoint import is_lightning, read_nequip_checkpoint
from nequip.interop.published_nequix import read_nequix
from nequip.interop.published_sevennet import read_sevennet

# A header of safetensors is not longer than this, by its own specification.
_LONGEST_HEADER = 100_000_000
_OUR_TRAINING = "e3forge-training"
_KINDS = (
    "a .nequip, a .model of mace-torch, a .ckpt of nequip or allegro, a .pth of SevenNet, a .nqx of Nequix"
)


class Published(NamedTuple):
    """What a file of another package holds."""

    format: str  # the package that wrote it, and what it calls such a file
    config: dict[str, Any]  # with `architecture`
    state: Mapping[str, NDArray[Any]]


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as one of tensors and a header of text does, as ours do.

    Raises:
        CheckpointError: where there is no file.
    """
    start = _start(path)
    return start[8:9] == b"{" and 2 <= int.from_bytes(start[:8], "little") <= _LONGEST_HEADER


def read_published(path: Path) -> Published:
    """The configuration and the weights in a file of another package.

    Raises:
        CheckpointError: for a file that is damaged or of another kind, in words that follow its name.
    """
    start = _start(path)
    if start.startswith(b"{"):
        return Published("Nequix checkpoint (.nqx)", *read_nequix(path))
    if start.startswith(ZIP):
        other = describe_archive(path)
        if other is not None:
            raise CheckpointError(other)
    elif not start.startswith(PICKLE):
        raise CheckpointError(
            f"{'the file is empty' if not start else 'this is not a saved potential'}: give {_KINDS}"
        )
    return _of_tree(read_torch_file(path))


def _start(path: Path) -> bytes:
    if not path.is_file():
        what = f"{path} is a folder" if path.is_dir() else f"there is no file {path}"
        raise CheckpointError(f"{what}; check the path.")
    with path.open("rb") as file:
        return file.read(16)


def _of_tree(tree: Any) -> Published:
    """By the shape of what was saved."""
    if is_mace(tree):
        return Published("model of mace-torch (.model)", *read_mace(tree))
    if isinstance(tree, Record):
        package = tree.maker.partition(".")[0]
        raise CheckpointError(f"is a pickled {tree.maker} of {package}, which is no potential that we know")
    if isinstance(tree, dict):
        if tree.get("format") == _OUR_TRAINING:
            raise CheckpointError(
                "is the state of a training, to resume it; its potential is in the .nequip file beside it"
            )
        if is_lightning(tree):
            config, state = read_nequip_checkpoint(tree)
            return Published(f"checkpoint of {config['architecture']} (.ckpt)", config, state)
        if "model_state_dict" in tree and "config" in tree:
            return Published("checkpoint of SevenNet (.pth)", *read_sevennet(tree))
        if isinstance(tree.get("model"), dict) and "optimizer" in tree:
            raise CheckpointError(
                "holds the weights of a training without the model that they belong to: give the file that "
                "was written at its end (of MACE the .model)"
            )
        if tree and all(isinstance(value, torch.Tensor) for value in tree.values()):
            raise CheckpointError(
                "holds weights without a configuration: give both to nequip.interop.from_published"
            )
    raise CheckpointError(f"is a file of torch, but not a saved potential: give {_KINDS}")
