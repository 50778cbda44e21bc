"""The four verdicts and the reasons that lead to one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    CONSISTENT = "consistent"
    IMPLAUSIBLE = "implausible"
    IMPOSSIBLE = "impossible"
    CANNOT_BE_TOLD = "cannot be told"


MEANING = {
    Verdict.CONSISTENT: "The figures fit each other, the hardware and what other published runs reached. That they fit "
    "does not show that they are true.",
    Verdict.IMPLAUSIBLE: "The figures are outside of what has been published, or contradict each other, so that one of "
    "them is wrong; they do not ask more than the hardware can do.",
    Verdict.IMPOSSIBLE: "The figures ask for more than the hardware can do.",
    Verdict.CANNOT_BE_TOLD: "Something that is needed to tell was not published; it is named.",
}


@dataclass(frozen=True, kw_only=True)
class Reason:
    """One sentence that bears on the verdict."""

    verdict: Verdict
    text: str

    def to_dict(self) -> dict[str, str]:
        return {"verdict": str(self.verdict), "text": self.text}
