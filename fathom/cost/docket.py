"""The docket: every claim on file with its verdict in one row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fathom.cost.claim import KINDS
from fathom.cost.claims import all_on_file
from fathom.cost.verdict import Trial, try_claim
from fathom.cost.verdict_physics import hours_of
from fathom.cost.verdict_words import Verdict


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the docket. Numbers are None where the claim does not give them."""

    id: str
    title: str
    subject: str
    made_by: str
    kind: str
    date: str
    verdict: Verdict
    active_parameters: float | None
    tokens: float | None
    device_hours: float | None
    cost_usd: float | None
    cost_is_stated: bool
    utilisation: float | None
    hours_as_expected: bool | None
    missing: tuple[str, ...]
    unseen: int

    def to_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "verdict": str(self.verdict), "missing": list(self.missing)}


def row(trial: Trial) -> Row:
    claim, found = trial.claim, trial.physics
    return Row(
        id=claim.id,
        title=claim.title,
        subject=claim.subject,
        made_by=claim.made_by,
        kind=claim.kind,
        date=claim.date,
        verdict=trial.verdict,
        active_parameters=claim.value("active_parameters"),
        tokens=claim.value("tokens"),
        device_hours=hours_of(claim)[0],
        cost_usd=trial.priced.usd if trial.priced else None,
        cost_is_stated=claim.value("cost_usd") is not None,
        utilisation=found.utilisation if found and not trial.missing else None,
        hours_as_expected=trial.expected.met if trial.expected else None,
        missing=trial.missing,
        unseen=len(claim.unseen),
    )


def trials(done: Callable[[int, int], None] = lambda number, total: None) -> list[Trial]:
    """Every claim on file, tried, in order of name; `done` is told after each how many of how many."""
    claims, tried = all_on_file(), []
    for number, claim in enumerate(claims, start=1):
        tried.append(try_claim(claim))
        done(number, len(claims))
    return tried


# The disputed first: what a reader comes for.
_VERDICTS = (Verdict.IMPOSSIBLE, Verdict.IMPLAUSIBLE, Verdict.CONSISTENT, Verdict.CANNOT_BE_TOLD)
_KINDS = ("arithmetic", "inference", "rule", "capacity", "training", "closed")


def by_interest(line: Row) -> tuple[int, int, bool, str]:
    """Sort key: disputed claims, then sums and services, then runs with a price stated, then the rest."""
    return _VERDICTS.index(line.verdict), _KINDS.index(line.kind), not line.cost_is_stated, line.id


def docket_dict(rows: list[Row]) -> dict[str, Any]:
    """`fathom claim --list --json`."""
    counts = {str(verdict): sum(r.verdict == verdict for r in rows) for verdict in Verdict}
    return {"count": len(rows), "verdicts": counts, "kinds": dict(KINDS), "claims": [r.to_dict() for r in rows]}
