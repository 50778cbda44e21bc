"""A planned run as regulators count it, in the terms of a receipt: the final run's compute, all of it, and their total.

A plan knows one training and nothing of what failed or was tried on the way. That is put on top as published accounts
have it (the ledger of what a price leaves out, `claims/omissions.toml`), hours taken for operations: an order of size.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fathom.cost.omissions import of_every_run
from fathom.cost.regulators import Compute, architecture_way, hardware_way, totals
from fathom.cost.run import Run

# Lines of the ledger that are computing, by the purpose under which a receipt would have them.
COMPUTING = {"Research and ablations": "ablation", "Failures, restarts, idle machines": "failed"}
KNOWN = "a plan knows the training alone: fine-tuning and making training data by models would count too"


def of_run(run: Run, device_hours: float) -> dict[str, Any]:
    """`final_run`, `regulators`, `all` and `not_counted` as in a receipt, and the Annex's two ways beside the count.

    A plan has no measured U: it is the count over N L H, so that the hardware way is the count again. Only a run that
    has happened, with metered hours and a measured U, has a hardware way of its own.
    """
    hardware = hardware_way(1.0, device_hours * 3600, run.peak_flops, min(run.utilisation(device_hours), 1.0))
    hardware = replace(
        hardware, method=f"{hardware.method}; U computed from `counted`, so it equals that and checks nothing"
    )
    architecture = architecture_way(run.active, run.tokens)
    return {
        **_totals(run),
        "hardware_way": hardware.to_dict(),
        "architecture_way": architecture.to_dict(),
        "counted": Compute(run.flops, run.flops_method).to_dict(),
        "ways_agree_within_margin": architecture.low <= hardware.flops <= architecture.high,
    }


def _totals(run: Run) -> dict[str, Any]:
    """As of a receipt, twice: with the least and with the most that published accounts have beside the final run."""
    least, most = (
        totals({"final": run.flops} | {purpose: share * run.flops for purpose, share in beside.items()})
        for beside in _beside()
    )
    ends = {"low": least["all"]["value"], "high": most["all"]["value"]}
    counted = most["regulators"]
    return {
        "final_run": most["final_run"] | {"method": run.flops_method},
        "regulators": counted,
        "known": KNOWN,
        "all": ends | {"unit": "FLOP", "method": _how()},
        "not_counted": most["not_counted"],
    }


def _lines() -> list[Any]:
    return [line for line in of_every_run() if line.name in COMPUTING]


def _beside() -> tuple[dict[str, float], dict[str, float]]:
    """Shares of the final run by purpose, the least and the most."""
    rows = _lines()
    return {COMPUTING[row.name]: row.low for row in rows}, {COMPUTING[row.name]: row.high for row in rows}


def _how() -> str:
    rows = "; ".join(f"{row.name[0].lower() + row.name[1:]} {row.low:g} to {row.high:g} times" for row in _lines())
    return f"the final run and, beside it, in hours of published accounts taken for operations, idle ones too: {rows}"
