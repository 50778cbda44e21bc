"""The bytes that one token stands for, so that a stream of tokens can be shown character by character."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache, lru_cache

from fathom.data.tokenizer import Tokenizer

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_BLANK = "▁"  # how SentencePiece vocabularies write a space


def token_bytes(tokenizer: Tokenizer) -> Callable[[int], bytes]:
    """A function from token id to its bytes, for byte-level BPE and for SentencePiece vocabularies.

    Control tokens stand for their own text. An id that the vocabulary does not have stands for nothing.
    """
    description = json.loads(tokenizer.full.to_str())
    added = {token["id"]: token["content"] for token in description["added_tokens"]}
    byte_level = '"ByteLevel"' in json.dumps(description.get("decoder"))

    @cache
    def of(token: int) -> bytes:
        if token in added:
            return str(added[token]).encode()
        piece = tokenizer.full.id_to_token(token)
        if piece is None:
            return b""
        return _byte_level(piece) if byte_level else _sentence_piece(piece)

    return of


def _byte_level(piece: str) -> bytes:
    alphabet = _alphabet()
    return b"".join(alphabet.get(char, char.encode()) for char in piece)


def _sentence_piece(piece: str) -> bytes:
    if match := _BYTE_PIECE.fullmatch(piece):
        return bytes([int(match[1], 16)])
    return piece.replace(_BLANK, " ").encode()


@lru_cache(maxsize=1)
def _alphabet() -> dict[str, bytes]:
    """GPT-2's printable stand-in of every byte: Latin-1 where it is printable, else code points from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    stand_ins = {chr(byte): bytes([byte]) for byte in printable}
    return stand_ins | {chr(256 + index): bytes([byte]) for index, byte in enumerate(others)}
