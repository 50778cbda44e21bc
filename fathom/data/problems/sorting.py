"""Sorting by insertion: every comparison is written down before the list that follows from it."""

from __future__ import annotations

from typing import Any


def number_sorting(question: str, answer: str, metadata: dict[str, Any]) -> tuple[str, str, str]:
    """Each next number is compared with the sorted ones from the front until it comes before one, and put there.

    `+35-63> +35+93<` reads: 35 comes and is greater than -63, less than 93. The new list follows on the next
    line. All numbers have a sign and two digits in the steps, and lose their `.0`. Of the question only its first line
    is kept: the rest asks for the answer as a list of quoted strings, the answer here is written as the question writes
    its numbers.
    """
    descending = metadata["direction"] == "descending"
    numbers = [int(float(text)) for text in metadata["original_numbers"]]
    ordered, lines = numbers[:1], [f"{numbers[0]:+03d}"]
    for number in numbers[1:]:
        place, relations = _place(number, ordered, descending)
        ordered.insert(place, number)
        lines.append(f"{relations}\n{_listed(ordered)}")
    return question.split("\n")[0], "\n".join(lines), ", ".join(metadata["sorted_numbers"])


def _listed(numbers: list[int]) -> str:
    return " ".join(f"{number:+03d}" for number in numbers)


def _place(number: int, ordered: list[int], descending: bool) -> tuple[int, str]:
    """Where `number` belongs, and its comparisons with the ordered numbers up to there."""
    relations: list[str] = []
    for place, other in enumerate(ordered):
        relation = "=" if number == other else "<" if number < other else ">"
        relations.append(f"{number:+03d}{other:+03d}{relation}")
        if number > other if descending else number < other:
            return place, " ".join(relations)
    return len(ordered), " ".join(relations)
