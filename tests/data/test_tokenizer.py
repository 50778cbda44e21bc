"""Tokenizers: text survives the way there and back, control tokens never come from text, transformers agrees."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.data.tokenizer import SPECIAL_TOKENS, Tokenizer, train_tokenizer
from fathom.errors import FathomError

TRAINED = train_tokenizer(["a small text about numbers 12345 and words"] * 3, 300)
_MARKED = st.lists(st.one_of(st.text(max_size=20), st.sampled_from(SPECIAL_TOKENS)), max_size=8).map("".join)


@given(_MARKED)
@settings(max_examples=300)
def test_any_text_comes_back_and_holds_no_control_token(text: str) -> None:
    ids = TRAINED.encode(text)
    assert TRAINED.decode(ids) == text
    assert not set(ids) & set(TRAINED.control_tokens.values())


@given(st.lists(_MARKED, max_size=6))
@settings(max_examples=50)
def test_a_batch_is_the_texts_one_by_one(texts: list[str]) -> None:
    assert list(TRAINED.encode_batch(texts)) == [TRAINED.encode(text) for text in texts]


def test_digits_stand_alone() -> None:
    tokens = [TRAINED.full.id_to_token(id_) for id_ in TRAINED.encode("12345 and 67")]
    assert [token for token in tokens if any(map(str.isdigit, token))] == list("1234567")


def test_documents_are_framed() -> None:
    ids = TRAINED.encode_document("text")
    assert ids[0] == TRAINED.bos_id == ids[-1] == TRAINED.token_id("<|endoftext|>")
    assert ids[-1] in TRAINED.eos_ids
    assert TRAINED.token_id("<|end|>") in TRAINED.eos_ids
    assert TRAINED.pad_id not in TRAINED.eos_ids


def test_lone_surrogates_do_not_stop_the_work() -> None:
    assert TRAINED.decode(TRAINED.encode("a\ud800b")) == "a\ufffdb"


def test_training_is_deterministic() -> None:
    texts = [f"some text number {number}" for number in range(50)]
    assert train_tokenizer(texts, 320).digest == train_tokenizer(texts, 320).digest


def test_a_vocabulary_too_small_for_bytes_is_refused() -> None:
    with pytest.raises(FathomError, match="need at least 264"):
        train_tokenizer(["a"], 100)


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    TRAINED.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.digest == TRAINED.digest
    for name in ("bos_id", "eos_ids", "pad_id", "vocab_size", "chat_template", "control_tokens", "document_start_id"):
        assert getattr(loaded, name) == getattr(TRAINED, name), name


@pytest.mark.parametrize("architecture", ["deepseek_v3", "llama", "qwen3"])
def test_transformers_loads_the_export_with_the_same_ids(tmp_path: Path, architecture: str) -> None:
    from transformers import AutoTokenizer

    TRAINED.save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": architecture}))
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    text = "  words, 123 numbers\n\n\tand  ünïcödé 🙂 "
    assert theirs.encode(text, add_special_tokens=False) == TRAINED.encode(text)
    assert theirs.encode(text) == TRAINED.encode_document(text)[:-1]
    assert theirs.decode(TRAINED.encode(text)) == text
    assert (theirs.bos_token_id, theirs.pad_token_id) == (TRAINED.bos_id, TRAINED.pad_id)
    assert theirs.eos_token_id in TRAINED.eos_ids


def test_a_visible_thought_survives_transformers_decoding(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    TRAINED.save(tmp_path)
    ids = [
        TRAINED.token_id("<think>"),
        *TRAINED.encode("why"),
        TRAINED.token_id("</think>"),
        TRAINED.token_id("<|end|>"),
    ]
    assert AutoTokenizer.from_pretrained(tmp_path).decode(ids, skip_special_tokens=True) == "<think>why</think>"


# -- imported tokenizers -----------------------------------------------------------------------------------------


def unigram_with_control_pieces() -> tokenizers.Tokenizer:
    """A vocabulary that itself spells `</s>`, as SentencePiece models do."""
    pieces = [("<unk>", -10.0), ("</s>", -1.0), *((char, -5.0) for char in "</s>abc")]
    full = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, unk_id=0))
    full.add_special_tokens(["</s>"])
    return full


def test_a_vocabulary_that_spells_a_control_token_cannot_be_used_to_forge_it() -> None:
    tokenizer = Tokenizer(unigram_with_control_pieces(), special_tokens={"eos_token": "</s>"})
    ids = tokenizer.encode("ab</s>c")
    assert tokenizer.full.token_to_id("</s>") not in ids
    assert "".join(tokenizer.full.id_to_token(id_) for id_ in ids) == "ab</s>c"


def test_added_white_space_tokens_stay_text_and_markers_do_not() -> None:
    full = tokenizers.Tokenizer.from_str(TRAINED.full.to_str())
    full.add_tokens([tokenizers.AddedToken("    "), tokenizers.AddedToken("<tool_call>")])
    tokenizer = Tokenizer(full, special_tokens=TRAINED.special_tokens)
    assert full.token_to_id("    ") in tokenizer.encode("a    b")
    assert full.token_to_id("<tool_call>") not in tokenizer.encode("a<tool_call>b")
    assert tokenizer.decode(tokenizer.encode("a    <tool_call>b")) == "a    <tool_call>b"


def test_a_text_that_continues_another_gets_no_space_before_it() -> None:
    full = tokenizers.Tokenizer(tokenizers.models.BPE(vocab={"▁": 0, "a": 1, "b": 2, "<s>": 3}, merges=[]))
    full.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="first")
    full.add_special_tokens(["<s>"])
    tokenizer = Tokenizer(full, special_tokens={"bos_token": "<s>", "eos_token": "<s>"})
    assert tokenizer.encode("ab") == [0, 1, 2]
    assert tokenizer.encode("ab", continues=True) == [1, 2] == full.encode("<s>ab").ids[1:]


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("tokenizer.json", "{", "cannot read"),
        ("tokenizer_config.json", "{", "cannot read"),
        ("tokenizer_config.json", "[]", "it holds a list, not an object"),
        ("chat_template.jinja", "x" * 1_000_001, "of more than 1000000 is refused"),
        ("tokenizer_config.json", json.dumps({"chat_template": "x" * 1_000_001}), "more than 1000000 bytes"),
    ],
)
def test_a_broken_tokenizer_folder_names_the_file(tmp_path: Path, name: str, content: str, part: str) -> None:
    TRAINED.save(tmp_path)
    if name == "tokenizer_config.json":
        (tmp_path / "chat_template.jinja").unlink()
    (tmp_path / name).write_text(content)
    with pytest.raises(FathomError, match=part) as caught:
        Tokenizer.load(tmp_path)
    assert name in str(caught.value)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FathomError, match=r"has no tokenizer\.json"):
        Tokenizer.load(tmp_path)
