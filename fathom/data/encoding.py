"""The second pass: spooled documents to token shards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from fathom.data.chat import render_batch
from fathom.data.records import SourceEntry
from fathom.data.spool import Progress, Spool, SpooledDocument, SpooledSource
from fathom.data.tokenizer import Tokenizer
from fathom.data.writer import ShardWriter
from fathom.errors import FathomError

TOKENIZER_SAMPLE_BYTES = 10_000_000  # twice as much saves 0.5% of the tokens (English and code, 8192 entries)
BLOCK_CHARS = 1 << 20  # longer texts are encoded in blocks, cut before a line, so that memory stays bounded
_SAMPLE_BLOCK_CHARS = 1 << 16
_GROUP_CHARS = 1 << 23  # documents encoded together
REFUSED = "refused_by_template"


def sample_texts(spool: Spool, seed: int) -> Iterator[str]:
    """About `TOKENIZER_SAMPLE_BYTES` of the training text: blocks chosen by hash, so sources keep their shares."""
    share = TOKENIZER_SAMPLE_BYTES / max(1, sum(source.text_bytes for source in spool.sources))
    for index in range(len(spool.sources)):
        for document in spool.documents(index):
            if document.split != "train":
                continue
            for start in range(0, len(document.text), _SAMPLE_BLOCK_CHARS):
                block = document.text[start : start + _SAMPLE_BLOCK_CHARS]
                chance = hashlib.sha256(f"{seed}/{document.id}/{start}/".encode("utf-8", "replace"))
                chance.update(block[:256].encode("utf-8", "replace"))
                if int.from_bytes(chance.digest()[:8], "big") < share * 2**64:
                    yield block


def write_shards(
    spool: Spool, tokenizer: Tokenizer, directory: Path, dtype: str, progress: Progress
) -> list[SourceEntry]:
    """Encode every source's documents into a training and a held-out shard; returns the manifest's entries."""
    entries = []
    done, total = 0, sum(source.documents_kept for source in spool.sources)
    for index, source in enumerate(spool.sources):
        writers = {split: ShardWriter(directory, f"{index:03d}-{split}", dtype) for split in ("train", "held_out")}
        for document, encoded in _encoded(spool.documents(index), tokenizer):
            if encoded is None:
                source.dropped[REFUSED] += 1
                source.documents_kept -= 1
            else:
                writers[document.split].add(*encoded)
            done += 1
            if done % 256 == 0 or done == total:
                progress("encode", done, total)
        shards = {split: writer.close() for split, writer in writers.items()}
        _require_kept(source)
        entries.append(SourceEntry(**source.facts(), train=shards["train"], held_out=shards["held_out"]))
    return entries


def _require_kept(source: SpooledSource) -> None:
    if source.documents_kept == 0:
        raise FathomError(
            f"the chat template refuses all {source.dropped[REFUSED]} conversations of {source.source.origin}; "
            "check their roles, or use another tokenizer"
        )


Encoded = tuple[list[int], int, list[bool] | None]  # ids, bytes of the text to be predicted, what is to be predicted


def _encoded(
    documents: Iterator[SpooledDocument], tokenizer: Tokenizer
) -> Iterator[tuple[SpooledDocument, Encoded | None]]:
    """Every document, in order, with its ids; None for a conversation that the chat template refuses."""
    for group in _groups(documents):
        texts = (block for document in group if document.messages is None for block in _blocks(document.text))
        plain = tokenizer.encode_batch(texts)
        talks = [document.messages for document in group if document.messages is not None]
        chats = render_batch(tokenizer, talks, False, skip_refused=True)
        for document in group:
            if document.messages is None:
                body = [id_ for _ in _blocks(document.text) for id_ in next(plain)]
                ids = [tokenizer.document_start_id, *body, tokenizer.document_end_id]
                yield document, (ids, tokenizer.count_bytes(document.text), None)
            else:
                rendered = next(chats)
                found = (rendered.ids, rendered.answer_bytes, rendered.answer_mask) if rendered else None
                yield document, found


def _groups(documents: Iterator[SpooledDocument]) -> Iterator[list[SpooledDocument]]:
    group: list[SpooledDocument] = []
    chars = 0
    for document in documents:
        group.append(document)
        chars += len(document.text)
        if chars >= _GROUP_CHARS:
            yield group
            group, chars = [], 0
    if group:
        yield group


def _blocks(text: str) -> list[str]:
    """`text` in pieces of about `BLOCK_CHARS`, cut after a line's end where there is one."""
    blocks = []
    at = 0
    while len(text) - at > BLOCK_CHARS:
        end = text.rfind("\n", at, at + BLOCK_CHARS) + 1 or at + BLOCK_CHARS
        blocks.append(text[at:end])
        at = end
    return [*blocks, text[at:]]
