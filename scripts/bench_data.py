"""Data sets that do not fit into memory: what they cost before, during and between epochs.

    python scripts/bench_data.py [--frames 100000] [--kind hdf5|lmdb] [--workers 0] [--output FILE.json]

Generates frames of 10 to 30 atoms by their number, writes a store of them, and then, each in a process of
its own: prepares it, starts on it again, and loads shuffled batches, of one process and of two. Beside it
text is converted, and a small NequIP trains on aspirin to see what it consumes. All but the loader's own
rate are times of a processor, children included, so that other programs do not matter; memory is private
memory, above that of a process that has imported everything.

Takes 9 GB of disk and 8 minutes of a core for a million frames.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from nequip.config.compose import compose
from nequip.data.batching import BatchLimits, GraphBatchSampler
from nequip.data.convert import FromSource, convert, write_store
from nequip.data.dataset import GraphDataset
from nequip.data.frame import Frame
from nequip.data.loading import make_loader
from nequip.data.neighbors import Cutoffs, IntArray, TypeMapper
from nequip.data.sources import open_source, separate_isolated_atoms
from nequip.data.splits import SplitSizes, random_split
from nequip.data.verification import verify_store
from nequip.model.registry import build_potential
from nequip.train.prepare import prepare_data, resolve_model_config

NUMBERS, NAMES = (1, 6, 7, 8), ("H", "C", "N", "O")
GRID = np.indices((4, 3, 3)).reshape(3, -1).T * 1.7  # Å
R_MAX = 4.0  # Å
LIMITS = BatchLimits(max_edges=5000)
SHARD_SIZE = 10_000
TEXT_FRAMES = 4000
STEPS = 300  # batches that are timed
ASPIRIN = "rmd17_aspirin_train01.xyz"


class Generated:
    """Frames that follow from their number."""

    name = "generated"

    def __init__(self, number: int):
        self._number = number

    def __len__(self) -> int:
        return self._number

    def __getitem__(self, index: int) -> Frame:
        rng = np.random.default_rng(index)
        size = int(rng.integers(10, 31))
        return Frame(
            numbers=rng.choice(NUMBERS, size),
            positions=GRID[:size] + rng.normal(0, 0.1, (size, 3)),
            energy=float(rng.normal(-5 * size)),
            forces=rng.normal(size=(size, 3)),
            group=f"part {index % 3}",
        )

    def num_atoms(self) -> IntArray:
        return np.array([self[index].num_atoms for index in range(len(self))])

    def groups(self) -> list[str]:
        return [f"part {index % 3}" for index in range(len(self))]

    def group_names(self, indices: IntArray) -> set[str]:
        return {f"part {remainder}" for remainder in set((indices % 3).tolist())}

    def isolated(self) -> IntArray:
        return np.zeros(0, dtype=np.int64)

    def elements(self, indices: IntArray) -> set[int]:
        return set(NUMBERS)

    def fingerprint(self) -> str:
        return f"generated {self._number}"

    def label_keys(self) -> list[str]:
        return ["energy", "forces"]


def main() -> None:
    """Run the parts that were not asked for by name."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--kind", choices=["hdf5", "lmdb"], default="hdf5")
    parser.add_argument("--workers", type=int, default=0, help="processes that convert and prepare")
    parser.add_argument("--output", type=Path, help="write the numbers as JSON")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.part:
        print(json.dumps(PARTS[options.part](options)))
        return
    options.folder = Path(tempfile.mkdtemp(prefix="bench_data."))
    try:
        found = {part: run_part(part, options) for part in PARTS}
    finally:
        shutil.rmtree(options.folder)
    for part, numbers in found.items():
        print(part, *(f"  {name:44} {value:12.4g}" for name, value in numbers.items()), sep="\n")
    if options.output:
        options.output.write_text(
            json.dumps({"frames": options.frames, "kind": options.kind, **found}, indent=2)
        )


def run_part(part: str, options: argparse.Namespace) -> dict[str, float]:
    """A part in a process of its own."""
    words = [f"--{name}={getattr(options, name)}" for name in ("frames", "kind", "workers", "folder")]
    done = subprocess.run(
        [sys.executable, __file__, f"--part={part}", *words], stdout=subprocess.PIPE, check=True, text=True
    )
    return json.loads(done.stdout)


def text(options: argparse.Namespace) -> dict[str, float]:
    """Conversion of extended XYZ."""
    path, source = options.folder / "some.xyz", Generated(TEXT_FRAMES)
    write(path, [as_atoms(source[index]) for index in range(TEXT_FRAMES)], format="extxyz")
    found: dict[str, float] = {}
    for workers in (0, 2):
        work = partial(convert, path, options.folder / f"text{workers}", shard_size=500, num_workers=workers)
        seconds = processor_time(work)
        found[f"frames per core-second, {workers} workers"] = TEXT_FRAMES / seconds
    return found


