"""The sweeps behind the budget's choice: how held-out bits per byte fall with size and tokens, and how fast each runs.

    python -m benchmarks.scaling_sweep --width 128                  one rung of the ladder, several lengths
    python -m benchmarks.scaling_sweep --width 128 --learning-rate 0.012   a point of the learning rate sweep
    python -m benchmarks.scaling_sweep --fit                        fit the rows on file, write
    fathom/train/scaling.json

One run per rung: the stable phase goes on and a decay branches off at each length (`benchmarks/branching.py`). The law
is bits = floor + A / parameters^a + B / tokens^b, fitted in the logarithm with a robust loss; its error is that of
leaving out each rung in turn.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.branching import branching_run, prepared_text, store, stored
from benchmarks.machine import machine
from fathom.cost.flops import training_flops
from fathom.train.dial import MUON_SHARE_OF_PEAK, active_parameters, muon_flops
from fathom.train.model_table import model_table
from fathom.train.recipe import Recipe
from fathom.train.recipe_files import recipe_from_table
from fathom.train.shapes import deepseek_style

NAME = "scaling_sweep"
VOCABULARY = 8192
LENGTH = 256
SECONDS = (15.0, 30.0, 60.0)
COEFFICIENTS = Path(__file__).resolve().parent.parent / "fathom" / "train" / "scaling.json"
HUBER = 0.01  # errors of more than 1% count linearly
# Rungs and lengths at laptop size do not tell floor and exponents apart well enough to go beyond them, so both are held
# within the range of larger studies (0.28 to 0.37 in arXiv:2203.15556 and arXiv:2404.10102), with room on both sides.
EXPONENTS = (0.2, 0.5)
FLOOR = (0.4, 1.0)


def recipe(width: int, learning_rate: float, rows: int, seed: int) -> Recipe:
    table = {
        "name": f"sweep-{width}",
        "seed": seed,
        "model": model_table(deepseek_style(width, VOCABULARY)),
        "train": {
            "sequence_length": LENGTH,
            "rows_per_step": rows,
            "micro_batch_rows": rows,
            "learning_rate": learning_rate,
        },
        "optimizer": {"embedding_ratio": 5.0},
        "schedule": {"warmup_steps": 8, "decay_fraction": 0.5},
    }
    return recipe_from_table(table, where="benchmark")


def sweep(width: int, learning_rate: float, rows: int, seed: int, seconds: list[float]) -> None:
    asked = recipe(width, learning_rate, rows, seed)
    facts = {
        "parameters": active_parameters(asked.model),
        "flops_per_token": training_flops(asked.model, 1, LENGTH).total,
        "machine": machine(),
    }
    for row, length in zip(branching_run(asked, prepared_text(VOCABULARY), seconds), sorted(seconds), strict=True):
        keys = ("width", "learning_rate", "tokens_per_step", "seed", "planned_seconds")
        store(NAME, {**row, **facts, "planned_seconds": length}, keys)


# ---- the fit -------------------------------------------------------------------------------------------------------


def predict(law: np.ndarray, parameters: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    floor, log_a, a, log_b, b = law
    return floor + np.exp(log_a - a * np.log(parameters)) + np.exp(log_b - b * np.log(tokens))


def fit_law(rows: list[dict[str, Any]]) -> np.ndarray:
    """Least squares of the logarithm with Huber's loss, from several starts (the method of arXiv:2203.15556, section
    D.2).
    """
    from scipy.optimize import least_squares

    size, tokens, bits = (np.array([row[key] for row in rows]) for key in ("parameters", "tokens", "bits_per_byte"))

    def errors(law: np.ndarray) -> np.ndarray:
        return np.log(predict(law, size, tokens)) - np.log(bits)

    low, high = zip(FLOOR, (-5.0, 15.0), EXPONENTS, (-5.0, 15.0), EXPONENTS, strict=True)
    starts = [(0.6, a * 14, a, b * 14, b) for a in (0.25, 0.35, 0.45) for b in (0.25, 0.35, 0.45)]
    found = [least_squares(errors, start, bounds=(low, high), loss="huber", f_scale=HUBER) for start in starts]
    return min(found, key=lambda result: result.cost).x


def leave_one_rung_out(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Relative errors on each rung, predicted from the others."""
    errors: list[float] = []
    for width in sorted({row["width"] for row in rows}):
        law = fit_law([row for row in rows if row["width"] != width])
        for row in (row for row in rows if row["width"] == width):
            expected = predict(law, np.array(row["parameters"]), np.array(row["tokens"]))
            errors.append(abs(float(expected) / row["bits_per_byte"] - 1))
    return {"median": float(np.median(errors)), "largest": max(errors)}


