"""Counting letters: each word is spelt, and the running count stands after every hit."""

from __future__ import annotations

from typing import Any


def letter_counting(question: str, answer: str, metadata: dict[str, Any]) -> tuple[str, str, str]:
    """One line a word: the word before it, itself, then its letters, the count so far after each that is asked for.

    A small model finds the next word of a text by what stands before it, hence the word before. Words stand as in the
    question, a space before each but the first, so that a tokenizer cuts them alike.
    """
    count, before, lines = 0, "", []
    for word in metadata["span"]:
        line = f"{before}{word}:"
        for letter in word.lower():
            line += f" {letter}"
            if letter == metadata["target_letter"]:
                count += 1
                line += str(count)
        lines.append(line)
        before = f"{word} " if not before else f" {word} "
    return question, "\n".join(lines), answer
