"""Text to token ids and back: a byte-level BPE of our own, or the tokenizer of an imported model.

Two encoders stand behind one `Tokenizer`. The *full* one is what is saved and what other libraries load. The *text*
one never yields a control token, whatever the text says: control tokens come from a chat template or from the
framing of a document, never from somebody's words (see `fathom.data.chat`).
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, pairwise, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fathom.data.template import CHAT_TEMPLATE, MAX_TEMPLATE_BYTES
from fathom.errors import FathomError, MissingExtra

if TYPE_CHECKING:
    import tokenizers

DOCUMENT_TOKEN = "<|endoftext|>"  # separates documents: begins each one and ends each one
PAD_TOKEN = "<|pad|>"
END_TOKEN = "<|end|>"  # ends a turn
THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
ROLE_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>")
SPECIAL_TOKENS = (DOCUMENT_TOKEN, PAD_TOKEN, *ROLE_TOKENS, END_TOKEN, THINK_OPEN, THINK_CLOSE)
# Qwen2's pre-tokenizer (Apache-2.0, its tokenizer.json): each digit stands alone, and llama.cpp knows it by name.
SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTE_ALPHABET_SIZE = 256
# What published models put between documents, most telling first.
_DOCUMENT_ENDS = (DOCUMENT_TOKEN, "<|end_of_text|>", "<｜end▁of▁sentence｜>", "</s>", "<eos>")
_MARKER = re.compile(r"\s*(<[^\s<>][^<>]*>|\[/?[A-Z_]+\]|.*[|｜].*)\s*")
_ENCODE_TEXTS, _ENCODE_CHARS = 4096, 1 << 23  # handed to the Rust threads at once


def _library() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise MissingExtra("tokenizers") from error
    return tokenizers


class Tokenizer:
    """A tokenizer with its special tokens and chat template.

    `full` is a `tokenizers.Tokenizer`; `special_tokens` maps roles of `transformers` (`bos_token`, `eos_token`,
    `pad_token`, ...) to their text; `extra_eos` are further texts that end an answer (end-of-turn tokens).
    """

    def __init__(
        self,
        full: tokenizers.Tokenizer,
        *,
        special_tokens: dict[str, str],
        chat_template: str | None = None,
        extra_eos: Sequence[str] = (),
        add_bos: bool | None = None,
        config: dict[str, Any] | None = None,
    ) -> None:
        self.full = full
        self.special_tokens = {
            role: text for role, text in special_tokens.items() if full.token_to_id(text) is not None
        }
        self.chat_template = chat_template
        self._extra_eos = tuple(extra_eos)
        self._config = dict(config or {})
        self._description = json.loads(full.to_str())
        self.add_bos = self._writes_bos() if add_bos is None else add_bos
        self._text = self._text_encoder()

    # -- construction ------------------------------------------------------------------------------------------

    @classmethod
    def load(cls, directory: Path | str) -> Tokenizer:
        """Read `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja` as `transformers` does.

        Raises `FathomError` naming the file for one that is missing or cannot be read.
        """
        from fathom.data.pretrained import load_tokenizer

        return load_tokenizer(Path(directory))

    def save(self, directory: Path | str) -> None:
        """Write what `transformers.AutoTokenizer` loads: ids, special tokens and template are the same there."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self.full.save(str(directory / "tokenizer.json"))
        config = {"clean_up_tokenization_spaces": False, "model_max_length": int(1e30), **self._config}
        config |= {"tokenizer_class": "PreTrainedTokenizerFast", **self.special_tokens}
        (directory / "tokenizer_config.json").write_text(
            json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8"
        )
        if self.chat_template is not None:
            (directory / "chat_template.jinja").write_text(self.chat_template, "utf-8")

    # -- identity ----------------------------------------------------------------------------------------------

    @cached_property
    def vocab_size(self) -> int:
        """One more than the largest id, so that an embedding of this many rows serves every token."""
        return max(self.full.get_vocab(with_added_tokens=True).values()) + 1

    @cached_property
    def digest(self) -> str:
        """SHA-256 over vocabulary, merges, special tokens and template."""
        parts = [self.full.to_str(), json.dumps(self.special_tokens, sort_keys=True), self.chat_template or ""]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def _role_id(self, role: str) -> int | None:
        text = self.special_tokens.get(role)
        return None if text is None else self.full.token_to_id(text)

    @property
    def bos_id(self) -> int | None:
        return self._role_id("bos_token")

    @cached_property
    def eos_ids(self) -> frozenset[int]:
        """Ids that end an answer: the end-of-sequence token, end-of-turn tokens and the end of a document."""
        texts = [
            self.special_tokens.get("eos_token"),
            *self._extra_eos,
            *(t for t in _DOCUMENT_ENDS if t in self.control_tokens),
        ]
        ids = (self.full.token_to_id(text) for text in texts if text)
        return frozenset(id_ for id_ in ids if id_ is not None)

    @property
    def pad_id(self) -> int:
        """The padding token, or the end of a document where the tokenizer has none (padding is always masked)."""
        pad = self._role_id("pad_token")
        return self.document_end_id if pad is None else pad

    @cached_property
    def document_end_id(self) -> int:
        """What follows a document: its own separator if the tokenizer has one, else the end-of-sequence token."""
        for text in (*_DOCUMENT_ENDS, self.special_tokens.get("eos_token", "")):
            if text in self.control_tokens:
                return self.control_tokens[text]
        raise FathomError("the tokenizer has no token that ends a document: none is named eos_token")

    @cached_property
    def document_start_id(self) -> int:
        """What precedes a document: BOS where the tokenizer itself adds one, else the separator of documents."""
        bos = self.bos_id
        return bos if self.add_bos and bos is not None else self.document_end_id

    @cached_property
    def control_tokens(self) -> dict[str, int]:
        """Text to id of every token that steers a model: special ones, and added ones that look like a marker."""
        named = {*self.special_tokens.values(), *self._extra_eos}
        return {
            token["content"]: token["id"]
            for token in self._description["added_tokens"]
            if token["special"] or token["content"] in named or _MARKER.fullmatch(token["content"])
        }

    @cached_property
    def _control_ids(self) -> frozenset[int]:
        return frozenset(self.control_tokens.values())

    def token_id(self, text: str) -> int | None:
        """The id of one token given by its text, None if there is no such token."""
        return self.full.token_to_id(text)

    # -- encoding and decoding ---------------------------------------------------------------------------------

    def encode(self, text: str, *, continues: bool = False) -> list[int]:
        """Ids of ordinary text. Control tokens spelt out in `text` become ordinary pieces; no BOS is added.

        `continues` says that something precedes it, so that tokenizers which put a space before a text do not.
        """
        return next(self.encode_batch([text], [continues]))

    def encode_batch(self, texts: Iterable[str], continues: Iterable[bool] = ()) -> Iterator[list[int]]:
        """`encode` for many texts, on all cores, streamed."""
        chunk: list[tuple[str, bool]] = []
        chars = 0
        for text, goes_on in zip(texts, chain(continues, repeat(False))):  # noqa: B905 - the second never ends
            chunk.append((_without_surrogates(text), goes_on))
            chars += len(text)
            if len(chunk) == _ENCODE_TEXTS or chars >= _ENCODE_CHARS:
                yield from self._encode_chunk(chunk)
                chunk, chars = [], 0
        yield from self._encode_chunk(chunk)

    def _encode_chunk(self, chunk: list[tuple[str, bool]]) -> Iterator[list[int]]:
        guard = self._guard
        guarded = [goes_on and guard is not None for _, goes_on in chunk]
        inputs = [f"{guard}{text}" if guard_it else text for (text, _), guard_it in zip(chunk, guarded, strict=True)]
        encodings = self._text.encode_batch_fast(inputs, add_special_tokens=False)
        for (text, _), guard_it, encoding in zip(chunk, guarded, encodings, strict=True):
            ids = encoding.ids[1:] if guard_it else encoding.ids
            yield ids if self._control_ids.isdisjoint(ids) else self._encode_around_controls(text)

    @cached_property
    def _guard(self) -> str | None:
        """A token to put before a text that continues another, None where it would make no difference."""
        guard = f"\ufdd0{secrets.token_hex(16)}\ufdd1"  # nobody can type what is drawn anew each time
        guarded = _library().Tokenizer.from_str(self._text.to_str())
        guarded.encode_special_tokens = True
        guarded.add_tokens([_library().AddedToken(guard, normalized=False)])
        if (
            guarded.encode(f"{guard}a", add_special_tokens=False).ids[1:]
            == self._text.encode("a", add_special_tokens=False).ids
        ):
            return None
        self._text = guarded
        return guard

    def strips(self, control_token: str) -> tuple[bool, bool]:
        """Does a control token swallow the white space to its left, to its right?"""
        return self._strips.get(control_token, (False, False))

    @cached_property
    def _strips(self) -> dict[str, tuple[bool, bool]]:
        return {token["content"]: (token["lstrip"], token["rstrip"]) for token in self._description["added_tokens"]}

    def _encode_around_controls(self, text: str) -> list[int]:
        """For models whose own vocabulary spells control tokens (Unigram): cut each one after its first character."""
        pattern = re.compile(
            "|".join(
                re.escape(t[0]) + f"(?={re.escape(t[1:])})"
                for t in sorted(self.control_tokens, key=len, reverse=True)
                if len(t) > 1
            )
        )
        cuts = [0, *(match.end() for match in pattern.finditer(text)), len(text)]
        pieces = [text[start:end] for start, end in pairwise(cuts) if end > start]
        ids = [id_ for piece in pieces for id_ in self._text.encode(piece, add_special_tokens=False).ids]
        return [id_ for id_ in ids if id_ not in self._control_ids]

    def encode_document(self, text: str) -> list[int]:
        """A whole document as a model is trained on it: start token, text, end token."""
        return [self.document_start_id, *self.encode(text), self.document_end_id]

    def decode(self, ids: Iterable[int], *, keep_control_tokens: bool = True) -> str:
        """Text of `ids`; bytes that are no UTF-8 (a cut character) become U+FFFD."""
        kept = ids if keep_control_tokens else (id_ for id_ in ids if id_ not in self._control_ids)
        return self.full.decode(list(kept), skip_special_tokens=False)

    def count_bytes(self, text: str) -> int:
        """UTF-8 bytes of `text`, the denominator of bits per byte."""
        return len(_without_surrogates(text).encode())

    # -- the text encoder --------------------------------------------------------------------------------------

    def _text_encoder(self) -> tokenizers.Tokenizer:
        """The same tokenizer, told to read every control token's spelling as ordinary text; ids stay the same."""
        description = json.loads(json.dumps(self._description))
        for token in description["added_tokens"]:
            token["special"] = token["content"] in self.control_tokens
        description["truncation"] = description["padding"] = None
        encoder = _library().Tokenizer.from_str(json.dumps(description))
        encoder.encode_special_tokens = True
        return encoder

    def _writes_bos(self) -> bool:
        bos = self.bos_id
        return bos is not None and self.full.encode("", add_special_tokens=True).ids[:1] == [bos]


