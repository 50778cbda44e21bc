"""Which files of a folder count, and what each is: rows of a table, prose or code."""

from __future__ import annotations

import codecs
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from fathom.data.decompress import open_bytes
from fathom.data.jsonrows import read_json_rows
from fathom.data.rows import MESSAGE_COLUMNS, TEXT_COLUMN
from fathom.data.sources import ReadCounts
from fathom.errors import FathomError

JSON_SUFFIXES = frozenset({".jsonl", ".ndjson", ".json"})
COMPRESSED = frozenset({".gz", ".zst"})
_CODE = """
.py .pyi .c .h .cc .cpp .cxx .hpp .cu .rs .go .java .kt .scala .js .mjs .jsx .ts .tsx .rb .php .pl .lua .r .jl
.swift .m .mm .cs .fs .hs .ml .ex .exs .erl .clj .lisp .el .vim .sh .bash .zsh .fish .ps1 .sql .css .scss .less
.vue .svelte .toml .yaml .yml .ini .cfg .cmake .mk .gradle .tf .proto .asm .s .zig .nim .dart .v .sv .vhd
"""
CODE_SUFFIXES = frozenset(_CODE.split())
CODE_NAMES = frozenset({"Makefile", "Dockerfile", "CMakeLists.txt"})
SKIPPED_FOLDERS = frozenset({"node_modules", "__pycache__", "site-packages", "venv"})  # hidden ones besides
_PART_NUMBER = re.compile(r"[-_.]?\d+(-of-\d+)?$")  # train-00001-of-00010.parquet
_SNIFF_BYTES = 8192


def walk(root: Path) -> Iterator[SourceFile]:
    """Every file below `root` in a fixed order; links are followed, a folder that was seen is not entered again."""
    seen: set[tuple[int, int]] = set()

    def refuse(error: OSError) -> None:
        raise FathomError(f"cannot read the folder {error.filename}: {error.strerror}") from error

    for folder, subfolders, names in os.walk(root, onerror=refuse, followlinks=True):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith(".") and name not in SKIPPED_FOLDERS)
        for name in sorted(names):
            file = Path(folder, name)
            if not name.startswith(".") and file.is_file():  # False for a broken or circular link, a socket, a pipe
                yield SourceFile(file, file.relative_to(root))


def readable(root: Path, files: list[SourceFile]) -> tuple[list[SourceFile], Counter[str]]:
    """(files with text in them, how many were set aside and why)."""
    if not files:
        raise FathomError(
            f"the folder {root} holds no file to read; put text, Markdown, code, JSONL or Parquet files into it"
        )
    good, skipped = [], Counter[str]()
    for file in files:
        reason = file.why_not()
        if reason is None:
            good.append(file)
        else:
            skipped[reason] += 1
    if not good:
        found = ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items()))
        raise FathomError(
            f"the folder {root} holds no text ({found}); put text, Markdown, code, JSONL or Parquet into it"
        )
    return good, skipped


def without_settings(files: list[SourceFile], text_column: str | None) -> list[SourceFile]:
    """Among code, a `.json` file without a text column is a setting of that code; elsewhere it is data misnamed."""
    if not any(file.is_code for file in files):
        return files
    return [
        replace(file, is_settings=True) if file.suffix == ".json" and not file.has_rows_of(text_column) else file
        for file in files
    ]


@dataclass(frozen=True)
class SourceFile:
    """A file of a source: where it is, and its path below what was asked for."""

    path: Path
    relative: Path
    is_settings: bool = False  # JSON that belongs to code: text, not rows

    @cached_property
    def suffix(self) -> str:
        """The suffix that says the kind, that of compression taken off."""
        suffixes = [suffix.lower() for suffix in self.path.suffixes]
        if suffixes and suffixes[-1] in COMPRESSED:
            suffixes.pop()
        return suffixes[-1] if suffixes else ""

    @property
    def stem(self) -> str:
        name = self.path.name
        for suffix in reversed(self.path.suffixes):
            if suffix.lower() in COMPRESSED | JSON_SUFFIXES | {".parquet", self.suffix}:
                name = name[: -len(suffix)]
            else:
                break
        return printable(name)

    @property
    def is_table(self) -> bool:
        return (self.suffix in JSON_SUFFIXES or self.suffix == ".parquet") and not self.is_settings

    @property
    def is_code(self) -> bool:
        return self.is_settings or self.suffix in CODE_SUFFIXES or self.path.name in CODE_NAMES

    def group(self, folder: str | None) -> str:
        """Which source the file belongs to: data files by their name, texts and code by the folder."""
        if self.is_table:
            return _PART_NUMBER.sub("", self.stem) or self.stem
        if folder is None:
            return self.stem
        return f"{folder} code" if self.is_code else folder

    def has_rows_of(self, text_column: str | None) -> bool:
        """Does its first row hold a text or a conversation? False where it is no JSON at all."""
        try:
            with open_bytes(self.path) as stream:
                row = next(read_json_rows(self.path, stream, ReadCounts()), None)
        except FathomError:
            return False
        names = {text_column.split(".")[0]} if text_column else {TEXT_COLUMN, *MESSAGE_COLUMNS}
        return isinstance(row, dict) and not names.isdisjoint(row)

    def why_not(self) -> str | None:
        """Why the file holds no text: it is empty, or has NUL bytes where no mark says UTF-16."""
        if self.suffix == ".parquet":
            return None
        with open_bytes(self.path) as stream:
            start = stream.read(_SNIFF_BYTES)
        if not start:
            return "empty_file"
        is_binary = b"\0" in start and not start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return "binary_file" if is_binary else None


def printable(name: str) -> str:
    """A file name as text; bytes that are no UTF-8 are written as escapes, so that names stay distinct."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
