"""Does the budget hold, and is the shape it chooses near the best?

    python -m benchmarks.dial --only BUDGET --minutes 1       one `fathom train` with a budget, timed from outside
    python -m benchmarks.dial --only SHAPE --width 192        one rung at four minutes, the budget's own and the others
    python -m benchmarks.dial                                 the table, from the rows on file

BUDGET must end within 10% of what was asked, the whole command counted. SHAPE trains each rung of the ladder with the
same seconds (four minutes) and everything else as the budget would choose it for that rung; the rung that the budget
itself chooses must be within 3% of the best in held-out bits per byte.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.branching import prepared_text, store, stored
from benchmarks.machine import machine

NAME = "dial"
MINUTES = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
WIDTHS = (64, 128, 192, 256, 320, 384)
SHAPE_SECONDS = 240.0
TOLERANCE, NEAR_BEST = 0.10, 0.03


def budget_run(minutes: float, text: Path) -> dict[str, Any]:
    """One command in a fresh workspace, data preparation included, timed by this process's clock."""
    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, "-m", "fathom", "train", str(text), "--budget", f"{60 * minutes:g}s", "--runs", runs]
        started = time.monotonic()
        done = subprocess.run([*command, "--json"], capture_output=True, text=True)
        seconds = time.monotonic() - started
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        document = json.loads(done.stdout)
        plans = json.loads((Path(document["folder"]) / "plan.json").read_text())
    return {
        "piece": "BUDGET",
        "minutes": minutes,
        "seconds": seconds,
        "relative_error": seconds / (60 * minutes) - 1,
        "steps": document["steps"],
        "bits_per_byte": document["after"]["bits_per_byte"],
        "plans": [[plan["reason"], plan["from_step"], plan["total_steps"]] for plan in plans],
    }


def shape_run(width: int, seconds: float, seed: int) -> dict[str, Any]:
    """One rung for the given seconds of training, with the batch and rates that the dial gives that rung."""
    from benchmarks.branching import branching_run
    from fathom.train import dial
    from fathom.train.machine import measure

    speed, vocabulary = measure(), dial.vocabulary_for(seconds)
    choices = dial.weigh(seconds, speed, vocabulary)
    mine = next(choice for choice in choices if choice.width == width)
    recipe = dial.recipe_of(mine, vocabulary).model_copy(update={"seed": seed})
    row = branching_run(recipe, prepared_text(vocabulary), [seconds])[0]
    chosen = min(choices, key=lambda choice: choice.bits_per_byte).width
    return {**row, "piece": "SHAPE", "chosen": chosen == width, "predicted_bits_per_byte": mine.bits_per_byte}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    budgets = [row for row in rows if row["piece"] == "BUDGET"]
    shapes = [row for row in rows if row["piece"] == "SHAPE"]
    chosen = [row for row in shapes if row["chosen"]]
    best = min((row["bits_per_byte"] for row in shapes), default=None)
    behind = chosen[0]["bits_per_byte"] / best - 1 if chosen and best else None
    return {
        "benchmark": NAME,
        "budgets": len(budgets),
        "largest_relative_error": max((abs(row["relative_error"]) for row in budgets), default=None),
        "budgets_within_tolerance": bool(budgets) and all(abs(row["relative_error"]) <= TOLERANCE for row in budgets),
        "shapes": len(shapes),
        "chosen_width": chosen[0]["width"] if chosen else None,
        "best_width": min(shapes, key=lambda row: row["bits_per_byte"])["width"] if shapes else None,
        "chosen_behind_best": behind,
        "chosen_near_best": None if behind is None else behind <= NEAR_BEST,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("BUDGET", "SHAPE"))
    parser.add_argument("--minutes", type=float, default=1.0, help=f"of BUDGET; the benchmark's are {MINUTES}")
    parser.add_argument("--width", type=int, default=192, help=f"of SHAPE; the benchmark's are {WIDTHS}")
    parser.add_argument("--seconds", type=float, default=SHAPE_SECONDS, help="of SHAPE")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--text", type=Path, default=Path(__file__).resolve().parent.parent.parent / "shared/data/text")
    asked = parser.parse_args()
    if asked.only == "BUDGET":
        if not asked.text.exists():
            raise SystemExit(f"skipped: the texts are not at {asked.text}")
        row = {**budget_run(asked.minutes, asked.text), "machine": machine()}
        store(NAME, row, ("piece", "minutes"), summary)
    elif asked.only == "SHAPE":
        row = shape_run(asked.width, asked.seconds, asked.seed)
        store(
            NAME,
            {**row, "planned_seconds": asked.seconds, "machine": machine()},
            ("piece", "width", "seed", "planned_seconds"),
            summary,
        )
    rows = stored(NAME)
    for row in rows:
        if row["piece"] == "BUDGET":
            print(
                f"budget {row['minutes']:4g} min: {row['seconds']:6.1f} s, {row['relative_error']:+.1%}, "
                f"{row['bits_per_byte']:.4f}"
            )
        else:
            mark = "  <- the budget's choice" if row["chosen"] else ""
            print(
                f"width {row['width']:4}: {row['bits_per_byte']:.4f} (predicted "
                f"{row['predicted_bits_per_byte']:.3f}){mark}"
            )
    print(json.dumps(summary(rows)))


if __name__ == "__main__":
    main()
