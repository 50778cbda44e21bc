"""Fills the figures of README.md and docs/*.md in from benchmarks/results, and writes benchmarks/README.md from them.

    python -m docs.build           # write
    python -m docs.build --check   # exit 1 where a page is out of date

A figure in README.md or docs/*.md stands between `<!-- RESULT: PATH FORMAT -->` and `<!-- / -->`: RESULT is a file of
benchmarks/results without `.json`, PATH a dotted path in it, FORMAT a Python format specification (`.0%` makes
percent of a share).
"""

from __future__ import annotations

import ast
import json
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
FIGURE = re.compile(r"(<!-- (?P<result>[\w/-]+): (?P<path>[\w.-]+) (?P<format>[^ ]+) -->).*?(<!-- / -->)", re.DOTALL)
MAX_ROWS = 60
HEAD = """# Measurements

<!-- written by `make docs` from the files in results/; change nothing by hand -->

Each is one command. It prints a table and, on the last line, one JSON document: the same that lies in `results/`, with
the machine that it ran on. Machines differ, so a ratio between two programs measured in the same run says more than a
rate; where there is a peer, it ran in that same run. The peers are in the extra `dev`, which `make .venv/dev.installed`
installs. Running one renews its file; `make docs` then renews this page and the README.
"""


@cache
def result(name: str) -> dict[str, Any]:
    """One benchmark's result file."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def value_at(document: Any, path: str) -> Any:
    """The value under a dotted path; numbers index lists."""
    for part in path.split("."):
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


def filled(text: str) -> str:
    """A page with every figure as its result file has it."""

    def fill(match: re.Match[str]) -> str:
        value = value_at(result(match["result"]), match["path"])
        return f"{match[1]}{format(value, match['format'])}{match[5]}"

    return FIGURE.sub(fill, text)


def benchmarks_page() -> str:
    """benchmarks/README.md: every result file, with the command that makes it again."""
    names = sorted(path.relative_to(RESULTS).with_suffix("").as_posix() for path in RESULTS.rglob("*.json"))
    return "\n".join([HEAD, *(_section(name) for name in names)])


def _section(name: str) -> str:
    document = result(name)
    lines = [f"## {name}", "", _purpose(name), ""]
    if isinstance(document.get("machine"), dict):
        lines += [f"Measured on {_machine(document['machine'])}.", ""]
    lines += _tables({key: value for key, value in document.items() if key != "machine"})
    return "\n".join(lines)


def _purpose(name: str) -> str:
    """The first paragraph of the benchmark's own docstring, and its command."""
    module = name.split("/")[0]
    path = ROOT / "benchmarks" / f"{module}.py"
    if not path.is_file():
        raise SystemExit(f"benchmarks/results/{name}.json has no benchmarks/{module}.py that makes it")
    text = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0].replace("\n", " ")
    return f"{text}\n\n`python -m benchmarks.{module}`"


def _machine(machine: dict[str, Any]) -> str:
    parts = [f"{machine.get('processor', 'an unknown processor')}, {machine.get('cores', '?')} cores"]
    parts.append("with AMX" if machine.get("amx") else "without AMX")
    if machine.get("bf16_peak_gflops"):
        parts.append(f"bf16 matmul peak {machine['bf16_peak_gflops']:,.0f} GFLOP/s")
    if machine.get("fp32_peak_gflops"):
        parts.append(f"fp32 {machine['fp32_peak_gflops']:,.0f} GFLOP/s")
    if machine.get("torch"):
        parts.append(f"torch {machine['torch']}")
    return ", ".join(parts)


def _tables(document: dict[str, Any]) -> list[str]:
    """A table of the single figures, then one for each list or group of alike records, however deep it lies."""
    records = _records_in(document)
    flat = [
        (path, value) for path, value in _flatten(document) if not any(path.startswith(f"{key}.") for key in records)
    ]
    lines = []
    if flat:
        lines += ["| figure | value |", "|---|---|"]
        lines += [f"| {path} | {_cell(value)} |" for path, value in flat[:MAX_ROWS]] + [""]
        lines += [f"and {len(flat) - MAX_ROWS} more in the file", ""] if len(flat) > MAX_ROWS else []
    for key, rows in records.items():
        columns = list(dict.fromkeys(name for row in rows for name, value in row.items() if not _is_deep(value)))
        lines += [f"{key}:", "", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
        lines += [f"| {' | '.join(_cell(row.get(name, '')) for name in columns)} |" for row in rows[:MAX_ROWS]]
        lines += [f"\nand {len(rows) - MAX_ROWS} more in the file", ""] if len(rows) > MAX_ROWS else [""]
    return lines


def _records_in(value: dict[str, Any], prefix: str = "") -> dict[str, list[dict[str, Any]]]:
    """Dotted path -> rows, for each list of dicts and each dict of two or more dicts with the same single figures."""
    found: dict[str, list[dict[str, Any]]] = {}
    for key, part in value.items():
        path = f"{prefix}{key}"
        if _is_records(part):
            found[path] = part
        elif isinstance(part, dict) and _is_group(part):
            found[path] = [{"": name, **row} for name, row in part.items()]
        elif isinstance(part, dict):
            found |= _records_in(part, f"{path}.")
    return found


def _is_group(value: dict[str, Any]) -> bool:
    rows = list(value.values())
    alike = len(rows) > 1 and all(isinstance(row, dict) and row.keys() == rows[0].keys() for row in rows)
    return alike and not any(_is_deep(cell) for row in rows for cell in row.values())


def _is_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _is_deep(value: Any) -> bool:
    return isinstance(value, dict | list)


def _flatten(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """(dotted path, figure) of everything that is one figure, a text or a short list."""
    if isinstance(value, dict):
        return [pair for key, part in value.items() for pair in _flatten(part, f"{prefix}{key}.")]
    if _is_records(value):
        return [(f"{prefix}*", "")]
    if isinstance(value, list) and len(value) > 8:
        return [(prefix.rstrip("."), f"{len(value)} values in the file")]
    return [(prefix.rstrip("."), value)]


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e6 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        return ", ".join(_cell(part) for part in value)
    return str(value).replace("|", "\\|").replace("\n", " ")


def pages() -> dict[Path, str]:
    """What each generated page should hold."""
    marked = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    whole = {path: filled(path.read_text(encoding="utf-8")) for path in marked}
    return whole | {ROOT / "benchmarks" / "README.md": benchmarks_page()}


def main() -> None:
    stale = [path for path, text in pages().items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        if stale:
            sys.exit(f"out of date, run `make docs`: {', '.join(path.relative_to(ROOT).as_posix() for path in stale)}")
        return
    for path in stale:
        path.write_text(pages()[path], encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
