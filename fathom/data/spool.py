"""The first pass: every document read once, cleaned, judged and spooled; then what stays is decided for all together.

In memory is only what deciding needs, about 160 bytes a document; texts wait on disk.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fathom.data.curate import RULES, clean, decide, judge
from fathom.data.duplicates import band_keys, drop_duplicates, exact_key
from fathom.data.sources import Document, ReadCounts, Source
from fathom.errors import FathomError

Progress = Callable[[str, int, int | None], None]  # stage, documents done, documents in all if known
KEEP, DROP, HOLD_OUT = 0, 1, 2
TOO_MUCH = 3.0  # times what was asked for
SMALL_SOURCE_SHARE = 0.2  # the most that one document may take of a source too small for its fraction
MIN_TAIL_BYTES = 500  # the shortest end of a document that is worth holding out


@dataclass(frozen=True)
class SpooledDocument:
    id: str
    text: str
    messages: list[dict[str, Any]] | None
    split: str  # train or held_out


@dataclass
class SpooledSource:
    """A source read to its end, and what was counted."""

    source: Source
    path: Path
    documents_read: int = 0
    documents_kept: int = 0
    text_bytes: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    fate: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint8))  # KEEP, DROP or HOLD_OUT of each
    cut_at: dict[int, int] = field(default_factory=dict)  # document -> where its held-out end begins
    sizes: list[int] = field(default_factory=list)  # UTF-8 bytes of each document

    def facts(self) -> dict[str, Any]:
        """The fields of the manifest's entry that are known before encoding."""
        source, identity = self.source, self.source.identity_after_reading()
        return {
            "name": source.name,
            "domain": source.domain,
            "kind": source.kind,
            "origin": source.origin,
            "license": source.license,
            "raw_bytes": identity.raw_bytes,
            "sha256": identity.sha256,
            "identity": source.identity_digest(),
            "files": identity.files,
            "documents_read": self.documents_read,
            "documents_kept": self.documents_kept,
            "text_bytes": self.text_bytes,
            "dropped": dict(sorted(self.dropped.items())),
            "changed": dict(sorted(self.changed.items())),
            "notes": tuple(self.notes),
        }


class Spool:
    """All sources' cleaned documents on disk, with the fate of each."""

    def __init__(self, sources: list[SpooledSource]) -> None:
        self.sources = sources

    def documents(self, index: int) -> Iterator[SpooledDocument]:
        """The documents of one source that stay, in order, as training or held-out ones."""
        spooled = self.sources[index]
        with spooled.path.open("rb") as stream:
            for number, (fate, line) in enumerate(zip(spooled.fate.tolist(), stream, strict=True)):
                if fate == DROP:
                    continue
                id_, text, messages = json.loads(line)
                cut = spooled.cut_at.get(number)
                if cut is None:
                    yield SpooledDocument(id_, text, messages, "held_out" if fate == HOLD_OUT else "train")
                else:
                    yield SpooledDocument(id_, text[:cut], None, "train")
                    yield SpooledDocument(f"{id_} (its end)", text[cut:], None, "held_out")


def gather(sources: list[Source], directory: Path, held_out_fraction: float, progress: Progress) -> Spool:
    """Read all sources and decide. Raises `FathomError` for a source without documents."""
    directory.mkdir()
    spooled: list[SpooledSource] = []
    exact: list[np.ndarray] = []
    bands: list[np.ndarray] = []
    verdicts: list[np.ndarray] = []
    for index, source in enumerate(sources):
        one = SpooledSource(source, directory / f"{index:03d}.jsonl")
        reading = _Reading(one)
        for count, document in enumerate(source.documents(ReadCounts(one.dropped, one.changed)), 1):
            reading.add(document)
            if count % 64 == 0:
                progress("read", sum(each.documents_read for each in spooled) + count, None)
        reading.close()
        _require_documents(one)
        spooled.append(one)
        exact.append(np.frombuffer(b"".join(reading.exact), np.uint64).reshape(-1, 4))
        bands.append(np.array(reading.bands, np.uint64))
        verdicts.append(np.array(reading.verdicts, np.uint8))
    progress("curate", 0, None)
    _decide(spooled, exact, bands, verdicts, held_out_fraction)
    return Spool(spooled)


def _require_documents(one: SpooledSource) -> None:
    if one.documents_read == 0:
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(one.dropped.items()))
        raise FathomError(
            f"{one.source.origin} gave no document{f' ({why})' if why else ''}; a source must hold at least one text"
        )


