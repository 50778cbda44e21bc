"""Sorting by insertion: every comparison is written down before the list that follows from it."""

from __future__ import annotations

from typing import Any


def number_sorting(question: str, answer: str, metadata: dict[str, Any]) -> tuple[str, str, str]:
    """Each next number is compared with the sorted ones from the front until it comes before one, and put there.

    `35:-63<,93>` reads: 35 comes; -63 is less, 93 is greater. The new list follows on the next line. Of the question
    only its first line is kept: the rest asks for the answer as a list of quoted strings, the answer here is written
    as the question writes its numbers. Whole numbers lose their `.0` in the steps.
    """
    descending = metadata["direction"] == "descending"
    numbers = [int(float(text)) for text in metadata["original_numbers"]]
    ordered, lines = numbers[:1], [str(numbers[0])]
    for number in numbers[1:]:
        place, relations = _place(number, ordered, descending)
        ordered.insert(place, number)
        lines.append(f"{number}:{','.join(relations)}\n{','.join(map(str, ordered))}")
    return question.split("\n")[0], "\n".join(lines), ", ".join(metadata["sorted_numbers"])


def _place(number: int, ordered: list[int], descending: bool) -> tuple[int, list[str]]:
    relations = []
    for place, other in enumerate(ordered):
        relations.append(f"{other}{'=' if number == other else '>' if number < other else '<'}")
        if number > other if descending else number < other:
            return place, relations
    return len(ordered), relations
