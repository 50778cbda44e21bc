"""Small runs for the ledger's tests."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from fathom.ledger import Ledger

RECIPE = {"name": "tiny", "seed": 1, "train": {"learning_rate": 0.001}}


def take_steps(ledger: Ledger, first: int, last: int) -> None:
    for step in range(first, last + 1):
        ledger.step(step=step, tokens=100, loss=4.0 / step, learning_rate=1e-3, flops={"attention": 7, "experts": 11})


def finished_run(run_dir: Path, steps: int = 3, status: str = "completed", purpose: str = "final") -> Path:
    """A run of a few steps that ended with `status`."""
    ledger = Ledger.create(run_dir)
    ledger.start(recipe=RECIPE, purpose=purpose)
    ledger.data(
        sources=[{"name": "books", "license": "CC0-1.0", "documents": 3, "bytes": 1000, "dropped": {"short": 2}}]
    )
    take_steps(ledger, 1, steps)
    ledger.end(status)
    return run_dir


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that finds this folder's helpers."""
    here = str(Path(__file__).parent)
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": here, **environment},
    )  # fmt: skip
