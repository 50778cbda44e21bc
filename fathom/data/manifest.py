"""From sources to a directory of token shards with its manifest, in one atomic step.

Two passes. The first reads every source once, cleans and judges each document and spools it to disk. Then it is
decided over all documents together what stays (rules, duplicates, held-out documents), the tokenizer is trained on a
sample if none is given, and the second pass encodes the spool into shards. The directory appears under its name only
when it is whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import psutil

from fathom.data.curate import CURATION_VERSION, RULES
from fathom.data.duplicates import BANDS, HASHES_PER_BAND, SHINGLE_WORDS
from fathom.data.encoding import sample_texts, write_shards
from fathom.data.records import FORMAT_VERSION, MANIFEST_NAME, Manifest, TokenizerRecord, verify
from fathom.data.sources import Source, open_sources, with_distinct_names
from fathom.data.spool import Progress, gather
from fathom.data.tokenizer import Tokenizer, train_tokenizer
from fathom.errors import FathomError

DEFAULT_VOCAB_SIZE = 8192
DEFAULT_HELD_OUT = 0.02


@dataclass(frozen=True)
class Settings:
    """What decides the result besides the sources."""

    vocab_size: int
    tokenizer_digest: str | None
    seed: int
    held_out_fraction: float


def prepare(
    sources: Sequence[Source | str | Path],
    directory: Path | str,
    *,
    vocab_size: int = DEFAULT_VOCAB_SIZE,
    tokenizer: Tokenizer | None = None,
    seed: int = 0,
    held_out_fraction: float = DEFAULT_HELD_OUT,
    progress: Progress | None = None,
) -> Manifest:
    """Prepare `sources` in `directory` and return its manifest; at once if the same data is prepared there already.

    `seed` chooses the tokenizer's training sample; which documents are held out depends on their text alone. Raises
    `FathomError` for input that cannot be used and for a directory that holds something else; then nothing is left.
    """
    opened = _opened(sources)
    settings = _checked(vocab_size, tokenizer, seed, held_out_fraction)
    directory = Path(directory)
    key = data_key(opened, settings)
    if existing := _existing(directory, key):
        return existing
    with _partial(directory) as partial:
        manifest = _prepare(opened, partial, settings, key, tokenizer, progress or (lambda stage, done, total: None))
        return _publish(partial, directory, manifest)


def prepare_cached(
    sources: Sequence[Source | str | Path],
    root: Path | str,
    *,
    vocab_size: int = DEFAULT_VOCAB_SIZE,
    tokenizer: Tokenizer | None = None,
    seed: int = 0,
    held_out_fraction: float = DEFAULT_HELD_OUT,
    progress: Progress | None = None,
) -> tuple[Manifest, Path]:
    """`prepare` in a directory of `root` that is named after the content, so that equal requests share it."""
    opened = _opened(sources)
    settings = _checked(vocab_size, tokenizer, seed, held_out_fraction)
    directory = Path(root) / data_key(opened, settings)[:16]
    manifest = prepare(
        opened,
        directory,
        vocab_size=vocab_size,
        tokenizer=tokenizer,
        seed=seed,
        held_out_fraction=held_out_fraction,
        progress=progress,
    )
    return manifest, directory


def _opened(sources: Sequence[Source | str | Path]) -> list[Source]:
    if not sources:
        raise FathomError("no data was named: give a file, a folder, hf:NAME, builtin:stdlib or builtin:problems")
    named = [str(source) for source in sources if not isinstance(source, Source)]
    if repeated := [name for name, count in Counter(named).items() if count > 1]:
        raise FathomError(f"{repeated[0]} is named twice; name each source once")
    opened: list[Source] = []
    for source in sources:
        opened += [source] if isinstance(source, Source) else open_sources([source])
    return with_distinct_names(opened)


def _checked(vocab_size: int, tokenizer: Tokenizer | None, seed: int, held_out_fraction: float) -> Settings:
    if not 0 <= held_out_fraction <= 0.5:
        raise FathomError(f"the held-out fraction is {held_out_fraction}; it must be between 0 and 0.5")
    digest = tokenizer.digest if tokenizer else None
    return Settings(0 if tokenizer else vocab_size, digest, seed, held_out_fraction)


def data_key(sources: Sequence[Source], settings: Settings) -> str:
    """SHA-256 over everything that decides the prepared data: sources by content, settings, versions."""
    content = {
        "format": FORMAT_VERSION,
        "curation": CURATION_VERSION,
        "settings": asdict(settings),
        "sources": [source.identity() for source in sources],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


# -- the directory -----------------------------------------------------------------------------------------------


def _existing(directory: Path, key: str) -> Manifest | None:
    """The manifest of the same data prepared before; refuses a directory of anything else."""
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return None
    if not directory.is_dir():
        raise FathomError(f"{directory} is a file; name a directory that is new, empty, or holds this same data")
    if not (directory / MANIFEST_NAME).exists():
        raise FathomError(f"{directory} is not empty and holds no prepared data; name a new or empty directory")
    manifest = Manifest.load(directory)
    if manifest.key != key:
        raise FathomError(
            f"{directory} holds other prepared data (its sources, settings or versions differ); name another directory"
        )
    return verify(directory)


@contextlib.contextmanager
def _partial(directory: Path) -> Iterator[Path]:
    """A directory to work in beside `directory`; gone afterwards, whatever happens."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    for stale in directory.parent.glob(f".{directory.name}.partial-*"):
        pid = stale.name.rpartition("-")[2]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(stale, ignore_errors=True)
    partial = directory.parent / f".{directory.name}.partial-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _publish(partial: Path, directory: Path, manifest: Manifest) -> Manifest:
    """Write the manifest last, make everything durable, then let the whole directory appear under its name."""
    (partial / MANIFEST_NAME).write_text(manifest.to_json(), "utf-8")
    for path in sorted(partial.rglob("*")):
        _sync(path)
    _sync(partial)
    try:
        partial.rename(directory)  # replaces an empty directory, never a full one
    except OSError:
        existing = _existing(directory, manifest.key)  # somebody else prepared the same meanwhile
        if existing is None:
            raise
        return existing
    _sync(directory.parent)
    return manifest


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# -- the work ----------------------------------------------------------------------------------------------------


