"""What is reported of answers: shares with Wilson intervals by kind; what was cut off counts as wrong."""

import math

import pytest

from fathom.data.problems import problem
from fathom.errors import FathomError
from fathom.evaluate.problems import Answered, Outcome, questions, results


def _outcome(right: int, wrong: int, cut: int) -> Outcome:
    asked = [problem("products", 0, index) for index in range(right + wrong + cut)]
    answered = [
        Answered(p, p.thinking, p.answer if i < right or i >= right + wrong else "no", truncated=i >= right + wrong)
        for i, p in enumerate(asked)
    ]
    return Outcome(answered, template=True, prompt_tokens=1, new_tokens=1, seconds=1.0)


def _wilson(correct: int, total: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """The interval by its textbook formula (Wilson 1927)."""
    share, scale = correct / total, 1 + z * z / total
    middle = (share + z * z / (2 * total)) / scale
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / scale
    return middle - half, middle + half


@pytest.mark.parametrize(("right", "wrong", "cut"), [(17, 3, 0), (0, 5, 0), (9, 0, 1), (1, 1, 2)])
def test_shares_and_their_intervals(right: int, wrong: int, cut: int) -> None:
    total = right + wrong + cut
    report = results(_outcome(right, wrong, cut), seed=0)
    assert (report["correct"], report["total"]) == (right, total)
    assert (report["low"], report["high"]) == pytest.approx(_wilson(right, total), abs=1e-9)
    assert report["truncated"] == cut / total
    assert report["kinds"]["products"]["accuracy"] == right / total


def test_questions_are_as_many_of_each_kind_and_none_twice() -> None:
    asked = questions(20, seed=1)
    assert len(asked) >= 20
    kinds = [p.kind for p in asked]
    assert len({kinds.count(kind) for kind in set(kinds)}) == 1
    assert len({p.question for p in asked}) == len(asked)
    with pytest.raises(FathomError, match="at least 1"):
        questions(0, seed=1)
