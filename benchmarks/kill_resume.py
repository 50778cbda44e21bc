"""Kill one run twenty times with signal 9 and let the same command go on: are the losses those of the run never killed?

    python -m benchmarks.kill_resume [--kills 20] [--steps 300]

The run is `fathom train` with the laptop recipe made small. Each attempt is killed after a random number of new steps
or, every third time, as soon as a checkpoint is being written. Afterwards the whole run's ledger is compared, step by
step and bit by bit, with that of an undisturbed run, and so are the final weights.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import machine

RECIPE_SETS = (
    "model.hidden_size=64",
    "model.num_layers=2",
    "model.num_heads=2",
    "model.kv_lora_rank=32",
    "model.intermediate_size=128",
    "model.moe_intermediate_size=32",
    "train.sequence_length=64",
    "train.rows_per_step=4",
    "train.micro_batch_rows=2",
    "data.vocab_size=512",
    "model.vocab_size=512",
    "checkpoint.every_steps=7",
    "checkpoint.keep_last=2",
)


def command(runs: Path, name: str, steps: int, text: Path) -> list[str]:
    sets = [part for key in (*RECIPE_SETS, f"train.steps={steps}") for part in ("--set", key)]
    where = ["--runs", str(runs), "--name", name, "--recipe", "laptop"]
    return [sys.executable, "-m", "fathom", "train", str(text), *where, *sets, "--json"]


def events(run: Path) -> list[dict]:
    """The ledger's whole lines; the last may be torn while the run is alive."""
    try:
        lines = (run / "ledger.jsonl").read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def step_losses(run: Path) -> dict[int, list[float]]:
    """Every loss that was entered for each step, repetitions included."""
    losses: dict[int, list[float]] = {}
    for event in events(run):
        if event.get("kind") == "step":
            losses.setdefault(event["step"], []).append(event["loss"])
    return losses


def resumes(run: Path) -> int:
    return sum(event.get("kind") == "resume" for event in events(run))


def run_until_killed(arguments: list[str], run: Path, new_steps: int, aim_at_checkpoint: bool) -> bool:
    """Start or go on, and kill with signal 9; False where the run ended before."""
    before = len(events(run))
    child = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        while child.poll() is None:
            enough = sum(event.get("kind") == "step" for event in events(run)[before:]) >= new_steps
            writing = any((run / "checkpoints").glob(".part-*")) if aim_at_checkpoint else True
            if enough and writing:
                os.kill(child.pid, signal.SIGKILL)
                child.wait()
                return True
            time.sleep(0.001 if aim_at_checkpoint else 0.02)
    finally:
        child.kill()
        _, errors = child.communicate()
    if child.returncode:
        raise SystemExit(f"the run failed by itself:\n{errors.decode()[-2000:]}")
    return False


def final_hashes(run: Path) -> dict[str, str]:
    last = [event for event in events(run) if event.get("kind") == "checkpoint"][-1]
    return last["files"]


def measure(kills: int, steps: int, seed: int, text: Path | None) -> dict[str, object]:
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        runs = Path(place) / "runs"
        text = text or _own_text(Path(place))
        subprocess.run(
            command(runs, "whole", steps, text), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        arguments, run = command(runs, "killed", steps, text), runs / "killed"
        done = 0
        while resumes(run) < kills - 1:  # the last resume goes on to the end; a kill may come before one is entered
            most = max(1, (steps - len(step_losses(run))) // max(1, kills - done))
            if not run_until_killed(arguments, run, chance.randint(0, most), done % 3 == 2):
                break
            done += 1
            print(f"kill {done}: {len(step_losses(run))} different steps entered", file=sys.stderr)
        subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        whole, killed = step_losses(runs / "whole"), step_losses(run)
        resumed = resumes(run)
        different = [step for step in whole if any(loss != whole[step][0] for loss in killed.get(step, [float("nan")]))]
        same_weights = final_hashes(runs / "whole") == final_hashes(run)
    return {
        "benchmark": "kill_resume",
        "kills": done,
        "resumes": resumed,
        "steps": steps,
        "steps_redone": sum(len(losses) - 1 for losses in killed.values()),
        "steps_that_differ": different,
        "final_weights_and_optimizer_equal": same_weights,
        "seed": seed,
        "exact": not different and same_weights and killed.keys() == whole.keys(),
        "machine": machine(),
    }


def _own_text(place: Path) -> Path:
    """Some prose of the standard library's documentation strings, where no text was given."""
    import pydoc

    folder = place / "text"
    folder.mkdir()
    for module in ("json", "email", "logging", "argparse", "asyncio", "typing", "unittest", "http.server", "pathlib"):
        (folder / f"{module}.txt").write_text(pydoc.plain(pydoc.render_doc(module)))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--text", type=Path)
    arguments = parser.parse_args()
    row = measure(arguments.kills, arguments.steps, arguments.seed, arguments.text)
    print(f"{row['kills']} kills, {row['resumes']} resumes, {row['steps_redone']} of {row['steps']} steps done again")
    print(
        f"steps whose loss differs: {row['steps_that_differ'] or 'none'}; final files equal: "
        f"{row['final_weights_and_optimizer_equal']}"
    )
    if row["resumes"] >= 20 and row["exact"]:
        results = Path(__file__).with_name("results") / "kill_resume.json"
        results.write_text(json.dumps(row, indent=1, sort_keys=True) + "\n")
    print(json.dumps(row))
    if not row["exact"] or row["kills"] < arguments.kills:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
