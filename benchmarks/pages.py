"""Generated blocks in pages that are otherwise written by hand."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path


def put_between_marks(page: Path, parts: Mapping[str, Sequence[str]]) -> None:
    """Put each part's lines between `<!-- NAME: generated -->` and `<!-- end of NAME -->`; SystemExit without marks."""
    page.write_text(renewed(page.read_text(encoding="utf-8"), parts, page.name), encoding="utf-8")


def renewed(text: str, parts: Mapping[str, Sequence[str]], name_of_page: str) -> str:
    for name, lines in parts.items():
        block = f"<!-- {name}: generated -->\n" + "\n".join(lines) + f"\n<!-- end of {name} -->"
        marks = rf"<!-- {name}: generated -->.*?<!-- end of {name} -->"
        text, found = re.subn(marks, lambda _, b=block: b, text, flags=re.DOTALL)
        if not found:
            raise SystemExit(f"{name_of_page} lacks the marks for '{name}'")
    return text
