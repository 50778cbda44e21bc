"""Files and folders as sources: their documents, their hashes, their licences."""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from fathom.data.decompress import open_bytes
from fathom.data.folder import SourceFile, printable, readable, walk, without_settings
from fathom.data.jsonrows import MAX_ROW_BYTES, read_json_rows
from fathom.data.parquet import read_parquet_rows
from fathom.data.records import FileRecord, file_sha256
from fathom.data.rows import RowReader
from fathom.data.sources import UNKNOWN_LICENSE, Document, Identity, ReadCounts, Source, content_hash
from fathom.errors import FathomError

_MAX_UNDECODABLE_SHARE = 0.01


def open_path(path: Path, *, text_column: str | None = None, license: str | None = None) -> list[Source]:
    """The sources of a file or a folder; raises `FathomError` for one that is missing, unreadable or empty."""
    try:
        is_folder = path.is_dir()
        path.stat()
    except OSError as error:
        raise FathomError(f"cannot read {path}: {error.strerror}") from error
    if not is_folder:
        files, skipped = [SourceFile(path, Path(path.name))], Counter[str]()
    else:
        files, skipped = readable(path, list(walk(path)))
        files = without_settings(files, text_column)
    groups: dict[str, list[SourceFile]] = {}
    folder = printable(path.resolve().name or "root") if is_folder else None
    for file in files:
        groups.setdefault(file.group(folder), []).append(file)
    sources = [
        FileSource(name, path, members, alone=not is_folder, text_column=text_column, license=license)
        for name, members in sorted(groups.items())
    ]
    sources[0].skipped = skipped  # counted once, in the folder's first source
    return list(sources)


class FileSource(Source):
    """Files of one kind that belong together."""

    kind = "files"

    def __init__(
        self,
        name: str,
        root: Path,
        files: list[SourceFile],
        *,
        alone: bool,
        text_column: str | None,
        license: str | None,
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

    def _rows(self, file: SourceFile, counts: ReadCounts) -> Iterator[Any]:
        if file.suffix == ".parquet":
            yield from read_parquet_rows(file.path, self._text_column)
            return
        with open_bytes(file.path) as stream:
            yield from read_json_rows(file.path, stream, counts)

    def _settle_license(self, reader: RowReader) -> None:
        """Rows that name their own licences decide the source's: one, or all of them joined."""
        if self._given_license is None and set(reader.licenses) - {UNKNOWN_LICENSE}:
            self.license = " AND ".join(sorted(reader.licenses))

    def _text(self, file: SourceFile, counts: ReadCounts) -> Iterator[Document]:
        with open_bytes(file.path) as stream:
            data = stream.read(MAX_ROW_BYTES + 1)
        if len(data) > MAX_ROW_BYTES:
            raise FathomError(
                f"{file.path} is longer than {MAX_ROW_BYTES // 1_000_000} MB, more than one document may have; split "
                "it, or give one document a line as JSONL"
            )
        text = self._decoded(file, data, counts)
        yield Document(printable(str(file.relative)), text, self.name, self.license, self.domain, code=file.is_code)

    def _decoded(self, file: SourceFile, data: bytes, counts: ReadCounts) -> str:
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
