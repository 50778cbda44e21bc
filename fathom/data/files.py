"""Files and folders as sources: which files count, what kind each is, and what is read from it."""

from __future__ import annotations

import codecs
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fathom.data.decompress import open_bytes
from fathom.data.jsonrows import MAX_ROW_BYTES, read_json_rows
from fathom.data.parquet import read_parquet_rows
from fathom.data.records import FileRecord, file_sha256
from fathom.data.rows import RowReader
from fathom.data.sources import UNKNOWN_LICENSE, Document, Identity, ReadCounts, Source, content_hash
from fathom.errors import FathomError

JSON_SUFFIXES = frozenset({".jsonl", ".ndjson", ".json"})
COMPRESSED = frozenset({".gz", ".zst"})
_CODE = """
.py .pyi .c .h .cc .cpp .cxx .hpp .cu .rs .go .java .kt .scala .js .mjs .jsx .ts .tsx .rb .php .pl .lua .r .jl
.swift .m .mm .cs .fs .hs .ml .ex .exs .erl .clj .lisp .el .vim .sh .bash .zsh .fish .ps1 .sql .css .scss .less
.vue .svelte .toml .yaml .yml .ini .cfg .cmake .mk .gradle .tf .proto .asm .s .zig .nim .dart .v .sv .vhd
"""
CODE_SUFFIXES = frozenset(_CODE.split())
SKIPPED_FOLDERS = frozenset({"node_modules", "__pycache__", "site-packages", "venv"})  # hidden ones besides
_PART_NUMBER = re.compile(r"[-_.]?\d+(-of-\d+)?$")  # train-00001-of-00010.parquet
_SNIFF_BYTES = 8192
_MAX_UNDECODABLE_SHARE = 0.01


def open_path(path: Path, *, text_column: str | None = None, license: str | None = None) -> list[Source]:
    """The sources of a file or a folder; raises `FathomError` for one that is missing, unreadable or empty."""
    try:
        is_folder = path.is_dir()
        path.stat()
    except OSError as error:
        raise FathomError(f"cannot read {path}: {error.strerror}") from error
    if not is_folder:
        files, skipped = [_File(path, Path(path.name))], Counter[str]()
    else:
        files, skipped = _readable(path, list(_walk(path)))
    groups: dict[str, list[_File]] = {}
    folder = printable(path.resolve().name or "root") if is_folder else None
    for file in files:
        groups.setdefault(file.group(folder), []).append(file)
    sources = [
        FileSource(name, path, members, alone=not is_folder, text_column=text_column, license=license)
        for name, members in sorted(groups.items())
    ]
    sources[0].skipped = skipped  # counted once, in the folder's first source
    return list(sources)


def _readable(root: Path, files: list[_File]) -> tuple[list[_File], Counter[str]]:
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


def _walk(root: Path) -> Iterator[_File]:
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
                yield _File(file, file.relative_to(root))


@dataclass(frozen=True)
class _File:
    path: Path
    relative: Path

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
        return self.suffix in JSON_SUFFIXES or self.suffix == ".parquet"

    @property
    def is_code(self) -> bool:
        return self.suffix in CODE_SUFFIXES or self.path.name in ("Makefile", "Dockerfile", "CMakeLists.txt")

    def group(self, folder: str | None) -> str:
        """Which source the file belongs to: data files by their name, texts and code by the folder."""
        if self.is_table:
            return _PART_NUMBER.sub("", self.stem) or self.stem
        if folder is None:
            return self.stem
        return f"{folder} code" if self.is_code else folder

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


class FileSource(Source):
    """Files of one kind that belong together."""

    kind = "files"

    def __init__(
        self, name: str, root: Path, files: list[_File], *, alone: bool, text_column: str | None, license: str | None
    ) -> None:
        self.name = self.domain = name
        self.origin = printable(str(root))
        self.license = license or UNKNOWN_LICENSE
        self._given_license, self._text_column = license, text_column
        self._files, self._alone = files, alone
        self.skipped: Counter[str] = Counter()

    @cached_property
    def _records(self) -> tuple[FileRecord, ...]:
        records = []
        for file in self._files:
            try:
                records.append(
                    FileRecord(
                        name=printable(str(file.relative)),
                        bytes=file.path.stat().st_size,
                        sha256=file_sha256(file.path),
                    )
                )
            except OSError as error:
                raise FathomError(f"cannot read {file.path}: {error.strerror}") from error
        return tuple(records)

    def identity_after_reading(self) -> Identity:
        if len(self._records) == 1:
            return Identity(self._records[0].bytes, self._records[0].sha256, self._records)
        lines = (f"{record.name}\0{record.sha256}".encode() for record in self._records)
        return Identity(sum(record.bytes for record in self._records), content_hash(lines)[1], self._records)

    def identity(self) -> dict[str, Any]:
        identity = self.identity_after_reading()
        return {
            "kind": self.kind,
            "name": self.name,
            "sha256": identity.sha256,
            "column": self._text_column,
            "license": self._given_license,
        }

    def documents(self, counts: ReadCounts) -> Iterator[Document]:
        counts.dropped.update(self.skipped)
        if self._alone and self._files[0].why_not() == "binary_file":
            raise FathomError(f"{self._files[0].path} is a binary file; give text, Markdown, code, JSONL or Parquet")
        reader = RowReader("", self.name, self.domain, self._given_license, self._text_column, counts)
        for file in self._files:
            reader.where = str(file.path)
            if file.is_table:
                yield from reader.documents(self._rows(file, counts), printable(str(file.relative)))
            else:
                yield from self._text(file, counts)
        self._settle_license(reader)

    def _rows(self, file: _File, counts: ReadCounts) -> Iterator[Any]:
        if file.suffix == ".parquet":
            yield from read_parquet_rows(file.path, self._text_column)
            return
        with open_bytes(file.path) as stream:
            yield from read_json_rows(file.path, stream, counts)

    def _settle_license(self, reader: RowReader) -> None:
        """Rows that name their own licences decide the source's: one, or all of them joined."""
        if self._given_license is None and set(reader.licenses) - {UNKNOWN_LICENSE}:
            self.license = " AND ".join(sorted(reader.licenses))

    def _text(self, file: _File, counts: ReadCounts) -> Iterator[Document]:
        with open_bytes(file.path) as stream:
            data = stream.read(MAX_ROW_BYTES + 1)
        if len(data) > MAX_ROW_BYTES:
            raise FathomError(
                f"{file.path} is longer than {MAX_ROW_BYTES // 1_000_000} MB, more than one document may have; split "
                "it, or give one document a line as JSONL"
            )
        text = self._decoded(file, data, counts)
        yield Document(printable(str(file.relative)), text, self.name, self.license, self.domain, code=file.is_code)

    def _decoded(self, file: _File, data: bytes, counts: ReadCounts) -> str:
        """UTF-8, or UTF-16 with its mark. What cannot be decoded is replaced and counted, and refused if it is much."""
        encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
        try:
            return data.decode(encoding)
        except UnicodeDecodeError as error:
            text = data.decode(encoding, "replace")
            bad, first = text.count("\ufffd"), error.start
        if self._alone and bad > _MAX_UNDECODABLE_SHARE * len(text):
            raise FathomError(
                f"{file.path} is not UTF-8 text: {bad} places cannot be decoded, the first at byte {first}; convert "
                "it, for example with iconv"
            )
        counts.changed["invalid_utf8"] += 1
        return text