def _prepare(
    sources: list[Source], partial: Path, settings: Settings, key: str, tokenizer: Tokenizer | None, progress: Progress
) -> Manifest:
    spool = gather(sources, partial / "spool", settings.held_out_fraction, progress)
    trained_here = tokenizer is None
    if tokenizer is None:
        progress("tokenizer", 0, None)
        tokenizer = train_tokenizer(sample_texts(spool, settings.seed), settings.vocab_size)
    tokenizer.save(partial / "tokenizer")
    dtype: Literal["uint16", "uint32"] = "uint16" if tokenizer.vocab_size <= 1 << 16 else "uint32"
    entries = write_shards(spool, tokenizer, partial, dtype, progress)
    shutil.rmtree(partial / "spool")
    return Manifest(
        key=key,
        held_out_fraction=settings.held_out_fraction,
        curation={
            "version": CURATION_VERSION,
            "rules": list(RULES),
            "near_duplicates": f"MinHash, {BANDS} bands of {HASHES_PER_BAND}, {SHINGLE_WORDS}-word shingles",
        },
        tokenizer=_tokenizer_record(tokenizer, trained_here),
        token_dtype=dtype,
        sources=tuple(entries),
    )


def _tokenizer_record(tokenizer: Tokenizer, trained_here: bool) -> TokenizerRecord:
    return TokenizerRecord(
        digest=tokenizer.digest,
        vocab_size=tokenizer.vocab_size,
        trained_here=trained_here,
        document_start_id=tokenizer.document_start_id,
        document_end_id=tokenizer.document_end_id,
        pad_id=tokenizer.pad_id,
        control_ids=tuple(sorted(tokenizer.control_tokens.values())),
    )


def changed_sources(manifest: Manifest, sources: Sequence[Source | str | Path]) -> list[str]:
    """Names of sources whose content is no longer what `manifest` recorded, added and missing ones included."""
    now = {source.name: source.identity_digest() for source in _opened(sources)}
    then = {source.name: source.identity for source in manifest.sources}
    return sorted(name for name in now.keys() | then.keys() if now.get(name) != then.get(name))


__all__ = ["Manifest", "Progress", "changed_sources", "data_key", "prepare", "prepare_cached", "verify"]
