"""What the published nequip-compile reads: a checkpoint of the untrained model and an example graph.

Also saves the weights, so that the programs that are not compiled can load them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from lightning import Trainer
from nequip.scripts._compile_utils import PAIR_NEQUIP_INPUTS
from nequip.utils import get_current_code_versions
from nequip.utils.global_state import set_global_state
from published import described, load, save_weights

from nequip.train import NequIPLightningModule


def main() -> None:
    problem, folder = Path(sys.argv[1]), Path(sys.argv[2])
    set_global_state()
    config = json.loads((problem / "model.json").read_text())
    module = NequIPLightningModule(
        model=described(config),
        num_datasets={"train": 1, "val": 0, "test": 0},
        # the published loader looks here for the versions and for the class to rebuild
        info_dict={
            "versions": get_current_code_versions(verbose=False),
            "training_module": {"_target_": "nequip.train.NequIPLightningModule"},
        },
    )
    save_weights(module.model["sole_model"], folder / "weights.npz")
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(folder / "model.ckpt", weights_only=True)
    save_example(load(dict(np.load(problem / "structures.npz")), "water", config), folder / "example.pt")


def save_example(graph: dict[str, torch.Tensor], file: Path) -> None:
    """Write the model's inputs as the buffers of a TorchScript module, the form that nequip-compile reads."""
    holder = torch.nn.Module()
    for key in PAIR_NEQUIP_INPUTS:
        holder.register_buffer(key, graph[key])
    torch.jit.script(holder).save(str(file))


if __name__ == "__main__":
    main()
