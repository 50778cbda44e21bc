"""What the efficiency model is worth if its effects are chosen anew each time, without the developer that is predicted.

`python -m benchmarks.efficiency_choice` prints the scores and, on the last line, one JSON document, which `--write`
keeps in `benchmarks/results/efficiency_choice.json`. For each developer left out, every set of effects and strength of
the priors below is judged by leaving out each of the *other* developers in turn; the best one then predicts the
developer left out. So choosing is part of what is judged: the scores of `benchmarks.efficiency_model` are not.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.efficiency_model import published_rows
from fathom.cost.calibration import HeldOut, Row, fit, score
from fathom.cost.efficiency import FEATURES

RESULTS = Path(__file__).resolve().parent / "results" / "efficiency_choice.json"
ALWAYS = ("one", "fast_device", "fp8")
SETS = tuple(
    tuple(name for name in FEATURES if name in ALWAYS or name in chosen)
    for chosen in (
        (),
        ("size",),
        ("scale",),
        ("thin_on_fast", "scale"),
        ("size", "thin_on_fast", "scale"),
        ("thin_on_fast", "scale", "few_tokens"),
        ("size", "thin_on_fast", "scale", "few_tokens"),
    )
)
PRIORS = (0.1, 0.3, 1.4)
COARSE = np.arange(0.1, 0.51, 0.1)  # choosing needs no fine grid of the two deviations

Choice = tuple[tuple[str, ...], float]


def error_without_developers(rows: Sequence[Row], choice: Choice) -> float:
    """Mean absolute error of log hours over `rows`, each developer predicted without it."""
    errors: list[float] = []
    for name in sorted({row.developer for row in rows}):
        model = fit([row for row in rows if row.developer != name], *choice, COARSE)
        errors += [_log_error(HeldOut(row, model.predict(row.run))) for row in rows if row.developer == name]
    return float(np.mean(errors))


def _log_error(one: HeldOut) -> float:
    return abs(float(np.log(one.hours[1] / one.row.device_hours)))


def nested(rows: Sequence[Row], choices: Sequence[Choice]) -> tuple[list[HeldOut], Counter[str]]:
    """Every run predicted by the choice that was best without its developer; how often each choice was taken."""
    held: list[HeldOut] = []
    taken: Counter[str] = Counter()
    for name in sorted({row.developer for row in rows}):
        others = [row for row in rows if row.developer != name]
        best = min(choices, key=lambda choice: error_without_developers(others, choice))
        taken[f"{' + '.join(best[0][1:])}, prior {best[1]:g}"] += 1
        model = fit(others, *best)
        held += [HeldOut(row, model.predict(row.run)) for row in rows if row.developer == name]
    return held, taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep the result")
    arguments = parser.parse_args()
    rows = published_rows()
    held, taken = nested(rows, [(effects, sd) for effects in SETS for sd in PRIORS])
    document: dict[str, Any] = {
        "scores": score(held) | {"mean_absolute_log_error": float(np.mean([_log_error(one) for one in held]))},
        "taken": dict(taken.most_common()),
        "choices": len(SETS) * len(PRIORS),
    }
    for name, value in document["scores"].items():
        print(f"{name}: {value:.3g}")
    if arguments.write:
        RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
