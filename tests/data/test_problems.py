"""Worked problems: pure functions of kind, seed and number; right by a derivation of their own; held out by text."""

import itertools
import re
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from fathom.data.problems import KINDS, check, held_out_problems, is_held_out, problem, training_problems
from fathom.errors import FathomError


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"-?\d+", text)]


def _sum(question: str) -> str:
    return str(sum(_numbers(question.replace("- ", "-"))))


def _product(question: str) -> str:
    first, second = re.search(r"(\d+) \* (\d+)", question).groups()
    return str(int(first) * int(second))


def _sorted(question: str) -> str:
    line = next(line for line in question.splitlines() if ":" in line)
    numbers = [int(number) for number in line.split(":")[1].split(",")]
    return ", ".join(str(number) for number in sorted(numbers, reverse="descending" in line))


def _letters(question: str) -> str:
    letter, text = re.search(r'letter "(.)" appear in the text: "(.*)"', question, re.DOTALL).groups()
    return str(text.lower().count(letter))


def _filtered(question: str) -> str:
    rule, limit, listed = re.search(r"^(\w+ all numbers \w+) than (\d+) in this list: (.*)$", question).groups()
    keeps = {
        "Keep all numbers larger": lambda n: n > int(limit),
        "Keep all numbers smaller": lambda n: n < int(limit),
        "Remove all numbers larger": lambda n: not n > int(limit),
        "Remove all numbers smaller": lambda n: not n < int(limit),
    }[rule]
    return ", ".join(str(n) for n in _numbers(listed) if keeps(n)) or "none"


def _interval(question: str) -> str:
    start, end = (datetime.strptime(time, "%H:%M") for time in re.findall(r"\d\d:\d\d", question))
    return (datetime(2000, 1, 1) + timedelta(seconds=(end - start).seconds)).strftime("%H:%M")


DERIVED: dict[str, Callable[[str], str]] = {
    "chain_sum": _sum,
    "products": _product,
    "number_sorting": _sorted,
    "letter_counting": _letters,
    "number_filtering": _filtered,
    "time_intervals": _interval,
}


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_an_independent_derivation(kind: str) -> None:
    for index in range(200):
        made = problem(kind, seed=3, index=index)
        assert made.answer == DERIVED[kind](made.question), made.question
        assert check(made, f" {made.answer}\n")
        assert not check(made, f"{made.answer}0")


@pytest.mark.parametrize("kind", KINDS)
def test_a_problem_depends_on_kind_seed_and_number_alone(kind: str) -> None:
    backwards = [problem(kind, 1, index) for index in reversed(range(20))]
    assert backwards[::-1] == [problem(kind, 1, index) for index in range(20)]
    assert len({made.question for made in backwards}) > 10
    assert {made.question for made in backwards} != {problem(kind, 2, index).question for index in range(20)}


def test_every_question_is_preceded_by_steps_of_its_own() -> None:
    for made in itertools.islice(training_problems(0), 300):
        assert made.thinking
        assert "\n\n" not in made.thinking
        question, reply = made.messages()
        assert (question["content"], reply["content"]) == (made.question, made.answer)


def test_training_never_shows_a_held_out_question() -> None:
    assert not any(is_held_out(made.question) for made in itertools.islice(training_problems(5), 2000))
    for kind in KINDS:
        asked = held_out_problems(kind, seed=5, count=10)
        assert len({made.question for made in asked}) == 10
        assert all(is_held_out(made.question) for made in asked)


def test_what_cannot_be_made_is_refused_by_name() -> None:
    with pytest.raises(FathomError, match="no problems of kind 'riddles'"):
        problem("riddles", 0, 0)
    with pytest.raises(FathomError, match="cannot be made"):
        problem("products", 0, -1)
    with pytest.raises(FathomError, match="no problems of kind 'riddles'"):
        next(training_problems(0, {"riddles": 1.0}))
