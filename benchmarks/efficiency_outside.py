"""What the efficiency model said of published runs before it learned from them: unlike its scores, no choice saw it.

`python -m benchmarks.efficiency_outside` prints the table and, on the last line, one JSON document. `--record` first
predicts every run on file that is not among the runs of `fathom/cost/efficiency.toml`, and keeps the prediction in
`benchmarks/results/efficiency_outside.json`, with the coefficients that made it. It is to be run when claims were added
and before `python -m benchmarks.efficiency_model --write` scores them. A run that is recorded keeps its first
prediction, however often the model is fitted or changed afterwards. The newest runs stay held out
(the flag of that name in their claims) until newer ones are recorded.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

from benchmarks.efficiency_model import PAGE, fill, published_rows, written_hours
from fathom.cost.calibration import HeldOut, Row, score
from fathom.cost.efficiency import fitted, predict

RESULTS = Path(__file__).resolve().parent / "results" / "efficiency_outside.json"
FIT = ("coefficients", "covariance", "log_sd", "median_error", "error_low", "error_high", "count_model")


def recorded() -> dict[str, Any]:
    """The file of results; empty where nothing was recorded yet."""
    empty: dict[str, Any] = {"fits": {}, "scores": {}, "runs": []}
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else empty


def record(document: dict[str, Any]) -> dict[str, Any]:
    """`document` with a prediction of every run that the coefficients on file have not seen."""
    seen = {row["claim"] for row in fitted()["run"]} | {row["claim"] for row in document["runs"]}
    new = [row for row in published_rows() if row.claim not in seen]
    learned = [row for row in published_rows() if row.claim in {run["claim"] for run in fitted()["run"]} and row.fit]
    rows = [*document["runs"], *(_record(row, learned) for row in new)]
    rows.sort(key=lambda row: (row["fitted_on"], row["claim"]))
    fits = document["fits"] | ({_fitted_on(): {key: fitted()[key] for key in FIT}} if new else {})
    return {"fits": fits, "scores": scores(rows), "runs": rows}


def _fitted_on() -> str:
    return f"{len(fitted()['run'])} runs"


def _record(row: Row, learned: list[Row]) -> dict[str, Any]:
    hours = predict(row.run).device_hours(row.run)
    return {
        "claim": row.claim,
        "developer": row.developer,
        "developer_known": row.developer in {one.developer for one in learned},
        "device": row.run.device.name,
        "device_known": row.run.device.name in {one.run.device.name for one in learned},
        "stated": row.device_hours,
        "low": hours.low,
        "median": hours.median,
        "high": hours.high,
        "fitted_on": _fitted_on(),
    }


def scores(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """By which fit, and by whether it had learned from a run of that developer, of that device."""
    parts = {"all": rows}
    for fit in sorted({row["fitted_on"] for row in rows}):
        parts[f"by_the_fit_on_{fit.replace(' ', '_')}"] = [row for row in rows if row["fitted_on"] == fit]
    for what in ("developer", "device"):
        for known, word in ((True, "known"), (False, "new")):
            parts[f"{what}_{word}"] = [row for row in rows if row[f"{what}_known"] is known]
    return {name: _score(part) for name, part in parts.items() if part}


def _score(rows: list[dict[str, Any]]) -> dict[str, float]:
    by_name = {row.claim: row for row in published_rows()}
    held = []
    for row in rows:
        run = by_name[row["claim"]].run
        held.append(
            HeldOut(by_name[row["claim"]], tuple(run.utilisation(row[end]) for end in ("high", "median", "low")))
        )
    factors = sorted(abs(math.log(one.hours[1] / one.row.device_hours)) for one in held)
    middle = (factors[(len(factors) - 1) // 2] + factors[len(factors) // 2]) / 2
    return score(held) | {"median_factor": math.exp(middle)}


def table(document: dict[str, Any]) -> list[str]:
    """For the page: the scores, then every run."""
    lines = [
        "| runs not on file when predicted | runs | median absolute error | off by a factor of, in the median "
        "| coverage | median high / low |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, s in document["scores"].items():
        lines.append(
            f"| {name.replace('_', ' ')} | {s['runs']} | {s['median_absolute_error']:.0%} | {s['median_factor']:.2f} "
            f"| {s['coverage_of_80_percent']:.0%} | {s['median_high_over_low']:.2f} |"
        )
    lines += [
        "",
        "| run | developer | device | stated hours | predicted | 80% interval | error | by a fit on |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in document["runs"]:
        low, middle, high = (written_hours(row[end]) for end in ("low", "median", "high"))
        missed = "" if row["low"] <= row["stated"] <= row["high"] else " (missed)"
        lines.append(
            f"| {row['claim']} | {row['developer']} | {row['device']} | {written_hours(row['stated'])} | {middle} "
            f"| {low} to {high}{missed} | {row['median'] / row['stated'] - 1:+.0%} | {row['fitted_on']} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true", help="predict the runs not learned from yet and keep that")
    document = recorded()
    if parser.parse_args().record:
        document = record(document)
        RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        PAGE.write_text(fill(PAGE.read_text(encoding="utf-8"), "outside", table(document)), encoding="utf-8")
    print("\n".join(table(document)))
    print(json.dumps(document["scores"]))


if __name__ == "__main__":
    sys.exit(main())
