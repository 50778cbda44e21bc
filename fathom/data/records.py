"""What `manifest.json` says: every source with where it came from, its licence, bytes, hash, and what became of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fathom.errors import FathomError

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileRecord(Record):
    """A file's name (relative to what it belongs to), size and SHA-256."""

    name: str
    bytes: int
    sha256: str


class ShardEntry(Record):
    """One source's documents of one split, as written."""

    documents: int = 0
    tokens: int = 0  # start and end tokens included
    targets: int = 0  # tokens to be predicted
    text_bytes: int = 0  # UTF-8 bytes of the text that the targets spell
    files: dict[str, FileRecord] = Field(default_factory=dict)

    def paths(self, directory: Path) -> dict[str, Path]:
        return {part: directory / record.name for part, record in self.files.items()}


class SourceEntry(Record):
    """One source: where from, whose, how much, and what curation did to it."""

    name: str
    domain: str
    kind: str  # files, huggingface, builtin
    origin: str  # the path or name that was asked for
    license: str
    raw_bytes: int  # as read, compressed if it was
    sha256: str  # of the raw bytes of all files, or of all texts where there are no files
    identity: str  # SHA-256 of what tells a change before reading: hashes, revision, version, options
    files: tuple[FileRecord, ...] = ()
    documents_read: int
    documents_kept: int
    text_bytes: int  # UTF-8 bytes of the documents kept
    dropped: dict[str, int] = Field(default_factory=dict)  # reason -> documents
    changed: dict[str, int] = Field(default_factory=dict)  # what was cleaned -> documents
    notes: tuple[str, ...] = ()
    train: ShardEntry
    held_out: ShardEntry

    def split(self, name: Literal["train", "held_out"]) -> ShardEntry:
        return self.train if name == "train" else self.held_out


class TokenizerRecord(Record):
    """The tokenizer that wrote the shards; it lies in the folder `tokenizer` beside the manifest."""

    digest: str
    vocab_size: int
    trained_here: bool
    document_start_id: int
    document_end_id: int
    pad_id: int
    control_ids: tuple[int, ...]


class Manifest(Record):
    """Everything about a prepared data set. `key` is a hash of all that went in, `digest` of all that came out."""

    format_version: int = FORMAT_VERSION
    key: str
    held_out_fraction: float
    curation: dict[str, Any]
    tokenizer: TokenizerRecord
    token_dtype: Literal["uint16", "uint32"]
    sources: tuple[SourceEntry, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest: it covers every shard's hash, so equal digests mean equal data."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(source.domain for source in self.sources))

    @property
    def held_out_domains(self) -> tuple[str, ...]:
        """Domains with held-out documents to score."""
        return tuple(dict.fromkeys(source.domain for source in self.sources if source.held_out.targets))

    @property
    def train_tokens(self) -> int:
        return sum(source.train.tokens for source in self.sources)

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes of training text to a predicted token."""
        targets = sum(source.train.targets for source in self.sources)
        return sum(source.train.text_bytes for source in self.sources) / max(1, targets)

    def to_json(self) -> str:
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def load(cls, directory: Path | str) -> Manifest:
        """Read `manifest.json`; refuses one that is missing, broken or of another version, by name."""
        path = Path(directory) / MANIFEST_NAME
        try:
            content = json.loads(path.read_text("utf-8"))
        except FileNotFoundError as error:
            raise FathomError(
                f"{directory} holds no prepared data: {MANIFEST_NAME} is missing; make it with: fathom data prepare"
            ) from error
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise FathomError(f"cannot read {path}: {error}") from error
        version = content.get("format_version") if isinstance(content, dict) else None
        if version != FORMAT_VERSION:
            raise FathomError(
                f"{path} is of format version {version}, this Fathom reads version {FORMAT_VERSION}; prepare the "
                "data again"
            )
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            raise FathomError(f"{path} is damaged: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def verify(directory: Path | str) -> Manifest:
    """Check every shard's hash against the manifest; raises `FathomError` that names the first file that differs."""
    directory = Path(directory)
    manifest = Manifest.load(directory)
    for source in manifest.sources:
        for entry in (source.train, source.held_out):
            for part, path in entry.paths(directory).items():
                if not path.is_file() or file_sha256(path) != entry.files[part].sha256:
                    raise FathomError(
                        f"the prepared data changed: {path} is not what {MANIFEST_NAME} says; prepare it again"
                    )
    return manifest
