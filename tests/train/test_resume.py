"""A run that was stopped anywhere goes on bit for bit, a second time too, and what was done twice counts as wasted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_training import DENSE, MIXTURE, run, tiny_recipe

from fathom.ledger import read
from fathom.train import checkpoint as checkpoints


def losses(folder: Path) -> dict[int, float]:
    """The last loss that the ledger holds for each step."""
    return {e.body.step: e.body.loss for e in read(folder) if e.body.kind == "step"}


def steps_taken(folder: Path) -> list[int]:
    return [e.body.step for e in read(folder) if e.body.kind == "step"]


class Stop(Exception):
    pass


def stop_after(step: int):
    def progress(now) -> None:
        if now.step == step:
            raise Stop

    return progress


@pytest.mark.parametrize("model", [MIXTURE, DENSE], ids=["mixture", "dense"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_resumes_equal_the_run_that_never_stopped(tmp_path: Path, model: dict, precision: str) -> None:
    recipe = tiny_recipe(model, train={"precision": precision})
    whole = run(recipe, tmp_path / "whole")
    for step in (6, 11):  # between the checkpoints at 4, 8 and 12
        with pytest.raises(Stop):
            run(recipe, tmp_path / "parts", progress=stop_after(step))
    parts = run(recipe, tmp_path / "parts")
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    for name, tensor in whole.decoder.state_dict().items():
        assert torch.equal(tensor, parts.decoder.state_dict()[name]), name
    assert steps_taken(tmp_path / "parts") == [*range(1, 7), *range(5, 12), *range(9, 13)]


def test_an_interrupt_saves_where_it_stopped(tmp_path: Path) -> None:
    recipe = tiny_recipe(checkpoint={"every_steps": 100})

    def press_ctrl_c(now) -> None:
        if now.step == 5:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(recipe, tmp_path / "run", progress=press_ctrl_c)
    assert checkpoints.load_latest(tmp_path / "run").step == 5
    run(recipe, tmp_path / "run")
    assert steps_taken(tmp_path / "run") == list(range(1, 13))


CHILD = """
import sys, os, signal
sys.path.insert(0, {here!r})
from pathlib import Path
from tiny_training import *
from fathom.train import checkpoint, durable
torch_threads = __import__("torch").set_num_threads(1)
count = 0
real = os.fsync
def fsync(descriptor):
    global count
    count += 1
    if count == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
    real(descriptor)
os.fsync = fsync
run(tiny_recipe(train={{"steps": 6}}, checkpoint={{"every_steps": 2, "keep_last": 1}}), Path({folder!r}))
"""


@pytest.mark.parametrize("at", [3, 6, 7, 9, 11, 14])
def test_killed_at_any_flush_to_the_disk_it_goes_on(tmp_path: Path, at: int) -> None:
    """The flushes are the moments between which files appear: the state must be whole before and after each."""
    folder = tmp_path / "run"
    code = CHILD.format(here=str(Path(__file__).parent), at=at, folder=str(folder))
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert child.returncode == -signal.SIGKILL, child.stderr
    recipe = tiny_recipe(train={"steps": 6}, checkpoint={"every_steps": 2, "keep_last": 1})
    whole = run(recipe, tmp_path / "whole")
    parts = run(recipe, folder)
    assert losses(folder) == losses(tmp_path / "whole")
    assert torch.equal(whole.decoder.embedding.weight, parts.decoder.embedding.weight)
    assert not list((folder / "checkpoints").glob(".part-*"))


def test_going_on_says_from_which_step(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    with pytest.raises(Stop):
        run(recipe, tmp_path / "run", progress=stop_after(7))
    run(recipe, tmp_path / "run")
    resumed = [e.body for e in read(tmp_path / "run") if e.body.kind == "resume"]
    assert [event.from_step for event in resumed] == [4]
