"""The processes of a run on one machine: the first one starts the others and watches over them.

Lightning would start them with the words of the command line, and end them all without a sentence when
one is gone. Here each gets the configuration of the run, so that runs may be started from anywhere, and
the loss of one is told. Where SLURM or torchrun start the processes, nothing of this is used.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from types import TracebackType

import lightning.pytorch as pl
from lightning.fabric.plugins.environments import LightningEnvironment
from torch import distributed

from nequip.config.compose import to_yaml
from nequip.config.schema import RunConfig
from nequip.errors import TrainingError

_TELLS_A_LOSS = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "gloo", "NCCL")
_GRACE = 20.0  # s, for the main thread to leave by itself when a process is gone
_FAREWELL = 60.0  # s, for the others to end when training has ended


class ProcessLost(TrainingError):
    """Another process of the run has gone, and took the run with it."""

    exit_code = 3  # tells those that followed from the one that began


def is_loss_of_process(error: BaseException) -> bool:
    """Whether an exchange between processes failed."""
    if isinstance(error, distributed.DistError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _TELLS_A_LOSS)


class LocalProcesses:
    """A context in which the other processes of `trainer` on this machine run, where it needs any."""

    def __init__(self, trainer: pl.Trainer, config: RunConfig):
        strategy = trainer.strategy
        environment = getattr(strategy, "cluster_environment", None)
        ours = isinstance(environment, LightningEnvironment) and not environment.creates_processes_externally
        self._environment = environment if ours else None
        self._number: int = getattr(strategy, "num_processes", 1) if ours else 1
        self._config = config
        self._children: list[subprocess.Popen[bytes]] = []
        self._told: list[int] = []  # ends of pipes on which they say what went wrong
        self.what_happened = "another process of this run is gone"  # half a sentence
        self._left = threading.Event()
        self._before: dict[str, str | None] = {}

    def __enter__(self) -> LocalProcesses:
        if self._number == 1:
            return self
        assert self._environment is not None
        address = {
            "MASTER_ADDR": self._environment.main_address,
            "MASTER_PORT": str(self._environment.main_port),
            "NODE_RANK": str(self._environment.node_rank()),
        }
        self._children = [self._start(rank, address) for rank in range(1, self._number)]
        # It tells Lightning that there is nothing left to start.
        self._set_variables({**address, "LOCAL_RANK": "0"})
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._children:
            return
        self._left.set()
        if error is not None and is_loss_of_process(error):
            self.what_happened = self._cause()  # before those that are left are ended here
        self._end(patience=_FAREWELL if error is None else 0.0)
        for told in self._told:
            os.close(told)
        if distributed.is_initialized():
            distributed.destroy_process_group()
        self._set_variables(self._before)

    def _cause(self) -> str:
        """Half a sentence on the process that is gone, as far as this one can know."""
        limit = time.monotonic() + 5.0
        while not self._began() and time.monotonic() < limit:
            time.sleep(0.1)
        for number, code in self._began().items():
            sentence = self._sentence(number)
            if code < 0:
                cause = f"was ended by {signal.Signals(-code).name} (perhaps memory ran out)"
            elif sentence:
                cause = f"failed ({sentence.rstrip('.')})"
            else:
                cause = "ended with an error, told above"
            return f"process {number} of {self._number} {cause}"
        return self.what_happened

    def _sentence(self, number: int) -> str:
        """What a process that has ended wrote of a mistake; nothing where it was killed or left a trace."""
        try:
            return os.read(self._told[number - 1], 2**16).decode()
        except BlockingIOError:  # its own workers still hold the other end
            return ""

    def _start(self, rank: int, address: Mapping[str, str]) -> subprocess.Popen[bytes]:
        found = os.pathsep.join(path for path in sys.path if path)
        variables = {**os.environ, **address, "LOCAL_RANK": str(rank), "PYTHONPATH": found}
        told, tells = os.pipe()
        # A session of its own: Ctrl-C is for the first process, which passes it on between two batches.
        child = subprocess.Popen(
            [sys.executable, "-m", "nequip.train.worker", str(tells)],
            env=variables,
            stdin=subprocess.PIPE,
            pass_fds=(tells,),
            start_new_session=True,
        )
        os.close(tells)
        os.set_blocking(told, False)
        self._told.append(told)
        assert child.stdin is not None
        child.stdin.write(to_yaml(self._config).encode())
        child.stdin.close()
        return child

    def _ended(self) -> dict[int, int]:
        codes = {number: child.poll() for number, child in enumerate(self._children, 1)}
        return {number: code for number, code in codes.items() if code}

    def _began(self) -> dict[int, int]:
        """Those of the ended that did not end because another had."""
        return {number: code for number, code in self._ended().items() if code != ProcessLost.exit_code}

    def _watch(self) -> None:
        while not self._ended():
            if self._left.wait(0.5):
                return
        if not self._left.wait(_GRACE):
            # The main thread hangs in an exchange that no exception reaches.
            print(f"{self._cause()}, so this run stops; resume=auto goes on with it.", file=sys.stderr)
            self._end(patience=0.0)
            os._exit(ProcessLost.exit_code)

    def _end(self, patience: float) -> None:
        limit = time.monotonic() + patience
        for child in self._children:
            try:
                child.wait(max(limit - time.monotonic(), 0.0))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _set_variables(self, variables: Mapping[str, str | None]) -> None:
        self._before = {name: os.environ.get(name) for name in variables}
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
