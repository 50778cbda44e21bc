"""The tokenizer that a GGUF file carries in its metadata, rebuilt with `tokenizers`.

Only byte-level BPE ("gpt2" in ggml's words) is rebuilt. The file stores vocabulary and merges but only the *name* of
the splitting rule that runs before them; the rules below are those of the original tokenizers that each name stands for
(`tokenizer.json` of SmolLM2, Llama 3, Qwen2.5), as llama.cpp's `src/llama-vocab.cpp` lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fathom.data.tokenizer import SPLIT_PATTERN, Tokenizer
from fathom.errors import FathomError, MissingExtra

if TYPE_CHECKING:
    from tokenizers import Tokenizer as RawTokenizer

_ROLES = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}
_CONTROL, _USER_DEFINED = 3, 4  # ggml's token types; 1 is an ordinary piece
_QWEN2 = SPLIT_PATTERN  # single digits
_LLAMA3 = _QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
_REGEX = {"llama-bpe": _LLAMA3, "llama3": _LLAMA3, "llama-v3": _LLAMA3, "qwen2": _QWEN2, "deepseek-r1-qwen": _QWEN2}
_GPT2, _SINGLE_DIGITS = {"gpt-2"}, {"smollm", "starcoder", "refact", "command-r"}
_WHOLE_PIECES_FIRST = {"llama-bpe", "llama3", "llama-v3"}  # a piece that is in the vocabulary is not merged from bytes
_COMPOSED = {"qwen2", "deepseek-r1-qwen"}  # Unicode form NFC before splitting

# Names that mean "the answer ends here" wherever they are control tokens (llama.cpp's end-of-generation set).
_END_NAMES = {
    "<|im_end|>", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "</s>",
    "<｜end▁of▁sentence｜>",
}  # fmt: skip


def tokenizer_from_gguf(metadata: Mapping[str, Any], where: str) -> Tokenizer:
    """Build the tokenizer described by the `tokenizer.*` keys of a GGUF file; `where` names the file in messages.

    Raises `FathomError` where a key is missing, of the wrong type, out of range, or of a kind that is not supported.
    """
    kind = metadata.get("tokenizer.ggml.model")
    if kind != "gpt2":
        raise FathomError(f"{where} carries a tokenizer of kind {kind!r}; only byte-level BPE ('gpt2') can be rebuilt")
    tokens = _strings(metadata, "tokenizer.ggml.tokens", where)
    types = metadata.get("tokenizer.ggml.token_type") or [1] * len(tokens)
    if not isinstance(types, list) or len(types) != len(tokens):
        raise FathomError(f"{where}: tokenizer.ggml.token_type must have one entry for each of {len(tokens)} tokens")
    template = metadata.get("tokenizer.chat_template")
    if template is not None and not isinstance(template, str):
        raise FathomError(f"{where}: tokenizer.chat_template must be a text")
    ids = {role: _id(metadata, key, tokens, where) for role, key in _ROLES.items()}
    full = _full(tokens, types, _strings(metadata, "tokenizer.ggml.merges", where), _rule(metadata, where), where)
    return Tokenizer(
        full,
        special_tokens={role: tokens[id_] for role, id_ in ids.items() if id_ is not None},
        chat_template=template,
        extra_eos=sorted(tokens[id_] for id_ in _ends(metadata, tokens, types, where)),
        add_bos=metadata.get("tokenizer.ggml.add_bos_token") is True,
    )


def _rule(metadata: Mapping[str, Any], where: str) -> str:
    """The name of the splitting rule, known to be one of those above."""
    name = metadata.get("tokenizer.ggml.pre")
    known = sorted(_GPT2 | _SINGLE_DIGITS | set(_REGEX))
    if name not in known:
        raise FathomError(
            f"{where} splits text by the rule {name!r} (tokenizer.ggml.pre), which is not known; known are "
            f"{', '.join(known)}"
        )
    return str(name)


def _full(tokens: list[str], types: list[int], merges: list[str], rule: str, where: str) -> RawTokenizer:
    try:
        from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
    except ImportError as error:
        raise MissingExtra("tokenizers") from error
    vocab = {token: index for index, token in enumerate(tokens)}
    if len(vocab) != len(tokens):
        raise FathomError(f"{where}: tokenizer.ggml.tokens names {len(tokens) - len(vocab)} tokens twice")
    pairs = [_pair(merge, vocab, where) for merge in merges]
    raw = Tokenizer(models.BPE(vocab=vocab, merges=pairs, ignore_merges=rule in _WHOLE_PIECES_FIRST))
    if rule in _COMPOSED:
        raw.normalizer = normalizers.NFC()
    raw.pre_tokenizer = _splitter(rule)
    raw.decoder = decoders.ByteLevel()
    for wanted, special in ((_CONTROL, True), (_USER_DEFINED, False)):
        added = [token for token, kind in zip(tokens, types, strict=True) if kind == wanted]
        raw.add_tokens([AddedToken(token, special=special, normalized=False) for token in added])
    return raw


def _splitter(rule: str) -> Any:
    from tokenizers import Regex, pre_tokenizers

    if rule in _REGEX:
        split = pre_tokenizers.Split(Regex(_REGEX[rule]), behavior="isolated")
        return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if rule in _SINGLE_DIGITS:
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2])
    return gpt2


def _pair(merge: str, vocab: Mapping[str, int], where: str) -> tuple[str, str]:
    # The pieces of a byte-level vocabulary hold no blank, so the first blank after the first letter parts them.
    left, _, right = merge.partition(" ")
    if left not in vocab or right not in vocab or left + right not in vocab:
        raise FathomError(f"{where}: the merge {merge[:40]!r} joins pieces that the vocabulary does not have")
    return left, right


def _strings(metadata: Mapping[str, Any], key: str, where: str) -> list[str]:
    value = metadata.get(key)
    if not isinstance(value, list) or not value or not isinstance(value[0], str):
        raise FathomError(f"{where} lacks the list of texts '{key}', without which its tokenizer cannot be rebuilt")
    return value


def _id(metadata: Mapping[str, Any], name: str, tokens: list[str], where: str) -> int | None:
    """The id under `tokenizer.ggml.<name>_token_id`, None where there is none."""
    key = f"tokenizer.ggml.{name}_token_id"
    value = metadata.get(key)
    if value is not None and not (isinstance(value, int) and 0 <= value < len(tokens)):
        raise FathomError(f"{where}: {key} is {value!r}; it must be an id below {len(tokens)}")
    return value


def _ends(metadata: Mapping[str, Any], tokens: list[str], types: list[int], where: str) -> frozenset[int]:
    """Ids that end an answer: those that the file names, and control tokens whose name says so."""
    named = {_id(metadata, name, tokens, where) for name in ("eos", "eot", "eom")} - {None}
    by_name = {i for i, (t, kind) in enumerate(zip(tokens, types, strict=True)) if kind == _CONTROL and t in _END_NAMES}
    return frozenset(named | by_name)  # type: ignore[arg-type]
