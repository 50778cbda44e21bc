"""Does the demonstration's model solve what it never saw? `fathom demo` as a user runs it, once for each seed.

    python -m benchmarks.demo --seed 1              the whole demonstration, both models
    python -m benchmarks.demo --seed 2 --no-twin    the DeepSeek-style model alone, trained and asked alike
    python -m benchmarks.demo                       the table, from the rows on file

The problems are 420, 70 of each of six kinds, none of them in the training data; an answer counts where it is exactly
right and ended by itself. The model must solve 90% of all and 70% of every kind, each with its steps written out.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.branching import store, stored
from benchmarks.machine import machine

NAME = "demo"
PROBLEMS = 420
WORKSPACES = Path(__file__).resolve().parent.parent / "scratch"  # where the runs and the report stay to be looked at
ALL, EACH_KIND = 0.90, 0.70


def demonstrate(seed: int, twin: bool) -> list[dict[str, Any]]:
    """A row for each model."""
    from fathom.cli.demo import DEFAULT_MINUTES
    from fathom.cli.demo_job import RECIPES, Demo
    from fathom.train.job import Display

    class Silent(Display):
        def phase(self, text: str) -> None:
            print(text, flush=True)

    WORKSPACES.mkdir(exist_ok=True)
    demo = Demo(
        seed=seed,
        minutes=DEFAULT_MINUTES,
        problems=PROBLEMS,
        runs=Path(tempfile.mkdtemp(prefix=f"demo-{seed}-", dir=WORKSPACES)),
        started=time.monotonic(),
        recipes=RECIPES if twin else RECIPES[:1],
    )
    document = demo.run(Silent())
    return [_row(seed, document["seconds"] if twin else None, model) for model in document["models"].values()]


def _row(seed: int, whole_seconds: float | None, model: dict[str, Any]) -> dict[str, Any]:
    problems = model["problems"]
    final = model["bill"]["by_purpose"]["final"]
    return {
        "recipe": model["recipe"],
        "seed": seed,
        "accuracy": problems["accuracy"],
        "low": problems["low"],
        "high": problems["high"],
        "correct": problems["correct"],
        "total": problems["total"],
        "with_steps": problems["with_steps"],
        "kinds": {kind: result["accuracy"] for kind, result in problems["kinds"].items()},
        "training_seconds": model["training_seconds"],
        "steps": model["steps"],
        "bits_per_byte": model["text"]["bits_per_byte"],
        "flops": final["flops"]["total"],
        "demonstration_seconds": whole_seconds,
        "machine": machine(),
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The claim and whether the rows on file bear it out."""
    ours = [row for row in rows if row["recipe"] == "demo-deepseek"]
    return {
        "benchmark": NAME,
        "seeds": sorted(row["seed"] for row in ours),
        "lowest_accuracy": min((row["accuracy"] for row in ours), default=None),
        "lowest_kind": min((share for row in ours for share in row["kinds"].values()), default=None),
        "lowest_with_steps": min((row["with_steps"] for row in ours), default=None),
        "passes": bool(ours)
        and all(row["accuracy"] >= ALL and min(row["kinds"].values()) >= EACH_KIND for row in ours),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--twin", action=argparse.BooleanOptionalAction, default=True)
    asked = parser.parse_args()
    if asked.seed is not None:
        for row in demonstrate(asked.seed, asked.twin):
            store(NAME, row, ("recipe", "seed"))
    for row in stored(NAME):
        worst = min(row["kinds"], key=row["kinds"].__getitem__)
        print(
            f"{row['recipe']:14} seed {row['seed']}: {row['correct']}/{row['total']} = {row['accuracy']:.1%} "
            f"({row['low']:.1%} to {row['high']:.1%}), weakest kind {worst} {row['kinds'][worst]:.0%}, "
            f"{row['training_seconds']:.0f} s of training"
        )
    print(json.dumps(summary(stored(NAME))))


if __name__ == "__main__":
    main()
