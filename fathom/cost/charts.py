"""Pictures of a plan, drawn by matplotlib without a display."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fathom.cost.optimal import Lever
from fathom.cost.plan import Answer


def draw_plan(answer: Answer, path: str | Path) -> None:
    """Where the FLOPs go, what a device holds, and the tornado; SVG, PNG or PDF by the file's ending."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "fathom"  # the same picture for the same figures, byte for byte
    from matplotlib import pyplot

    figure, (flops, memory, levers) = pyplot.subplots(1, 3, figsize=(13, 4.2))
    parts = {name: value for name, value in answer.run.flops_by_component.items() if value}
    _bars(flops, {name: value / answer.run.flops for name, value in parts.items()}, "share of training FLOPs")
    placed = answer.layouts[0] if answer.layouts else None
    if placed is None:
        memory.text(0.5, 0.5, "no layout: shape unknown\nor nothing fits", ha="center", va="center")
        memory.set_axis_off()
    else:
        gigabytes = {name: value / 1e9 for name, value in placed.memory_bytes.items()}
        _bars(memory, gigabytes, f"GB a device ({placed.device.memory_gb:g} GB)")
        memory.set_title(str(placed.layout), fontsize=7)
    if answer.estimate is None:
        levers.text(0.5, 0.5, "these devices cannot hold the model:\nit has no price", ha="center", va="center")
        levers.set_axis_off()
    else:
        _tornado(levers, answer.levers, answer.estimate.cost_usd.median)
    figure.suptitle(answer.run.name or "plan")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if str(path).endswith(".svg") else None)
    pyplot.close(figure)


def _bars(axes: Any, values: dict[str, float], label: str) -> None:
    names = sorted(values, key=lambda name: values[name])
    axes.barh([name.replace("_", " ") for name in names], [values[name] for name in names], color="#1f77b4")
    axes.set_xlabel(label)


def _tornado(axes: Any, levers: list[Lever], middle: float) -> None:
    """One bar a lever, what it was changed to written at the ends, with room for it inside of the axes."""
    for row, lever in enumerate(reversed(levers)):
        (low, low_says), (high, high_says) = sorted(
            ((lever.usd_low, lever.low_says), (lever.usd_high, lever.high_says))
        )
        axes.barh(row, high - low, left=low, color="#ff7f0e")
        axes.text(low, row, f"{low_says} ", ha="right", va="center", fontsize=7)
        axes.text(high, row, f" {high_says}", ha="left", va="center", fontsize=7)
    axes.set_yticks(range(len(levers)), [lever.name for lever in reversed(levers)])
    axes.axvline(middle, color="black", linewidth=1)
    axes.set_xscale("log")
    ends = [usd for lever in levers for usd in (lever.usd_low, lever.usd_high)]
    room = (max(ends) / min(ends)) ** 0.45
    axes.set_xlim(min(ends) / room, max(ends) * room)
    axes.set_xticks([min(ends), middle, max(ends)], [_dollars(usd) for usd in (min(ends), middle, max(ends))])
    axes.minorticks_off()
    axes.set_xlabel("US dollars, one thing changed alone")


def _dollars(usd: float) -> str:
    for limit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if usd >= limit:
            return f"${usd / limit:.3g}{letter}"
    return f"${usd:.3g}"


def draw_cost_over_size(path: str | Path) -> None:
    """Cost of training dense models of every size on rented H100s, for three amounts of tokens a parameter."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "fathom"  # the same picture for the same figures, byte for byte
    from matplotlib import pyplot

    from fathom.cost.estimate import estimate
    from fathom.cost.hardware import accelerator
    from fathom.cost.run import Run

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for tokens_per_parameter, colour in ((20, "#1f77b4"), (200, "#ff7f0e"), (2000, "#2ca02c")):
        sizes = [10 ** (8 + step / 8) for step in range(33)]
        costs = [
            estimate(
                Run(
                    total_parameters=n, active_parameters=n, tokens=tokens_per_parameter * n, device=accelerator("h100")
                )
            ).cost_usd
            for n in sizes
        ]
        axes.plot(
            sizes, [cost.median for cost in costs], color=colour, label=f"{tokens_per_parameter} tokens a parameter"
        )
        axes.fill_between(sizes, [c.low for c in costs], [c.high for c in costs], color=colour, alpha=0.15)
    axes.set(xscale="log", yscale="log", xlabel="active parameters", ylabel="US dollars (80% interval), H100 rented")
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if str(path).endswith(".svg") else None)
    pyplot.close(figure)