def store(options: argparse.Namespace) -> dict[str, float]:
    """Frames that are generated by the processes that write them."""
    source = Generated(options.frames)
    some = range(0, options.frames, options.frames // 2000)
    making = processor_time(lambda: [source[index] for index in some]) / len(some)
    out = options.folder / "store"

    def write_all() -> None:
        shape = {"kind": options.kind, "shard_size": SHARD_SIZE, "num_workers": options.workers}
        write_store(FromSource(source), out, **shape)

    writing = processor_time(write_all) / options.frames - making
    checking = processor_time(lambda: verify_store(out, options.workers)) / options.frames
    return {
        "frames per core-second, written": 1 / writing,
        "frames per core-second, verified": 1 / checking,
        "bytes per frame, store": size_of(out) / options.frames,
        "bytes of manifest": (out / "store.json").stat().st_size,
        "peak memory, MB": peak_memory(),
    }


def prepare(options: argparse.Namespace) -> dict[str, float]:
    """The first start: neighbors and statistics of all frames."""
    data = open_data(options)
    seconds = processor_time(lambda: data.prepare(options.workers, label="prepare"))
    tables = sum(path.stat().st_size for path in (options.folder / "cache").glob("*/ind*.npy"))
    return {
        "frames per core-second, prepared": len(data) / seconds,
        "bytes per frame, edges and tables": size_of(options.folder / "cache") / len(data),
        "bytes per frame, tables that are mapped": tables / len(data),
        "peak memory, MB": peak_memory(),
    }


def start(options: argparse.Namespace, rank: int = 0, world_size: int = 1) -> dict[str, float]:
    """Every later start, and the epochs."""
    before, found = private_memory(), {}
    made: dict[str, Any] = {}
    found["s to open and split"] = processor_time(lambda: made.update(data=open_data(options)))
    data = made["data"]
    found["s to find neighbors and statistics"] = processor_time(data.prepare)
    sampler = GraphBatchSampler(data, LIMITS, rank=rank, world_size=world_size)
    loader = make_loader(data, sampler)
    found["s to the first batch from there"] = processor_time(lambda: next(iter(loader)))
    sampler.set_epoch(1)
    found["s to the first batch of the next epoch"] = processor_time(lambda: next(iter(loader)))
    found["s to count the batches of an epoch"] = processor_time(lambda: made.update(length=len(sampler)))
    sampler.start_at(made["length"] // 2)
    found["s to the first batch from mid-epoch"] = processor_time(lambda: next(iter(loader)))
    batches = iter(loader)
    next(batches)
    first = time.process_time()
    frames = sum(batch.num_graphs for batch in islice(batches, STEPS))
    found["frames per core-second, loaded"] = frames / (time.process_time() - first)
    found["idle fraction, %"] = 100 * sampler.idle_fraction
    found["private memory, bytes per frame"] = (private_memory() - before) / options.frames
    found["private memory, MB"] = (private_memory() - before) / 2**20
    found["peak memory, MB"] = peak_memory()
    return found


def start_as_second_of_two(options: argparse.Namespace) -> dict[str, float]:
    """The same, with half of every batch."""
    return start(options, rank=1, world_size=2)


def aspirin(options: argparse.Namespace) -> dict[str, float]:
    """What NequIP S takes of aspirin in training, and what its loader gives."""
    folder = Path(os.environ["NEQUIP_DATA_DIR"])
    config = options.folder / "aspirin.yaml"
    config.write_text(f"data: {{file: {folder / ASPIRIN}, cache_dir: {options.folder}}}\n")
    run = compose(config, ["model=nequip_s"])
    data = prepare_data(run)
    model = build_potential(resolve_model_config(run.model, data))
    loader = make_loader(data.train, GraphBatchSampler(data.train, BatchLimits(run.data.batch.size)))
    batches = list(islice(loader, 20))
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def train() -> None:
        for batch in batches:
            optimizer.zero_grad()
            out = model(batch)
            (out.energy.square().mean() + out.forces.square().mean()).backward()
            optimizer.step()

    train()
    frames = sum(batch.num_graphs for batch in batches)
    consumed = frames / processor_time(train)
    loaded = len(data.train) / processor_time(lambda: list(loader))
    return {
        "frames per core-second, trained": consumed,
        "frames per core-second, loaded": loaded,
        "loader over model": loaded / consumed,
    }


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, float]]] = {
    "text": text,
    "store": store,
    "prepare": prepare,
    "start": start,
    "start_as_second_of_two": start_as_second_of_two,
    "aspirin": aspirin,
}


def open_data(options: argparse.Namespace) -> GraphDataset:
    """19 of 20 frames for training, as a run divides them."""
    source = open_source(options.folder / "store")
    frames, _ = separate_isolated_atoms(source)
    split = random_split(frames, SplitSizes(val=0.05), seed=0)
    assert source.elements(split.train) == set(NUMBERS)
    groups = sorted(source.group_names(split.train))
    return GraphDataset(
        source,
        split.train,
        TypeMapper(NAMES),
        Cutoffs(R_MAX),
        groups=groups,
        cache_dir=options.folder / "cache",
    )


def as_atoms(frame: Frame) -> Atoms:
    """What ASE writes."""
    atoms = Atoms(frame.numbers, frame.positions, info={"group": frame.group})
    atoms.calc = SinglePointCalculator(atoms, energy=frame.energy, forces=frame.forces)
    return atoms


def processor_time(work: Callable[[], object]) -> float:
    """Seconds of the processor that `work` takes, in this process and its children."""
    before = total_time()
    work()
    return total_time() - before


def total_time() -> float:
    """Seconds that this process and its children have computed so far."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def private_memory() -> int:
    """Bytes that no other process shares."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_Dirty"))


def peak_memory() -> float:
    """MB that this process has had at most, with mapped files."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def size_of(folder: Path) -> int:
    """Bytes of all files below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
