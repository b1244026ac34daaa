"""One of the processes that `nequip.train.processes` starts: takes its part in the run on its input."""

from __future__ import annotations

import os
import sys
import time

import yaml

from nequip.config.validate import validate
from nequip.errors import NequIPError
from nequip.train.processes import ProcessLost
from nequip.train.run import run_training


def main() -> int:
    """The first process speaks for all; what it cannot know it is told by the pipe of the one argument."""
    parent = os.getppid()
    try:
        run_training(validate(yaml.safe_load(sys.stdin)))
    except NequIPError as error:
        if _is_gone(parent, patience=3.0 if isinstance(error, ProcessLost) else 0.0):
            print(f"process {os.environ['LOCAL_RANK']}: {error}", file=sys.stderr)
        elif not isinstance(error, ProcessLost):
            os.write(int(sys.argv[1]), str(error).encode())
        return error.exit_code
    return 0


def _is_gone(parent: int, patience: float) -> bool:
    """Whether the first process has ended. Its connections close a little before."""
    limit = time.monotonic() + patience
    while os.getppid() == parent and time.monotonic() < limit:
        time.sleep(0.05)
    return os.getppid() != parent


if __name__ == "__main__":
    sys.exit(main())
