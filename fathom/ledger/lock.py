"""Who may write: one process a run, and one append at a time to the workspace's ledger.

A run is held with a POSIX record lock, which the kernel drops with the process, however it dies, and which a forked
child does not inherit: a run killed with signal 9 can be continued at once.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fathom.errors import FathomError

LOCK_NAME = "ledger.lock"
# A record lock does not hold off its own process, and closing any handle of the file drops it: so this process's own
# locks are remembered here and their files are opened nowhere else.
_held: dict[Path, int] = {}


def hold_run(run_dir: Path) -> Path:
    """Take the run for this process until `release_run`. Raises FathomError where another process has it."""
    path = (run_dir / LOCK_NAME).resolve()
    if path in _held:
        raise FathomError(f"{run_dir} is already being written by this process: end that run first")
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise FathomError(
            f"{run_dir} is being written by another process: wait for it to end, or name another run"
        ) from error
    _held[path] = handle
    return path


def release_run(path: Path) -> None:
    handle = _held.pop(path, None)
    if handle is not None:
        os.close(handle)


def is_running(run_dir: Path) -> bool:
    """Whether a living process holds the run."""
    path = (run_dir / LOCK_NAME).resolve()
    if path in _held:
        return True
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # never locked, or not ours to write: then nobody of this workspace is writing it
        return False
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(handle)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold `path`.lock against every thread and process while inside (waits its turn)."""
    handle = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
