"""Trials and the docket as text: for the terminal and as Markdown to paste into an article."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence

from fathom.cost.docket import Row
from fathom.cost.docket_sections import Section, sections
from fathom.cost.say import count, share, usd
from fathom.cost.verdict import Trial

MARKS = {"consistent": "+", "implausible": "?", "impossible": "x", "cannot be told": "-"}
NARROWEST, WIDEST = 60, 110
NOT_STATED = "A price with ~ is not stated: the hours at the rent of the time, or the nearest on file (see the claim)."
SHORT = 40  # a cell up to this length shares its line with the next


def as_text(trial: Trial, width: int) -> str:
    """The whole trial for a terminal of `width` columns."""
    width = max(NARROWEST, min(width, WIDEST))
    claim = trial.claim
    head = [
        *textwrap.wrap(claim.title, width),
        f"{claim.made_by}, {claim.date}. Claim '{claim.id}'.",
        "",
        f"    {str(trial.verdict).upper()}",
    ]
    return "\n".join([*head, *(line for section in sections(trial) for line in _section_text(section, width))])


def _section_text(section: Section, width: int) -> Iterator[str]:
    yield ""
    yield section.title.upper()
    for text in section.paragraphs:
        yield from textwrap.wrap(text, width, initial_indent="  ", subsequent_indent="  ")
    for mark, text in section.bullets:
        yield from textwrap.wrap(text, width, initial_indent=f"  {MARKS.get(mark, '-')} ", subsequent_indent="    ")
    for row in section.rows:
        yield from _row_text(_labelled(row, section.header) if section.labelled else row, width)
    for source in section.links:
        yield from textwrap.wrap(f"[{source.id}] {source.title}", width, initial_indent="  ", subsequent_indent="    ")
        yield f"    {source.url}"


def _labelled(row: Sequence[str], header: Sequence[str]) -> tuple[str, ...]:
    """Name and values in one line, each value with the name of its column: "slow 21.6%; usual 33.1%"."""
    cells = [f"{name} {cell}" for name, cell in zip(header[1:], row[1:], strict=True) if cell]
    return row[0], "; ".join(cells)


def _row_text(row: Sequence[str], width: int) -> Iterator[str]:
    """A row as a line with its value, the rest wrapped under it."""
    name, value, *rest = row
    yield from textwrap.wrap(f"{name}: {value}", width, initial_indent="  ", subsequent_indent="    ")
    texts = [text for text in rest if text]
    if texts and len(texts[0]) < SHORT:
        texts = ["; ".join(texts)]
    for text in texts:
        yield from textwrap.wrap(text, width, initial_indent="      ", subsequent_indent="      ")


def as_markdown(trial: Trial) -> str:
    """The verdict ready to paste: headings, tables and links."""
    claim = trial.claim
    head = [
        f"# {_escape(claim.title)}",
        "",
        f"**Verdict: {trial.verdict}.** {_escape(claim.made_by)}, {claim.date}.",
    ]
    return "\n".join([*head, *(line for section in sections(trial) for line in _section_markdown(section))]) + "\n"


def _section_markdown(section: Section) -> Iterator[str]:
    yield from ("", f"## {section.title}", "")
    for text in section.paragraphs:
        yield from (_escape(text), "")
    for mark, text in section.bullets:
        yield f"- {f'*{mark}*: ' if mark else ''}{_escape(text)}"
    if section.rows:
        yield "| " + " | ".join(section.header) + " |"
        yield "|" + " --- |" * len(section.header)
        for row in section.rows:
            yield "| " + " | ".join(_escape(cell) for cell in row) + " |"
    for source in section.links:
        note = f" ({_escape(source.note)})" if source.note else ""
        yield f"- [{_escape(source.title)}]({source.url.replace(')', '%29')}){note}"


def _escape(text: str) -> str:
    """Signs that Markdown would read as marks; what stands between backticks is code there as here."""
    parts = re.split(r"(`[^`\n|]+`)", text)
    return "".join(
        part if number % 2 else re.sub(r"([\\`*_\[\]<>|$])", r"\\\1", part) for number, part in enumerate(parts)
    ).replace("\n", " ")


def list_text(rows: Sequence[Row], width: int) -> str:
    """The docket as a table for the terminal."""
    lines = [f"{'verdict':15} {'claim':26} {'hours':>13} {'of peak':>8} {'price':>15}  title"]
    for row in rows:
        price = ("" if row.cost_is_stated else "~") + usd(row.cost_usd) if row.cost_usd is not None else ""
        lines.append(
            f"{row.verdict:15} {row.id:26} {count(row.device_hours) if row.device_hours else '':>13} "
            f"{share(row.utilisation) if row.utilisation is not None else '':>8} {price:>15}  {row.title}"
        )
    counts = {v: sum(r.verdict == v for r in rows) for v in dict.fromkeys(r.verdict for r in rows)}
    lines.append("")
    lines.append(f"{len(rows)} claims: " + ", ".join(f"{n} {v}" for v, n in counts.items()))
    lines.append(NOT_STATED)
    return "\n".join(line[:width] if width else line for line in lines)
