"""Counting letters: each word is spelt, and the running count stands after every hit."""

from __future__ import annotations

from typing import Any


def letter_counting(question: str, answer: str, metadata: dict[str, Any]) -> tuple[str, str, str]:
    """One line a word: the word, then its letters one by one, the count so far after each letter that is asked for.

    Words stand as in the question, a space before each but the first, so that a tokenizer cuts them alike.
    """
    count, lines = 0, []
    for word in metadata["span"]:
        line = f"{word}:"
        for letter in word.lower():
            line += f" {letter}"
            if letter == metadata["target_letter"]:
                count += 1
                line += str(count)
        lines.append(line)
    return question, "\n ".join(lines), answer