class _Reading:
    """Cleans, judges and spools the documents of one source."""

    def __init__(self, one: SpooledSource) -> None:
        self._one = one
        self._stream = one.path.open("wb")
        self.exact: list[bytes] = []
        self.bands: list[np.ndarray] = []
        self.verdicts: list[int] = []

    def add(self, document: Document) -> None:
        one = self._one
        one.documents_read += 1
        if document.messages is None:
            cleaned = clean(document.text)
            text = cleaned.text
            one.changed.update(cleaned.changes)
            verdict = judge(text, code=document.code)
            self.bands.append(band_keys(text) if verdict is None else np.zeros(14, np.uint64))
        else:  # conversations are taken as they are: their words are somebody's answers
            text = document.text
            verdict = None if text.strip() else "empty"
            self.bands.append(np.zeros(14, np.uint64))
        self.verdicts.append(0 if verdict is None else 1 + RULES.index(verdict))
        self.exact.append(exact_key(text))
        one.sizes.append(len(text.encode("utf-8", "replace")))
        self._stream.write(json.dumps([document.id, text, document.messages]).encode() + b"\n")

    def close(self) -> None:
        self._stream.close()


def _decide(
    spooled: list[SpooledSource],
    exact: list[np.ndarray],
    bands: list[np.ndarray],
    verdicts: list[np.ndarray],
    held_out_fraction: float,
) -> None:
    """Set every document's fate: quality rules by source, duplicates over all, then what is held out."""
    held_rules = []
    for one, source_verdicts in zip(spooled, verdicts, strict=True):
        decided, notes = decide(source_verdicts)
        one.notes += notes
        held_rules.append(decided)
        for number, rule in enumerate(RULES, 1):
            if count := int((decided == number).sum()):
                one.dropped[rule] += count
    kept = np.concatenate(held_rules) == 0
    owner = np.repeat(np.arange(len(spooled)), [len(one.sizes) for one in spooled])
    exact_copy, near_copy, spared = drop_duplicates(np.concatenate(exact), np.concatenate(bands), owner, kept)
    for index, one in enumerate(spooled):
        own = owner == index
        for reason, copies in (("duplicate", exact_copy[own]), ("near_duplicate", near_copy[own])):
            if count := int(copies.sum()):
                one.dropped[reason] += count
        if index in spared:
            one.notes.append(
                "every document repeats one of an earlier source; its own documents were kept all the same"
            )
        stays = (kept & ~exact_copy & ~near_copy)[own]
        if not stays.any():
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(one.dropped.items()))
            raise FathomError(
                f"{one.source.origin} has no usable document ({reasons}); a source must hold at least one text"
            )
        one.fate = np.where(stays, KEEP, DROP).astype(np.uint8)
        one.documents_kept = int(stays.sum())
        one.text_bytes = int(np.array(one.sizes)[stays].sum())
        _hold_out(one, exact[index], held_out_fraction)


def _hold_out(one: SpooledSource, exact: np.ndarray, fraction: float) -> None:
    """Choose held-out documents by the hash of their text: the same text is held out in whatever data it stands.

    A source of so few documents that chance decides (none is chosen, or far too much) gives the one with the smallest
    hash, or, if that is more than twice the fraction of the source, its end; where that end would be too short, all
    of it after all.
    """
    if fraction == 0:
        return
    stays = np.flatnonzero(one.fate == KEEP)
    rank = exact[stays, 0].byteswap() / 2.0**64
    chosen = stays[rank < fraction]
    wanted = fraction * one.text_bytes
    enough = 0 < sum(one.sizes[number] for number in chosen.tolist()) <= max(TOO_MUCH * wanted, MIN_TAIL_BYTES)
    if enough and len(chosen) < len(stays):
        one.fate[chosen] = HOLD_OUT
        return
    smallest = int(stays[np.argmin(rank)])
    size = one.sizes[smallest]
    if len(stays) > 1 and size <= 2 * wanted:
        one.fate[smallest] = HOLD_OUT
        one.notes.append("few documents: the one with the smallest hash was held out")
    elif wanted >= MIN_TAIL_BYTES and (cut := _cut_place(one, smallest, wanted)) is not None:
        one.cut_at[smallest] = cut
        one.notes.append("few documents: the end of the one with the smallest hash was held out")
    elif size <= SMALL_SOURCE_SHARE * one.text_bytes:
        one.fate[smallest] = HOLD_OUT
        one.notes.append("little text: the document with the smallest hash was held out, more than was asked for")
    else:
        one.notes.append("too little text to hold any out")


def _cut_place(one: SpooledSource, number: int, wanted_bytes: float) -> int | None:
    """Where to cut a document so that about `wanted_bytes` at its end are held out: before a paragraph or a line."""
    with one.path.open("rb") as stream:
        line = next(line for at, line in enumerate(stream) if at == number)
    _, text, messages = json.loads(line)
    if messages is not None:
        return None
    target = int(len(text) * (1 - wanted_bytes / max(1, one.sizes[number])))
    for border in ("\n\n", "\n", " "):
        at = text.find(border, target)
        if at > 0 and len(text) - at > 0.5 * (len(text) - target):
            return at + len(border)
    return None