def _without_surrogates(text: str) -> str:
    """Lone surrogates (from broken JSON escapes) cannot be UTF-8; they become U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a byte-level BPE with our special tokens, chat template and single-digit numbers.

    `vocab_size` counts the special tokens and the 256 bytes; a small text may not fill it. Deterministic in the texts
    and their order.
    """
    smallest = BYTE_ALPHABET_SIZE + len(SPECIAL_TOKENS)
    if vocab_size < smallest:
        raise FathomError(
            f"a vocabulary of {vocab_size} tokens is too small: 256 bytes and {len(SPECIAL_TOKENS)} special tokens "
            f"need at least {smallest}"
        )
    library = _library()
    full = library.Tokenizer(library.models.BPE())
    full.pre_tokenizer = library.pre_tokenizers.Sequence(
        [
            library.pre_tokenizers.Split(library.Regex(SPLIT_PATTERN), behavior="isolated"),
            library.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    full.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    full.train_from_iterator((_without_surrogates(text) for text in texts), trainer)
    # Elsewhere a bare text is then encoded as ours is trained: with the token that begins a document.
    begin = (DOCUMENT_TOKEN, full.token_to_id(DOCUMENT_TOKEN))
    full.post_processor = library.processors.TemplateProcessing(single=f"{begin[0]} $A", special_tokens=[begin])
    return own_tokenizer(_thinking_stays_visible(full))


def _thinking_stays_visible(full: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """Other libraries drop special tokens when they decode an answer; its thinking tags should be seen (as in R1)."""
    description = json.loads(full.to_str())
    for token in description["added_tokens"]:
        token["special"] = token["content"] not in (THINK_OPEN, THINK_CLOSE)
    return _library().Tokenizer.from_str(json.dumps(description))


def own_tokenizer(full: tokenizers.Tokenizer) -> Tokenizer:
    """Wrap a vocabulary trained by `train_tokenizer` with its roles and template."""
    roles = {"bos_token": DOCUMENT_TOKEN, "eos_token": END_TOKEN, "pad_token": PAD_TOKEN}
    return Tokenizer(full, special_tokens=roles, chat_template=CHAT_TEMPLATE)


__all__ = ["MAX_TEMPLATE_BYTES", "SPECIAL_TOKENS", "Tokenizer", "train_tokenizer"]
