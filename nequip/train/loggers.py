"""Where the numbers of a run go: CSV tables always, TensorBoard and wandb on request."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from nequip.config.schema import LoggingConfig
from nequip.errors import CheckpointError
from nequip.model.checkpoint import write_atomically

_WANDB_FOLDER = re.compile(r"run-(?P<time>\d+_\d+)-(?P<id>\w+)")


class CsvTable:
    """Rows of numbers with named columns in a file; a row that brings new columns rewrites it."""

    def __init__(self, path: Path):
        self.path = path
        self._columns: list[str] = []

    def resume(self, column: str, last: float) -> None:
        """Keep the rows of an earlier run whose `column` is not beyond `last`."""
        rows = [row for row in self._rows() if float(row[column]) <= last]
        if not rows:
            self.path.unlink(missing_ok=True)
            return
        self._columns = list(rows[0])
        self._write(rows)

    def append(self, row: Mapping[str, float]) -> None:
        """Add a row; the file is complete after every call.

        Raises:
            CheckpointError: when the file cannot be written.
        """
        texts = {name: f"{value:.10g}" for name, value in row.items()}
        new = [name for name in texts if name not in self._columns]
        if new:
            rows = self._rows() if self._columns else []
            self._columns += new
            self._write([*rows, texts])
            return
        try:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns, lineterminator="\n").writerow(texts)
        except OSError as error:
            raise CheckpointError(f"{self.path} cannot be written: {error.strerror or error}.") from error

    def _rows(self) -> list[dict[str, str]]:
        if not self.path.is_file():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            # A full disk or a crash may have cut the last row short.
            return [row for row in csv.DictReader(file) if None not in row.values()]

    def _write(self, rows: Sequence[Mapping[str, str]]) -> None:
        buffer = io.StringIO(newline="")
        writer = csv.DictWriter(buffer, self._columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path, buffer.getvalue().encode())


def build_loggers(config: LoggingConfig, output_dir: Path) -> list[Logger]:
    """The loggers beside the CSV tables; their files lie in `output_dir`."""
    loggers: list[Logger] = []
    if config.tensorboard:
        loggers.append(TensorBoardLogger(output_dir, name="tensorboard", version=""))
    if config.wandb != "off":
        offline = config.wandb == "offline"
        loggers.append(
            WandbLogger(
                name=config.name,
                project=config.project,
                save_dir=output_dir,
                offline=offline,
                id=_earlier_run(output_dir),
                settings={"silent": offline},
            )
        )
    return loggers


def forget_later_steps(loggers: Sequence[Logger], step: int) -> None:
    """Where a run goes on from `step`: TensorBoard drops what an earlier run has written beyond it."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            # Not before: TensorBoard is no part of a run that does not ask for it.
            from tensorboard.compat.proto.event_pb2 import Event, SessionLog

            started = SessionLog(status=SessionLog.START)
            logger.experiment.file_writer.add_event(Event(step=step + 1, session_log=started))


def close_loggers(loggers: Sequence[Logger]) -> None:
    """End the runs of wandb, so that the next one in this process does not go on with them."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()


def _earlier_run(output_dir: Path) -> str | None:
    """The id of the wandb run that a resumed run goes on with."""
    names = [folder.name for folder in (output_dir / "wandb").glob("*run-*")]
    found = [match for match in map(_WANDB_FOLDER.search, names) if match]
    return max(found, key=lambda match: match["time"])["id"] if found else None
