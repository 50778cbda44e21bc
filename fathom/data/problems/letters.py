"""Counting letters: the text letter by letter, the count so far behind each."""

from __future__ import annotations

from typing import Any


def letter_counting(question: str, answer: str, metadata: dict[str, Any]) -> tuple[str, str, str]:
    """`me0ee1 e1te1oe1`: every character of the text, the letter asked for beside it, and the count so far."""
    wanted, count, steps = metadata["target_letter"], 0, ""
    for character in " ".join(metadata["span"]):
        count += character.lower() == wanted
        steps += f"{character}{wanted}{count}"
    return question, steps, answer
