"""A checkpoint is whole, verified and on the disk before anything points to it; a damaged one is never taken for
one.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fathom.errors import FathomError, RunFailed
from fathom.train import checkpoint as checkpoints

TENSORS = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(3)}


def save(run: Path, step: int, keep_last: int = 2, scale: float = 1.0) -> checkpoints.Checkpoint:
    model = {name: tensor * scale for name, tensor in TENSORS.items()}
    return checkpoints.save(run, step, model=model, optimizer={"m": torch.zeros(2)}, state={}, keep_last=keep_last)


def test_what_was_saved_is_read_back(tmp_path: Path) -> None:
    save(tmp_path, 5)
    loaded = checkpoints.load_latest(tmp_path)
    assert loaded.step == 5
    assert all(torch.equal(tensor, TENSORS[name]) for name, tensor in loaded.tensors("model").items())
    assert loaded.tensors("optimizer")["m"].tolist() == [0.0, 0.0]


def test_a_run_without_a_checkpoint_has_none(tmp_path: Path) -> None:
    assert checkpoints.load_latest(tmp_path) is None
    assert checkpoints.latest_step(tmp_path) == 0


def test_only_the_last_ones_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        save(tmp_path, step, keep_last=2)
    assert sorted(p.name for p in (tmp_path / "checkpoints").glob("step-*")) == ["step-00000003", "step-00000004"]


def test_a_later_step_that_latest_never_reached_is_not_kept_for_the_one_it_points_to(tmp_path: Path) -> None:
    save(tmp_path, 4)
    save(tmp_path, 8)
    (tmp_path / "checkpoints/latest").write_text("step-00000004\n")  # killed between rename and pointer
    save(tmp_path, 6, keep_last=1)
    assert checkpoints.load_latest(tmp_path).step == 6
    assert [p.name for p in (tmp_path / "checkpoints").glob("step-*")] == ["step-00000006"]


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def set_version(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 99}))


DAMAGE = [
    ("model.safetensors", flip_a_byte, "does not have the SHA-256"),
    ("optimizer.safetensors", flip_a_byte, "does not have the SHA-256"),
    ("model.safetensors", lambda p: p.write_bytes(p.read_bytes()[:-10]), "bytes instead of"),
    ("model.safetensors", lambda p: p.unlink(), "is missing"),
    ("state.json", lambda p: p.write_text("{"), "cannot be read"),
    ("state.json", lambda p: p.write_text("[]"), "a JSON object was expected"),
    ("state.json", lambda p: p.write_text('{"format_version": 1, "step": 5}'), "does not list the files"),
    ("state.json", set_version, "format 99; this Fathom reads format 1"),
    ("state.json", lambda p: p.unlink(), "is missing"),
]


@pytest.mark.parametrize(("name", "damage", "message"), DAMAGE)
def test_a_damaged_checkpoint_is_refused_in_one_sentence(tmp_path: Path, name: str, damage, message: str) -> None:
    saved = save(tmp_path, 5)
    damage(saved.path / name)
    with pytest.raises(FathomError, match=message) as caught:
        checkpoints.load_latest(tmp_path)
    assert name in str(caught.value) or "format" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pointer_to_nothing_is_refused(tmp_path: Path) -> None:
    save(tmp_path, 5)
    (tmp_path / "checkpoints/latest").write_text("../../elsewhere\n")
    with pytest.raises(FathomError, match="latest"):
        checkpoints.load_latest(tmp_path)


FILE_TOO_LARGE = """
import resource, signal, sys
from pathlib import Path
import torch
from fathom.errors import RunFailed
from fathom.train import checkpoint as checkpoints
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    checkpoints.save(Path(sys.argv[1]), 9, model={"w": torch.zeros(100_000)}, optimizer={}, state={}, keep_last=1)
except RunFailed as error:
    print(error)
"""


def test_a_write_that_the_system_cuts_short_keeps_the_older_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 5, keep_last=1)
    child = subprocess.run([sys.executable, "-c", FILE_TOO_LARGE, str(tmp_path)], capture_output=True, text=True)
    assert "could not write" in child.stdout, child.stderr
    assert "model.safetensors" in child.stdout
    assert checkpoints.load_latest(tmp_path).step == 5
    assert not list((tmp_path / "checkpoints").glob(".part-*"))


@pytest.mark.parametrize("failing", range(1, 7))
def test_a_full_disk_at_any_flush_keeps_the_older_checkpoint(tmp_path: Path, monkeypatch, failing: int) -> None:
    save(tmp_path, 5, keep_last=1)
    flushes, real = 0, os.fsync

    def full(descriptor: int) -> None:
        nonlocal flushes
        flushes += 1
        if flushes == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    try:
        save(tmp_path, 9, keep_last=1)
        finished = True
    except (RunFailed, OSError):
        finished = False
    monkeypatch.setattr(os, "fsync", real)
    loaded = checkpoints.load_latest(tmp_path)
    assert loaded.step == (9 if finished else loaded.step)
    assert loaded.step in (5, 9)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this system does not allow a small disk to be mounted")
    try:
        save(disk, 5, keep_last=1)
        with pytest.raises(RunFailed, match=r"disk is full.*older checkpoint is intact"):
            checkpoints.save(disk, 9, model={"w": torch.zeros(400_000)}, optimizer={}, state={}, keep_last=1)
        assert checkpoints.load_latest(disk).step == 5
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_checkpoint_that_cannot_fit_is_said_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"needs .* MB and the disk of"):
        checkpoints.check_room(tmp_path, 10**18)
