"""Streamed text: whole characters, stop strings never shown, nothing lost."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.errors import FathomError
from fathom.infer.text import TextStream


def stream(chunks: list[bytes], stop: tuple[str, ...] = ()) -> tuple[list[str], str | None]:
    text = TextStream(lambda index: chunks[index], stop)
    return list(text.pieces(range(len(chunks)))), text.stopped_by


@given(st.text(min_size=1), st.data())
def test_any_split_of_the_bytes_gives_the_text_in_whole_characters(text: str, data: st.DataObject) -> None:
    raw = text.encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(raw)), max_size=8)) | {0, len(raw)})
    pieces, _ = stream([raw[a:b] for a, b in pairwise(cuts)])
    assert "".join(pieces) == text
    assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in text


@given(st.text("ab¤", max_size=12), st.lists(st.text("ab¤", min_size=1, max_size=4), min_size=1, max_size=3), st.data())
def test_text_is_cut_just_before_the_first_stop_string(text: str, stop: list[str], data: st.DataObject) -> None:
    raw = text.encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(raw)), max_size=6)) | {0, len(raw)})
    pieces, stopped_by = stream([raw[a:b] for a, b in pairwise(cuts)], tuple(stop))
    found = [(text.find(s), s) for s in stop if s in text]
    if stopped_by is None:
        assert not found
        assert "".join(pieces) == text
    else:
        shown = "".join(pieces)
        assert text.startswith(shown + stopped_by)
        assert not any(s in shown for s in stop)


def test_half_a_stop_string_that_diverges_comes_out() -> None:
    pieces, stopped_by = stream([b"answer EN", b"D", b"ING soon"], ("END.",))
    assert ("".join(pieces), stopped_by) == ("answer ENDING soon", None)
    assert pieces[0] == "answer "  # "EN" could have become the stop string


def test_a_character_that_never_ends_is_shown_as_broken_at_the_end() -> None:
    assert stream(["😊".encode()[:2]])[0] == ["\ufffd"]


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(FathomError, match="empty"):
        TextStream(lambda _: b"", ("",))
