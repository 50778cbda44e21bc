"""The docket's charts, as static SVG: a claim among the published runs, what its price leaves out, cost over size.

Matplotlib is imported only here and only when a chart is drawn.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fathom.cost.docket import Row
from fathom.cost.omissions import Line
from fathom.cost.say import count, share, usd
from fathom.cost.verdict import Trial
from fathom.cost.verdict_words import Verdict

COLOURS = {
    Verdict.CONSISTENT: "#1d6b3a",
    Verdict.IMPLAUSIBLE: "#b87500",
    Verdict.IMPOSSIBLE: "#a3201d",
    Verdict.CANNOT_BE_TOLD: "#4a5568",
}
SOFT, BAND = "#8a939e", "#f4dcdb"
# Narrow enough to be read on a phone without turning it.
WIDTH_INCHES = 5.4


@dataclass(frozen=True)
class Chart:
    """`svg` goes into a page as it is; `caption` says in words what it shows."""

    svg: str
    caption: str


def _figure(height: float) -> tuple[Any, Any]:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"font.size": 12, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
        return figure, figure.add_subplot()


def _svg(figure: Any, title: str) -> str:
    """The figure without what differs from run to run (date, random identifiers) and without an XML head."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    salt = re.sub(r"\W+", "-", title)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": salt, "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Identifiers must not clash where two charts stand on one page.
    text = re.sub(r'(id="|"#|url\(#)', lambda match: match.group(1) + salt + "-", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{_plain(title)}" ', 1)


def _plain(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")


def among_runs(trial: Trial) -> Chart | None:
    """Utilisation of the claim among those of the published runs, and the hardware's limit. None without hours, or
    where what it stands on is assumed."""
    found, runs = trial.physics, trial.runs
    if found is None or trial.missing:
        return None
    figure, axes = _figure(2.5)
    limit = found.limit_flops / found.peak_flops
    heights = [0.15 + 0.7 * ((i * 7) % 11) / 10 for i in range(len(runs.values))]
    axes.scatter(
        [100 * v for v in runs.values], heights, s=26, color=SOFT, alpha=0.75, linewidths=0, label="published runs"
    )
    axes.axvline(100 * found.utilisation, color=COLOURS[trial.verdict], linewidth=2.5, label="this claim")
    end = max(1.08 * limit, 1.2 * found.utilisation)
    axes.axvspan(100 * limit, 100 * end, color=BAND, label=f"impossible ({found.limit_precision} peak)")
    axes.set(
        xlim=(0, 100 * end), ylim=(0, 1.05), yticks=[], xlabel="share of the accelerator's 16-bit peak, in percent"
    )
    axes.spines["left"].set_visible(False)
    figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=11, handlelength=1.2, columnspacing=1)
    caption = (
        f"This claim: {share(found.utilisation)} of the 16-bit peak. {len(runs.values)} published runs: "
        f"{share(runs.values[0])} to {share(runs.values[-1])}. The limit of {found.device.title} in "
        f"{found.limit_precision}: {share(limit)}. Height has no meaning."
    )
    return Chart(_svg(figure, f"{trial.claim.id}: utilisation among published runs"), caption)


def left_out(trial: Trial) -> Chart | None:
    """The price and what it leaves out, in dollars on a logarithmic axis. None without a price."""
    ledger = trial.omissions
    lines = [line for line in ledger.lines if line.low_usd is not None and line.high_usd]
    if not ledger.price_usd or not lines:
        return None
    figure, axes = _figure(1.0 + 0.5 * (len(lines) + 1))
    floor = _floor(ledger.price_usd, lines)
    names = ["the price itself"]
    axes.plot(ledger.price_usd, 0, "o", color=COLOURS[Verdict.CONSISTENT], markersize=9)
    for place, line in enumerate(lines, start=1):
        low, high = line.low_usd or floor, line.high_usd or 0
        colour = "#0b4f8a" if line.omission.adds else SOFT
        if not line.low_usd:  # nothing has no place on such an axis: the bar runs out of it, with an open end
            axes.plot(low, place, marker="<", color=colour, markersize=11, clip_on=False)
        axes.plot([low, high], [place, place], color=colour, linewidth=7 if high > low else 0, solid_capstyle="butt")
        if high == low:
            axes.plot(high, place, "D", color=colour, markersize=6)
        name = _folded(line.omission.name if line.omission.adds else f"{line.omission.name} *")
        names.append(name if line.low_usd else f"{name}\n(from \\$0)")  # a plain dollar would begin a formula
    right = max([ledger.price_usd, *(line.high_usd or 0 for line in lines)])
    axes.set(
        xscale="log",
        xlim=(floor, right * (right / floor) ** 0.05),
        yticks=range(len(names)),
        ylim=(len(names) - 0.5, -0.6),
        xlabel="US dollars (each mark ten times the last)",
    )
    axes.xaxis.set_major_formatter(lambda value, _: _short(value))
    axes.set_yticklabels(names, fontsize=11)
    axes.axvline(ledger.price_usd, color=COLOURS[Verdict.CONSISTENT], linewidth=0.8, linestyle=":")
    axes.grid(axis="x", color="#e6e9ec", linewidth=0.7)
    axes.set_axisbelow(True)
    caption = (
        f"The price ({usd(ledger.price_usd)}) and what it leaves out, as ranges from published accounts. "
        f"* is not added to it."
    )
    if any(not line.low_usd for line in lines):
        caption += " An arrow at the left edge: from $0, which has no place on an axis of tens."
    return Chart(_svg(figure, f"{trial.claim.id}: what the price leaves out"), caption)


def _floor(price_usd: float, lines: Sequence[Line]) -> float:
    """The left edge of the axis: a third of the least figure that is above zero."""
    ends = [end for line in lines for end in (line.low_usd, line.high_usd) if end]
    return min([price_usd, *ends]) / 3


def _short(dollars: float) -> str:
    """$10k, $1M, $1bn: short enough for the marks of an axis on a phone."""
    for size, sign in ((1e9, "bn"), (1e6, "M"), (1e3, "k")):
        if dollars >= size:
            return f"${dollars / size:g}{sign}"
    return f"${dollars:g}"


def _folded(name: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(name, 20))


# Claims named in the chart of costs (the best known, spread over sizes) and where the name stands, in points.
NAMED = {
    "deepseek-v3": ("DeepSeek-V3", -5, 4), "llama-3.1-405b": ("Llama 3.1 405B", -5, 4), "gpt-3": ("GPT-3", 5, -10),
    "palm-540b": ("PaLM", 5, 3), "llmc-gpt2-124m": ("GPT-2 124M (llm.c)", 5, 3), "smollm3-3b": ("SmolLM3", -5, 3),
    "v4-5.2m-leak": ("V4 leak", 5, 2), "r1-294k-model": ("R1 headline", 5, -9), "phi-4": ("Phi-4", -5, 3),
    "llama-4-scout": ("Llama 4 Scout", -5, 6),
}  # fmt: skip


def cost_over_size(rows: Sequence[Row]) -> Chart:
    """Price of the training over the weights at work, both logarithmic, coloured by verdict."""
    figure, axes = _figure(4.2)
    shown = [row for row in rows if row.kind == "training" and row.cost_usd and row.active_parameters]
    for verdict in Verdict:
        mine = [row for row in shown if row.verdict is verdict]
        if mine:
            xs, ys = [row.active_parameters for row in mine], [row.cost_usd for row in mine]
            axes.scatter(xs, ys, s=26, color=COLOURS[verdict], label=str(verdict), alpha=0.8, linewidths=0)
    for row in shown:
        if row.id in NAMED:
            name, right, up = NAMED[row.id]
            side = "left" if right > 0 else "right"
            at = (row.active_parameters, row.cost_usd)
            axes.annotate(name, at, (right, up), textcoords="offset points", fontsize=9.5, ha=side)
    axes.set(xscale="log", yscale="log", xlabel="weights that work on one token", ylabel="US dollars")
    axes.xaxis.set_major_formatter(lambda value, _: count(value))
    axes.yaxis.set_major_formatter(lambda value, _: usd(value).removesuffix(".00"))
    axes.grid(color="#e6e9ec", linewidth=0.7)
    axes.set_axisbelow(True)
    figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=11)
    caption = (
        f"{len(shown)} training claims: the stated price, or the stated hours at the rent of their time or the "
        f"nearest on file, over the "
        f"weights that work on one token. Tokens differ widely, so size alone does not decide."
    )
    return Chart(_svg(figure, "cost of training over model size"), caption)
