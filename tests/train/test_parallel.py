"""Two processes under `torchrun` (gloo) train as one does, and a run may go on with another number of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_training import tiny_recipe

from fathom.errors import FathomError
from fathom.ledger import read
from fathom.train.parallel import Parallel

RANK = Path(__file__).with_name("rank.py")
STEPS = 12


def launch(processes: int, folder: Path, stop_after: int = 0) -> None:
    arguments = [str(RANK), str(folder), str(STEPS), str(stop_after)]
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *(torchrun if processes > 1 else []), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    child = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert (child.returncode != 0) == bool(stop_after), child.stderr[-3000:]


def losses(folder: Path) -> list[float]:
    by_step = {e.body.step: e.body.loss for e in read(folder) if e.body.kind == "step"}
    assert sorted(by_step) == list(range(1, STEPS + 1))
    return [by_step[step] for step in sorted(by_step)]


def test_two_processes_equal_one_and_a_run_changes_between_them(tmp_path: Path) -> None:
    launch(1, tmp_path / "one")
    launch(2, tmp_path / "two")
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert two == pytest.approx(one, rel=1e-3)
    assert one[-1] < 0.9 * one[0]  # it learns, so the agreement is not that of standing still

    launch(2, tmp_path / "again", stop_after=6)  # the last checkpoint is that of step 4
    shutil.copytree(tmp_path / "again", tmp_path / "changed")
    launch(2, tmp_path / "again")
    assert losses(tmp_path / "again") == two

    launch(1, tmp_path / "changed")
    assert losses(tmp_path / "changed")[:4] == two[:4]
    assert losses(tmp_path / "changed") == pytest.approx(one, rel=1e-3)


def test_rows_that_do_not_divide_are_refused() -> None:
    with pytest.raises(FathomError, match="rows_per_step = 5 does not divide among 2 processes; use a multiple of 2"):
        Parallel(rank=0, world=2).rows(5)
    assert Parallel(rank=1, world=2).rows(6) == [3, 4, 5]


def test_alone_every_row_is_its_own() -> None:
    recipe = tiny_recipe()
    assert Parallel().rows(recipe.train.rows_per_step) == [0, 1, 2, 3]
