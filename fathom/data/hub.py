"""Hugging Face data sets, streamed: `hf:NAME[@CONFIG][:SPLIT[:COUNT]]`, or a folder that `datasets` can load."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from fathom.data.records import file_sha256
from fathom.data.rows import RowReader
from fathom.data.sources import UNKNOWN_LICENSE, Document, ReadCounts, StreamedSource, content_hash
from fathom.errors import FathomError, MissingExtra


def open_dataset(spec: str, *, text_column: str | None = None, license: str | None = None) -> DatasetSource:
    """The source that `spec` names; raises `FathomError` for a malformed spec. Nothing is fetched yet."""
    name, *rest = spec.removeprefix("hf:").split(":")
    name, _, config = name.partition("@")
    if not name or len(rest) > 2 or (len(rest) == 2 and not (rest[1].isdigit() and int(rest[1]))):
        raise FathomError(
            f"{spec!r} is not a data set; write hf:NAME, hf:NAME:SPLIT or hf:NAME@CONFIG:SPLIT:COUNT, as in "
            "hf:roneneldan/TinyStories:train:10000"
        )
    split = rest[0] if rest and rest[0] else "train"
    return DatasetSource(
        spec, name, config or None, split, int(rest[1]) if len(rest) == 2 else None, text_column, license
    )


class DatasetSource(StreamedSource):
    """One split of a data set, read row by row without downloading the whole."""

    kind = "huggingface"

    def __init__(
        self,
        spec: str,
        name: str,
        config: str | None,
        split: str,
        count: int | None,
        text_column: str | None,
        license: str | None,
    ) -> None:
        self.origin = spec
        self.name = self.domain = Path(name).name
        self.license = license or UNKNOWN_LICENSE
        self._repository, self._config, self._split, self._count = name, config, split, count
        self._text_column, self._given_license = text_column, license

    @cached_property
    def _revision(self) -> str:
        """What pins the content: the repository's commit, or the hashes of a local folder's files."""
        local = Path(self._repository)
        if local.is_dir():
            files = sorted(path for path in local.rglob("*") if path.is_file())
            return content_hash(f"{path.relative_to(local)}\0{file_sha256(path)}".encode() for path in files)[1]
        try:
            import huggingface_hub
        except ImportError as error:
            raise MissingExtra("huggingface_hub") from error
        try:
            return str(huggingface_hub.HfApi().dataset_info(self._repository).sha)
        except Exception as error:
            raise self._failed(error) from error

    def identity(self) -> dict[str, Any]:
        asked = [self._config, self._split, self._count, self._text_column, self._given_license]
        return {"kind": self.kind, "name": self.name, "asked": asked, "revision": self._revision}

    def texts(self, counts: ReadCounts) -> Iterator[Document]:
        rows = self._open()
        reader = RowReader(self.origin, self.name, self.domain, self._given_license, self._text_column, counts)
        yield from reader.documents(self._rows(rows), self.name)
        if self._given_license is None and set(reader.licenses) - {UNKNOWN_LICENSE}:
            self.license = " AND ".join(sorted(reader.licenses))

    def _open(self) -> Any:
        try:
            import datasets
        except ImportError as error:
            raise MissingExtra("datasets") from error
        pinned = {} if Path(self._repository).is_dir() else {"revision": self._revision}
        try:
            rows = datasets.load_dataset(self._repository, self._config, split=self._split, streaming=True, **pinned)
        except Exception as error:  # of many libraries
            raise self._failed(error) from error
        if self._given_license is None and rows.info.license:
            self.license = rows.info.license
        return rows if self._count is None else rows.take(self._count)

    def _rows(self, rows: Any) -> Iterator[dict[str, Any]]:
        try:
            yield from rows
        except FathomError:
            raise
        except Exception as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> FathomError:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        return FathomError(f"cannot read the data set {self.origin}: {reason[:300]}")
