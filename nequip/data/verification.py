"""Whether a store still holds what was written: everything is read, and compared with its checksums."""

from __future__ import annotations

from pathlib import Path

from nequip.data.progress import progress
from nequip.data.sources.store import (
    ShardSource,
    StoreSource,
    is_store,
    open_store,
)
from nequip.data.workers import in_workers
from nequip.errors import DataError

_NAMED = 3  # damaged shards that a message names


def verify_store(path: str | Path, num_workers: int = 0) -> int:
    """Read every shard, by `num_workers` processes or this one, and return the number of frames.

    Raises:
        DataError: for what is no store, and for shards that are missing, cut or damaged.
    """
    path = Path(path).expanduser()
    if not is_store(path):
        raise DataError(f"{path} is not a store: only what nequip-data convert has written has checksums.")
    source = open_store(path)
    shards = source.sources if isinstance(source, StoreSource) else [source]
    done = progress(in_workers(_verify, shards, num_workers), "verifying", len(source), frames=_num_frames)
    damaged = [shard.name for shard, (_, problem) in zip(shards, done, strict=True) if problem]
    if damaged:
        names = ", ".join(damaged[:_NAMED]) + (", ..." if len(damaged) > _NAMED else "")
        raise DataError(
            f"{len(damaged)} of {len(shards)} shards are damaged ({names}): delete them and give the same "
            "nequip-data convert again, or copy them again."
        )
    return len(source)


def _verify(shard: ShardSource) -> tuple[int, str]:
    try:
        shard.verify()
    except DataError as error:
        return len(shard), str(error)
    return len(shard), ""


def _num_frames(done: tuple[int, str]) -> int:
    return done[0]
