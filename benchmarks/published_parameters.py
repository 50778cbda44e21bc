"""Hold the counted parameters of every known model against what its maker prints.

`python -m benchmarks.published_parameters` prints the table; `--write` renews it in `docs/parameters.md`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.pages import put_between_marks
from fathom.cost.models import KnownModel, deviations, known_models, printed

PAGE = Path(__file__).resolve().parent.parent / "docs" / "parameters.md"


def table() -> list[str]:
    lines = [
        "| model | total counted | published | off by | active counted | published | off by | what is counted |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for model in known_models().values():
        cells = []
        for one in deviations(model).values():
            cells += [f"{one.counted / 1e9:,.4g}B", _figure(one.published, one.cut_off), f"{one.relative:+.2%}"]
        cells += ["", "", ""] if len(cells) == 3 else []
        lines.append(f"| {model.name} | {' | '.join(cells)} | {_conventions(model)} |")
    return lines


def _figure(published: float, cut_off: bool) -> str:
    return printed(published) + (" (cut off)" if cut_off else "")


def _conventions(model: KnownModel) -> str:
    words = []
    if model.total_counts != "all":
        words.append(f"total {model.total_counts}")
    if model.published_active:
        words.append(f"active {'with embedding' if model.active_counts == 'all' else model.active_counts}")
    if model.other_parameters:
        words.append(f"{model.other_parameters / 1e9:.3g}B outside the decoder added")
    return "; ".join(words) or "all"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="renew the page")
    arguments = parser.parse_args()
    print("\n".join(table()))
    if arguments.write:
        put_between_marks(PAGE, {"parameters": table()})


if __name__ == "__main__":
    main()
