"""Where documents come from: files and folders, Hugging Face data sets, and what every interpreter has built in."""

from __future__ import annotations

import abc
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fathom.data.records import FileRecord

UNKNOWN_LICENSE = "unknown"


@dataclass(frozen=True)
class Document:
    """One text, or one conversation (`messages`; `text` is then its words, for counting and for the tokenizer)."""

    id: str
    text: str
    source: str
    license: str
    domain: str
    messages: list[dict[str, Any]] | None = None
    code: bool = False


@dataclass
class ReadCounts:
    """What reading met besides documents: reason -> how often."""

    dropped: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Identity:
    """What a source held when it was read."""

    raw_bytes: int
    sha256: str
    files: tuple[FileRecord, ...] = ()


class Source(abc.ABC):
    """Something that gives documents in a fixed order."""

    name: str
    domain: str
    kind: str
    origin: str
    license: str

    @abc.abstractmethod
    def documents(self, counts: ReadCounts) -> Iterator[Document]:
        """All documents; what cannot be one (a null, a binary file) is counted under its reason."""

    @abc.abstractmethod
    def identity(self) -> dict[str, Any]:
        """JSON that differs whenever the documents could differ, found without reading them all where possible."""

    def identity_digest(self) -> str:
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()

    @abc.abstractmethod
    def identity_after_reading(self) -> Identity:
        """Bytes and hashes for the manifest, known once `documents` was read to its end."""


class StreamedSource(Source):
    """A source without files of its own: its bytes and hash are those of its texts, counted while they are read."""

    _read: Identity | None = None

    @abc.abstractmethod
    def texts(self, counts: ReadCounts) -> Iterator[Document]:
        """The documents, as `documents` gives them."""

    def documents(self, counts: ReadCounts) -> Iterator[Document]:
        total, digest = 0, hashlib.sha256()
        for document in self.texts(counts):
            data = document.text.encode("utf-8", "replace")
            total += len(data)
            digest.update(data + len(data).to_bytes(8, "big"))
            yield document
        self._read = Identity(total, digest.hexdigest())

    def identity_after_reading(self) -> Identity:
        if self._read is None:
            raise RuntimeError(f"{self.origin} was not read to its end yet")
        return self._read


def open_sources(
    specs: Sequence[str | Path], *, text_column: str | None = None, license: str | None = None
) -> list[Source]:
    """The sources that `specs` name: paths, `hf:NAME[:SPLIT]`, `builtin:stdlib`, `builtin:problems[:COUNT]`.

    A folder gives one source for its texts, one for its code and one for each data file, so that each is a domain of
    its own. Raises `FathomError` for a path that is missing or holds nothing to read.
    """
    from fathom.data.files import open_path

    sources: list[Source] = []
    for spec in specs:
        text = str(spec)
        if text.startswith("builtin:"):
            from fathom.data.builtin import open_builtin

            sources += open_builtin(text)
        elif text.startswith("hf:"):
            from fathom.data.hub import open_dataset

            sources.append(open_dataset(text, text_column=text_column, license=license))
        else:
            sources += open_path(Path(spec), text_column=text_column, license=license)
    return with_distinct_names(sources)


def with_distinct_names(sources: list[Source]) -> list[Source]:
    """`notes`, `notes-2`, ... for sources that would be called the same; the order decides."""
    seen: Counter[str] = Counter()
    for source in sources:
        seen[source.name] += 1
        if seen[source.name] > 1:
            source.name = f"{source.name}-{seen[source.name]}"
            source.domain = source.name
    return sources


def content_hash(texts: Iterator[bytes]) -> tuple[int, str]:
    """(bytes, SHA-256) of a sequence of texts, each ended by its length so that borders count."""
    total, digest = 0, hashlib.sha256()
    for text in texts:
        total += len(text)
        digest.update(text + len(text).to_bytes(8, "big"))
    return total, digest.hexdigest()