def fit_efficiency(rows: list[dict[str, Any]]) -> dict[str, float]:
    """share of peak = limit * work / (work + half), with work in FLOPs a token; log-linear least squares on a grid."""
    from scipy.optimize import least_squares

    work = np.array([row["flops_per_token"] for row in rows])
    peak = np.array([row["machine"]["bf16_peak_gflops"] * 1e9 for row in rows])
    muon = np.array([row["steps"] * muon_flops(deepseek_style(row["width"], VOCABULARY)) for row in rows])
    seconds = np.array([row["seconds"] for row in rows]) - muon / (MUON_SHARE_OF_PEAK * peak)
    share = np.array([row["flops"] for row in rows]) / seconds / peak

    def errors(law: np.ndarray) -> np.ndarray:
        return np.log(np.exp(law[0]) * work / (work + np.exp(law[1]))) - np.log(share)

    found = least_squares(errors, (math.log(0.4), math.log(1e7)), bounds=((-5, 10), (0, 22)))
    return {
        "limit": float(np.exp(found.x[0])),
        "half_flops_per_token": float(np.exp(found.x[1])),
        "median_error": float(np.median(np.abs(np.expm1(found.fun)))),
    }


def best_rates(rows: list[dict[str, Any]]) -> dict[int, float]:
    """The best learning rate of each width at its longest common length."""
    best = {}
    for width in sorted({row["width"] for row in rows}):
        mine = [row for row in rows if row["width"] == width]
        longest = max(row["planned_seconds"] for row in mine)
        best[width] = min((r for r in mine if r["planned_seconds"] == longest), key=lambda r: r["bits_per_byte"])[
            "learning_rate"
        ]
    return best


def fit() -> dict[str, Any]:
    rows = stored(NAME)
    rates = best_rates(rows)
    usual = Counter(row["learning_rate"] for row in rows).most_common(1)[0][0]
    ladder = [row for row in rows if row["learning_rate"] == usual]
    if len({row["width"] for row in ladder}) < 4:
        raise SystemExit("too few rungs on file to fit: at least four widths at one learning rate are needed")
    floor, log_a, a, log_b, b = fit_law(ladder)
    law = {
        "floor": floor,
        "parameters": math.exp(log_a),
        "parameters_exponent": a,
        "tokens": math.exp(log_b),
        "tokens_exponent": b,
    }
    written = json.loads(COEFFICIENTS.read_text())
    written |= {
        "provisional": False,
        "source": f"benchmarks/results/{NAME}.json, fitted by python -m benchmarks.{NAME} --fit",
        "law": law,
        "efficiency": fit_efficiency(ladder),
        "range": {
            "flops": [min(row["flops"] for row in ladder), max(row["flops"] for row in ladder)],
            "width": [min(row["width"] for row in ladder), max(row["width"] for row in ladder)],
        },
        "error": leave_one_rung_out(ladder),
        "best_learning_rate_by_width": {str(width): rate for width, rate in rates.items()},
    }
    COEFFICIENTS.write_text(json.dumps(written, indent=1) + "\n")
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int)
    parser.add_argument("--learning-rate", type=float, default=0.012)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", default="", help="comma-separated lengths of training")
    parser.add_argument("--fit", action="store_true")
    asked = parser.parse_args()
    if asked.width:
        seconds = [float(part) for part in asked.seconds.split(",") if part] or list(SECONDS)
        sweep(asked.width, asked.learning_rate, asked.rows, asked.seed, seconds)
    for row in stored(NAME):
        print(
            f"width {row['width']:4}  rate {row['learning_rate']:<7g}{row['tokens_per_step']:6} a step "
            f"{row['seconds']:6.1f} s "
            f"{row['tokens']:>10,} tokens  {row['flops'] / row['seconds'] / 1e9:5.0f} GFLOP/s  "
            f"{row['bits_per_byte']:.4f}"
        )
    print(json.dumps({"benchmark": NAME, "rows": len(stored(NAME)), "fit": fit() if asked.fit else None}))


if __name__ == "__main__":
    main()
