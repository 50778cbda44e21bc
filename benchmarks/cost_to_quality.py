"""What does it take to reach the quality that the LLaMA recipe reaches in ten minutes of this processor?

    python -m benchmarks.cost_to_quality --only SWEEP --learning-rate 0.004   one point of the baseline's sweep
    python -m benchmarks.cost_to_quality --only BASELINE --seed 1             ten minutes of the baseline
    python -m benchmarks.cost_to_quality --only OURS --seed 1                 our recipe at several shorter lengths
    python -m benchmarks.cost_to_quality --only ABLATION --without muon       ours without one ingredient, shorter still
    python -m benchmarks.cost_to_quality                                      the table, from the rows on file

The baseline is the dense twin (LLaMA-style, same width and depth) as its makers trained it: AdamW, beta 0.9 and 0.95,
weight decay 0.1, clipping at 1, warm-up and a cosine to a tenth, normal initialisation; its learning rate and batch are
the best of the sweep on file. Both sides use one tokenizer, the same training documents and the same held-out ones; the
seconds are those inside training steps. What an ingredient saves is the time of a run without it over the time in which
ours reaches the same bits per byte. Each piece stores its rows, so that the whole can be done bit by bit.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import sys
from datetime import date
from typing import Any

from benchmarks.branching import (
    Trainer,
    branching_run,
    normal_initialization,
    prepared_text,
    store,
    stored,
)
from benchmarks.machine import machine
from fathom.train.model_table import model_table
from fathom.train.recipe import Recipe
from fathom.train.recipe_files import recipe_from_table
from fathom.train.schedule import first_plan
from fathom.train.shapes import deepseek_style, llama_style

NAME = "cost_to_quality"
VOCABULARY = 8192
WIDTH = 192
LENGTH = 256
OUR_MINUTES = (0.6, 1.0, 1.5, 2.25, 4.6, 6.2)
ABLATION_MINUTES = (2.25,)
COSTS = ("seconds", "tokens", "flops", "joules_modelled")
INGREDIENTS = ("muon", "experts", "initialization", "schedule", "batch", "embedding")


def ours(seed: int) -> Recipe:
    """Our recipe at this size: what the budget's choice gives, at one fixed shape."""
    table = {
        "name": "ours",
        "seed": seed,
        "model": model_table(deepseek_style(WIDTH, VOCABULARY)),
        "train": {"learning_rate": 0.012, **_batch(16)},
        "optimizer": {"embedding_ratio": 5.0},
        "schedule": {"warmup_steps": 10, "decay_fraction": 0.5},
    }
    return recipe_from_table(table, where="benchmark")


def llama(seed: int, learning_rate: float, rows: int) -> Recipe:
    """The baseline's recipe: the twin, AdamW and a cosine."""
    table = {
        "name": "llama",
        "seed": seed,
        "model": model_table(llama_style(WIDTH, VOCABULARY)),
        "train": {"learning_rate": learning_rate, **_batch(rows)},
        "optimizer": {"kind": "adamw", "epsilon": 1e-8, "weight_decay": 0.1},
        "schedule": {"warmup_fraction": 0.03, "decay_fraction": 1.0, "decay_shape": "cosine", "final_ratio": 0.1},
    }
    return recipe_from_table(table, where="benchmark")


def _batch(rows: int) -> dict[str, int]:
    return {"sequence_length": LENGTH, "rows_per_step": rows, "micro_batch_rows": rows}


def without(ingredient: str, seed: int) -> tuple[Recipe, Any]:
    """Ours with one ingredient replaced by the baseline's, and its initialisation."""
    recipe, best = ours(seed), best_of_sweep()
    if ingredient == "muon":
        rate = {"learning_rate": best["learning_rate"]}
        return recipe.with_changes(optimizer={"kind": "adamw", "epsilon": 1e-8}, train=rate), None
    if ingredient == "experts":
        model = model_table(llama_style(WIDTH, VOCABULARY))
        return recipe_from_table({**recipe.model_dump(exclude={"model"}), "model": model}, where="benchmark"), None
    if ingredient == "initialization":
        return recipe, normal_initialization
    if ingredient == "embedding":
        return recipe.with_changes(optimizer={"embedding_ratio": 1.0}), None
    if ingredient == "batch":
        return recipe.with_changes(train=_batch(64)), None
    if ingredient == "schedule":
        return recipe.with_changes(schedule={"decay_fraction": 0.98, "decay_shape": "cosine", "final_ratio": 0.1}), None
    raise SystemExit(f"no ingredient {ingredient!r}; there are {', '.join(INGREDIENTS)}")


def best_of_sweep() -> dict[str, Any]:
    rows = [row for row in stored(NAME) if row["piece"] == "SWEEP"]
    if not rows:
        raise SystemExit("the baseline's sweep is not on file yet; run --only SWEEP for each learning rate first")
    return min(rows, key=lambda row: row["bits_per_byte"])


def baseline(seed: int, seconds: float, learning_rate: float, rows: int) -> dict[str, Any]:
    """One run of the twin: the number of steps is fixed from the pace of the first ones, as a cosine needs it."""
    recipe = llama(seed, learning_rate, rows)
    trainer = Trainer(recipe, prepared_text(VOCABULARY), normal_initialization)
    calibration = 12
    plan = first_plan(recipe, 10**6)
    paces = []
    while trainer.step < calibration:
        before = trainer.seconds
        trainer.advance(plan)
        paces.append(trainer.seconds - before)
    total = trainer.step + round((seconds - trainer.seconds) / statistics.fmean(paces[3:]))
    plan = first_plan(recipe, total)
    while trainer.step < total and trainer.seconds < 1.1 * seconds:
        trainer.advance(plan)
    return trainer.row()


