"""Curation: repairs what is broken, leaves what is unusual, drops with a reason, wipes out no source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.data.curate import RULES, clean, decide, judge
from fathom.data.duplicates import BANDS, band_keys, drop_duplicates, exact_key
from fathom.data.manifest import prepare
from fathom.data.tokenizer import Tokenizer
from tests.data.conftest import paragraphs


@pytest.mark.parametrize(
    ("broken", "mended", "change"),
    [
        ("cafÃ© â€” naÃ¯ve", "café — naïve", "encoding_repaired"),
        ("e\u0301te\u0301", "été", "composed"),
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd", "line_ends"),
        ("a\x00b\x07c\ufeffd\x1b[0m", "abcd[0m", "control_characters"),
        ("ü\ufdd0\uffff", "ü", "control_characters"),
        ("\n\na  \nb\t\n\n\n\n\n\nc \n", "a\nb\n\n\nc", "blank_space"),
    ],
)
def test_what_is_broken_is_repaired_and_said(broken: str, mended: str, change: str) -> None:
    cleaned = clean(broken)
    assert cleaned.text == mended
    assert change in cleaned.changes


@pytest.mark.parametrize(
    "text", ["“curly” ‘quotes’ … ﬁne ＷＩＤＥ", "日本語のテキスト", "tab\tand  spaces\n\n\n    code", "Ünïcödé ÀÉ ßà"]
)
def test_what_is_unusual_stays(text: str) -> None:
    assert clean(text).text == text
    assert clean(text).changes == ()


@given(st.text(max_size=200))
@settings(max_examples=200)
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    once = clean(text).text
    assert clean(once).text == once


BAD = {
    "empty": "   \n ",
    "undecodable": "abc\ufffd" * 20,
    "no_letters": "+--=--|" * 100,
    "long_words": "\n".join("0123456789abcdef" * 4 for _ in range(60)),
    "repeated_lines": "\n".join(["click here to subscribe to our newsletter"] * 20 + ["once"]),
    "repeated_words": "buy now " * 100,
    "placeholder": "Lorem ipsum dolor sit amet",
    "no_language": "\n".join(f"lot {n} crate bolt-{n * 7} weight {n * 13} kg" for n in range(40)),
}


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_catches_what_it_is_for(rule: str) -> None:
    assert judge(BAD[rule], code=False) == rule


def test_ordinary_texts_pass() -> None:
    good = [
        "yes",
        "Short.",
        "数学は美しい。" * 50,
        paragraphs(1, 500),
        "- a\n- b\n- c",
        "def f(x):\n    return x\n" * 3,
    ]
    assert [judge(text, code=False) for text in good] == [None] * len(good)
    assert judge("}{;:/+" * 100, code=True) is None


PROSE = {
    "English": "Call me Ishmael. Some years ago, having little money in my purse, I thought I would sail about. ",
    "German": "Als Gregor Samsa eines Morgens aus unruhigen Träumen erwachte, fand er sich in seinem Bett verwandelt. ",
    "French": "Longtemps, je me suis couché de bonne heure. Parfois, mes yeux se fermaient si vite. ",
    "Spanish": "En un lugar de la Mancha, de cuyo nombre no quiero acordarme, vivía un hidalgo. ",
    "Polish": "Litwo, ojczyzno moja, ty jesteś jak zdrowie; ile cię trzeba cenić, ten się tylko dowie. ",
    "Finnish": "Minun on mieleni, että se oli niin, mutta kun en tiedä, ei se ole varma. ",
    "Russian": "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему. ",
    "Greek": "Η ζωή είναι ωραία και ο ήλιος λάμπει πάνω από τη θάλασσα κάθε πρωί του καλοκαιριού. ",
}


@pytest.mark.parametrize("language", PROSE)
def test_prose_of_any_language_is_kept(language: str) -> None:
    assert judge(" ".join(f"{n}. {PROSE[language]}" for n in range(5)), code=False) is None


def test_a_rule_that_would_drop_most_of_a_source_is_switched_off() -> None:
    number = RULES.index("no_letters") + 1
    verdicts, notes = decide(np.array([number] * 6 + [0] * 4, np.uint8))
    assert not verdicts.any()
    assert "rule 'no_letters' would have dropped 60%" in notes[0]
    verdicts, notes = decide(np.array([number] * 4 + [0] * 6, np.uint8))
    assert (verdicts == number).sum() == 4
    assert notes == []


def arrays(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    exact = np.frombuffer(b"".join(map(exact_key, texts)), np.uint64).reshape(-1, 4)
    return exact, np.stack([band_keys(text) for text in texts]).reshape(-1, BANDS)


def test_duplicates_are_found_and_the_first_stays() -> None:
    original = paragraphs(1, 400)
    nearly = original.replace(original.split()[200], "changed", 1).upper()
    texts = [original, paragraphs(2, 400), original, nearly, "yes", "no", "yes"]
    exact_copy, near_copy, spared = drop_duplicates(*arrays(texts), np.zeros(7, int), np.ones(7, bool))
    assert exact_copy.tolist() == [False, False, True, False, False, False, True]
    assert near_copy.tolist() == [False, False, False, True, False, False, False]
    assert spared == set()


def test_half_different_texts_are_no_duplicates() -> None:
    first, second = paragraphs(1, 400), paragraphs(2, 400)
    mixed = first[: len(first) // 2] + second[len(second) // 2 :]
    exact_copy, near_copy, _ = drop_duplicates(*arrays([first, second, mixed]), np.zeros(3, int), np.ones(3, bool))
    assert not exact_copy.any()
    assert not near_copy.any()


def test_a_source_that_repeats_another_is_not_wiped_out() -> None:
    texts = [paragraphs(seed) for seed in (1, 2, 3)]
    both = [*texts, texts[0], texts[0], texts[1]]
    sources = np.array([0, 0, 0, 1, 1, 1])
    exact_copy, near_copy, spared = drop_duplicates(*arrays(both), sources, np.ones(6, bool))
    assert (exact_copy | near_copy).tolist() == [False, False, False, False, True, False]
    assert spared == {1}


def test_dropped_documents_do_not_count_as_the_first_of_their_kind() -> None:
    text = paragraphs(1)
    kept = np.array([False, True, True])
    exact_copy, _, _ = drop_duplicates(*arrays([text, text, text]), np.zeros(3, int), kept)
    assert exact_copy.tolist() == [False, False, True]


def test_the_manifest_counts_what_was_dropped_and_why(
    tmp_path: Path, tokenizer: Tokenizer, write_jsonl: Callable
) -> None:
    rows = [{"text": paragraphs(seed, 200)} for seed in range(12)]
    rows += [rows[3], {"text": rows[4]["text"] + " end"}, {"text": BAD["no_letters"]}, {"text": "  "}, {"text": None}]
    copies = rows[:4]
    paths = [write_jsonl(tmp_path / "first.jsonl", rows), write_jsonl(tmp_path / "copies.jsonl", copies)]
    manifest = prepare(paths, tmp_path / "out", tokenizer=tokenizer)
    first, second = manifest.sources
    assert first.dropped == {"duplicate": 1, "near_duplicate": 1, "no_letters": 1, "empty": 1, "no_text": 1}
    assert (first.documents_read, first.documents_kept) == (16, 12)
    assert (second.documents_kept, second.dropped) == (4, {})
    assert any("kept all the same" in note for note in second.notes)


def test_a_folder_of_odd_texts_is_kept_with_a_note(tmp_path: Path, tokenizer: Tokenizer) -> None:
    folder = tmp_path / "drawings"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.txt").write_text(f"+--{'=' * 300}--|{number}")
    (source,) = prepare([folder], tmp_path / "out", tokenizer=tokenizer).sources
    assert source.documents_kept == 5
    assert "switched off" in source.notes[0]
