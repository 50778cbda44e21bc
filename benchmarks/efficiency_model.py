"""Fit the efficiency model on the claims on file and judge it on developers left out.

`python -m benchmarks.efficiency_model` prints the table and, on the last line, one JSON document;
`--write` also renews `fathom/cost/efficiency.toml`, the pictures and the tables of
`docs/efficiency-model.md` and `benchmarks/results/efficiency_model.json`.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from fathom.cost.calibration import PRIOR_SD, Fit, HeldOut, Row, fit, leave_one_group_out, score
from fathom.cost.charts import draw_cost_over_size
from fathom.cost.claimed_run import run_of
from fathom.cost.claims import all_on_file
from fathom.cost.efficiency import FEATURES

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "efficiency-model.md"
# Not learned from: where the stated tokens are not the work (a teacher ran beside a student that began as a pruned
# model; a fine-tuning whose tokens are not told is in the hours), and where the hours are not their maker's of the run
# (devices assumed, a plan's ideal days, steps without the rest, a window on the calendar that holds the run). And the
# newest runs: they are held out until newer ones come, so that there is always a check that the fit has not seen.
NOT_LEARNED_FROM = {
    "distillation-and-pruning", "hours-beyond-tokens", "count-assumed", "ideal-days", "steps-only", "upper-bound-hours",
    "held-out",
}  # fmt: skip


def published_rows() -> list[Row]:
    """Every real run on file with parameters, tokens, device and hours. Claims about others carry no tier."""
    rows = []
    for claim in all_on_file():
        found = run_of(claim) if any(flag.startswith("tier-") for flag in claim.flags) else None
        if found is None or found[1] is None or claim.kind != "training":
            continue
        learn = not NOT_LEARNED_FROM & set(claim.flags)
        rows.append(Row(claim.id, claim.made_by, claim.family, found[0], found[1], learn))
    return rows


def evaluate(rows: list[Row]) -> dict[str, Any]:
    """Leave-one-out by developer and by model family, over all runs, the learnable ones and the 35 of the start."""
    scores = {}
    for group in ("developer", "family"):
        held = leave_one_group_out(rows, group)
        scores[group] = {
            "all": score(held),
            "learned_from": score([one for one in held if one.row.fit]),
            "hours_stated_to_a_tenth": score([one for one in held if _tier_a(one)]),
            "first_35": score([one for one in held if one.row.claim in first_35()]),
        }
    return scores


def _tier_a(one: HeldOut) -> bool:
    return "tier-a" in next(claim.flags for claim in all_on_file() if claim.id == one.row.claim)


def first_35() -> set[str]:
    """The runs that the project began with: flagged so nowhere, hence by name."""
    return set(json.loads((ROOT / "benchmarks" / "efficiency_first_runs.json").read_text()))


def table(held: list[HeldOut]) -> list[str]:
    lines = [
        "| run | developer | device | stated hours | predicted, developer left out | 80% interval | error |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for one in sorted(held, key=lambda one: one.row.claim):
        low, middle, high = (written_hours(hours) for hours in one.hours)
        mark, missed = "" if one.row.fit else " *", "" if one.covered else " (missed)"
        lines.append(
            f"| {one.row.claim}{mark} | {one.row.developer} | {one.row.run.device.name} "
            f"| {written_hours(one.row.device_hours)} | {middle} | {low} to {high}{missed} "
            f"| {one.relative_error:+.0%} |"
        )
    return lines


def written_hours(value: float) -> str:
    """Three digits, more only where they are before the point."""
    digits = max(0, 2 - math.floor(math.log10(value)))
    return f"{round(value, digits - 1 if value >= 1000 else digits):,.{0 if value >= 100 else 1}f}"


def coefficients(model: Fit) -> list[str]:
    lines = ["| feature | factor on utilisation | 80% interval |", "| --- | ---: | ---: |"]
    for i, name in enumerate(FEATURES):
        value, sd = model.coefficients[i], math.sqrt(model.covariance[i][i])
        low, high = (math.exp(value + sign * 1.2816 * sd) for sign in (-1, 1))
        lines.append(f"| {name} | {math.exp(value):.3f} | {low:.3f} to {high:.3f} |")
    return lines


def write(rows: list[Row], model: Fit, held: list[HeldOut], scores: dict[str, Any]) -> None:
    document = {
        "coefficients": {name: float(model.coefficients[i]) for i, name in enumerate(FEATURES)},
        "covariance": [[float(value) for value in row] for row in model.covariance],
        "log_sd": model.log_sd,
        "median_error": model.median_error,
        "error_low": model.error_low,
        "error_high": model.error_high,
        "count_model": model.count_model,
        "developers": model.developers,
        "most_devices": max(row.run.count for row in rows),
        "longest_days": max(row.device_hours / row.run.count / 24 for row in rows if row.run.count),
        "scores": scores["developer"]["all"],
        "run": [
            {
                "claim": one.row.claim,
                "developer": one.row.developer,
                "device": one.row.run.device.name,
                "utilisation": math.exp(one.row.log_utilisation),
                **dict(zip(("predicted_low", "predicted", "predicted_high"), one.predicted, strict=True)),
            }
            for one in sorted(held, key=lambda one: one.row.claim)
        ],
    }
    text = "# Written by `python -m benchmarks.efficiency_model --write`, not to be edited.\n"
    (ROOT / "fathom/cost/efficiency.toml").write_text(text + tomli_w.dumps(document), encoding="utf-8")
    results = {"scores": scores, "runs": len(rows), "developers": len({row.developer for row in rows})}
    (ROOT / "benchmarks/results/efficiency_model.json").write_text(json.dumps(results, indent=1) + "\n")
    plot(held, ROOT / "docs/efficiency-model.svg")
    draw_cost_over_size(ROOT / "docs/cost-over-size.svg")
    if PAGE.exists():
        renew_page(model, held, scores)


def renew_page(model: Fit, held: list[HeldOut], scores: dict[str, Any]) -> None:
    """Put the generated tables between their marks on the page."""
    lines = [
        "| left out | runs | median absolute error | coverage | median high / low |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for group, parts in scores.items():
        for name, s in parts.items():
            lines.append(
                f"| one {group} | {name.replace('_', ' ')} ({s['runs']}) | {s['median_absolute_error']:.0%} "
                f"| {s['coverage_of_80_percent']:.0%} | {s['median_high_over_low']:.2f} |"
            )
    spread = (
        f"Standard deviation of the logarithm: {model.between_sd:.2f} between developers, {model.within_sd:.2f} "
        f"between runs of one; {model.developers} developers; 80% of errors from {math.exp(model.error_low):.2f} to "
        f"{math.exp(model.error_high):.2f} times the median; typical devices = "
        f"{math.exp(model.count_model[0]):.0f} x (device-hours / 100,000)^{model.count_model[1]:.2f}."
    )
    parts = {"scores": lines, "coefficients": [*coefficients(model), "", spread], "runs": table(held)}
    text = PAGE.read_text(encoding="utf-8")
    for name, generated in parts.items():
        text = fill(text, name, generated)
    PAGE.write_text(text, encoding="utf-8")


def fill(text: str, name: str, generated: list[str]) -> str:
    """`text` with the lines `generated` between the marks of `name`."""
    block = f"<!-- {name}: generated -->\n" + "\n".join(generated) + f"\n<!-- end of {name} -->"
    text, found = re.subn(rf"<!-- {name}: generated -->.*?<!-- end of {name} -->", lambda _: block, text, flags=re.S)
    if not found:
        raise SystemExit(f"{PAGE} lacks the marks for '{name}'")
    return text


def plot(held: list[HeldOut], path: Path) -> None:
    """Stated against predicted hours, each with its developer left out."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "fathom"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.2, 5.4))
    for label, colour, chosen in (
        ("A100 and older", "#1f77b4", [o for o in held if o.row.run.peak_flops < 600e12]),
        ("H100, H800 and newer", "#d62728", [o for o in held if o.row.run.peak_flops >= 600e12]),
    ):
        stated = np.array([one.row.device_hours for one in chosen])
        low, middle, high = (np.array([one.hours[i] for one in chosen]) for i in range(3))
        axes.errorbar(
            stated,
            middle,
            yerr=[middle - low, high - middle],
            fmt="o",
            markersize=4,
            linewidth=0.8,
            color=colour,
            label=label,
        )
    ends = [min(one.row.device_hours for one in held) / 2, max(one.row.device_hours for one in held) * 2]
    axes.plot(ends, ends, color="black", linewidth=1, label="stated = predicted")
    axes.set(
        xscale="log", yscale="log", xlabel="device-hours as stated", ylabel="device-hours predicted (80% interval)"
    )
    axes.set_title("Published runs, each predicted without its developer")
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="renew the coefficients, the page and the plot")
    arguments = parser.parse_args()
    rows = published_rows()
    model, scores = fit(rows), evaluate(rows)
    held = leave_one_group_out(rows)
    print("\n".join([*coefficients(model), "", *table(held), ""]))
    for group, parts in scores.items():
        for name, values in parts.items():
            print(group, name, json.dumps({key: round(value, 3) for key, value in values.items()}))
    if arguments.write:
        write(rows, model, held, scores)
    print(json.dumps({"scores": scores, "features": list(FEATURES), "prior_sd": PRIOR_SD}))


if __name__ == "__main__":
    sys.exit(main())