def reached(rows: list[dict[str, Any]], target: float) -> dict[str, float] | None:
    """Seconds, tokens, FLOPs and joules at which the rows' bits per byte pass the target, between two lengths.

    Between neighbours bits per byte fall linearly with the logarithm of the cost. None where the target lies outside.
    """
    rows = sorted(rows, key=lambda row: row["seconds"])
    for first, second in itertools.pairwise(rows):
        high, low = first["bits_per_byte"], second["bits_per_byte"]
        if high >= target >= low:
            share = (high - target) / (high - low)
            return {
                key: math.exp(math.log(first[key]) + share * (math.log(second[key]) - math.log(first[key])))
                for key in COSTS
            }
    return None


def ratios(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """By seed: the baseline's cost over ours at the same bits per byte; and what ours costs without each ingredient.

    Only rows of one day are compared: the machine and the code are others on another day. Of a seed the newest day
    counts on which ours came to the baseline; a day on which it did not is told under `not_reached`.
    """
    base = sorted((row for row in rows if row["piece"] == "BASELINE"), key=lambda row: row["day"])
    report: dict[str, Any] = {"seeds": {}, "not_reached": {}, "without": {}}
    for row in base:
        seed, day = row["seed"], row["day"]
        ours_rows = [r for r in rows if r["piece"] == "OURS" and (r["seed"], r["day"]) == (seed, day)]
        mine = reached(ours_rows, row["bits_per_byte"])
        if ours_rows and min(r["bits_per_byte"] for r in ours_rows) > row["bits_per_byte"]:
            longest = {key: max(r[key] for r in ours_rows) for key in COSTS}
            bounds = {f"{key}_ratio_below": row[key] / longest[key] for key in COSTS}
            report["not_reached"][f"seed-{seed}-{day}"] = bounds
        if mine:
            report["seeds"][seed] = {
                "day": day,
                "target_bits_per_byte": row["bits_per_byte"],
                **{f"{key}_ratio": row[key] / mine[key] for key in mine},
            }
    for less in (row for row in rows if row["piece"] == "ABLATION"):
        same = [r for r in rows if r["piece"] == "OURS" and (r["seed"], r["day"]) == (less["seed"], less["day"])]
        if whole := reached(same, less["bits_per_byte"]):
            shares = {f"{key}_ratio": less[key] / whole[key] for key in whole}
            report["without"].setdefault(less["without"], {})[less["seed"]] = shares
    for key in COSTS:
        values = [seed[f"{key}_ratio"] for seed in report["seeds"].values()]
        # a mean of the seeds that came off well would flatter
        if values and len(values) == len({row["seed"] for row in base}):
            report[key] = {
                "mean": statistics.fmean(values),
                "standard_deviation": statistics.stdev(values) if len(values) > 1 else None,
                "n": len(values),
            }
    return report


def keep(piece: str, row: dict[str, Any], **labels: Any) -> None:
    row = {**row, "piece": piece, **labels, "day": date.today().isoformat(), "machine": machine()}
    keys = ("piece", "seed", "learning_rate", "tokens_per_step", "without", "planned_seconds", "day")
    store(NAME, row, keys, ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("SWEEP", "BASELINE", "OURS", "ABLATION"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", default="", help="length, or comma-separated lengths of OURS and ABLATION")
    parser.add_argument("--learning-rate", type=float, default=0.004)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--without", default="muon", choices=INGREDIENTS)
    asked = parser.parse_args()
    minutes = [float(part) for part in asked.minutes.split(",") if part]
    if asked.only == "SWEEP":
        seconds = 60 * (minutes or [2.5])[0]
        keep("SWEEP", baseline(asked.seed, seconds, asked.learning_rate, asked.rows), planned_seconds=seconds)
    elif asked.only == "BASELINE":
        best, seconds = best_of_sweep(), 60 * (minutes or [10.0])[0]
        rows = best["tokens_per_step"] // LENGTH
        keep("BASELINE", baseline(asked.seed, seconds, best["learning_rate"], rows), planned_seconds=seconds)
    elif asked.only in ("OURS", "ABLATION"):
        recipe, initialize = (ours(asked.seed), None) if asked.only == "OURS" else without(asked.without, asked.seed)
        usual = OUR_MINUTES if asked.only == "OURS" else ABLATION_MINUTES
        lengths = [60 * length for length in minutes or usual]
        labels = {} if asked.only == "OURS" else {"without": asked.without}
        say = lambda text: print(text, file=sys.stderr)  # noqa: E731
        found = branching_run(recipe, prepared_text(VOCABULARY), lengths, initialize, say)
        for row, seconds in zip(found, sorted(lengths), strict=True):
            keep(asked.only, row, planned_seconds=seconds, **labels)
    show()


def show() -> None:
    rows = stored(NAME)
    for row in rows:
        label = f"without {row['without']}" if row.get("without") else ""
        print(
            f"{row['piece']:9}{label:24} seed {row['seed']}  rate {row['learning_rate']:<7g}{row['seconds']:7.0f} s "
            f"{row['tokens']:>11,} tokens  {row['bits_per_byte']:.4f} bits per byte"
        )
    print(json.dumps({"benchmark": NAME, **ratios(rows), "rows": len(rows)}))


if __name__ == "__main__":
    main()
