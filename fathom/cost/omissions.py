"""What a stated price leaves out: a ledger of lines, each a range with its source.

The lines that hold for every training run are in `claims/omissions.toml`; a claim adds its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from fathom.cost.claim import Claim, Omission, Source
from fathom.cost.claim_file import parse_omission, parse_sources
from fathom.cost.claims import read_toml
from fathom.cost.verdict_words import Verdict

FILE = "omissions.toml"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One omission in dollars. `low` and `high` are None where the run's own price is not known."""

    omission: Omission
    low_usd: float | None
    high_usd: float | None

    def to_dict(self) -> dict[str, Any]:
        row = self.omission
        return {
            "name": row.name,
            "says": row.says,
            "low_usd": self.low_usd,
            "high_usd": self.high_usd,
            "range": {"low": row.low, "high": row.high, "per": row.per},
            "adds_to_the_price": row.adds,
            "source": {"title": row.source.title, "url": row.source.url, "where": row.where, "seen": row.seen},
        } | ({"seen_in": row.seen_in} if row.seen_in else {})


@dataclass(frozen=True, kw_only=True)
class OmissionLedger:
    """The stated price and everything beside it; `refused` says why nothing is added to a price that cannot be so."""

    price_usd: float | None
    price_method: str
    lines: tuple[Line, ...]
    refused: str = ""

    @property
    def total_usd(self) -> tuple[float, float] | None:
        """Price and all lines that add to it, low and high; None without a price, or where nothing is known to add."""
        if self.price_usd is None or self.refused or not self.lines:
            return None
        added = [line for line in self.lines if line.omission.adds]
        low = sum(line.low_usd or 0 for line in added)
        high = sum(line.high_usd or 0 for line in added)
        return self.price_usd + low, self.price_usd + high

    def to_dict(self) -> dict[str, Any]:
        total = self.total_usd
        return {
            "price_usd": {"value": self.price_usd, "unit": "US dollars", "method": self.price_method},
            "left_out": [line.to_dict() for line in self.lines],
            "with_what_is_left_out_usd": {"low": total[0], "high": total[1]} if total else None,
            "refused": self.refused,
        }


@cache
def _table() -> dict[str, Any]:
    text = resources.files("fathom.cost.claims").joinpath(FILE).read_text(encoding="utf-8")
    return read_toml(text, FILE)


@cache
def sources() -> dict[str, Source]:
    """The accounts that the lines for every run go back to, by id."""
    return parse_sources(_table()["source"], f"{FILE}: ")


@cache
def of_every_run() -> tuple[Omission, ...]:
    return tuple(parse_omission(row, sources(), f"{FILE}: ") for row in _table()["omission"])


def ledger(claim: Claim, price_usd: float | None, price_method: str, verdict: Verdict) -> OmissionLedger:
    """All lines for `claim`, in dollars of its price; none where the verdict is that the price cannot be so."""
    if verdict in REFUSED and (claim.omissions or claim.kind == "training"):
        return OmissionLedger(
            price_usd=price_usd, price_method=price_method, lines=(), refused=_refusal(claim, verdict)
        )
    rows = (*claim.omissions, *(of_every_run() if claim.kind == "training" else ()))
    return OmissionLedger(
        price_usd=price_usd, price_method=price_method, lines=tuple(_line(row, price_usd) for row in rows)
    )


REFUSED = {
    Verdict.IMPOSSIBLE: "cannot be true",
    Verdict.IMPLAUSIBLE: "is not plausible",
}


def _refusal(claim: Claim, verdict: Verdict) -> str:
    text = (
        f"Nothing is added here: by the verdict the claim {REFUSED[verdict]}, and a ledger on top of a price that "
        f"{REFUSED[verdict]} means nothing."
    )
    return f"{text} {claim.stands_on}" if claim.stands_on else text


def _line(row: Omission, price_usd: float | None) -> Line:
    if row.per == "usd":
        return Line(omission=row, low_usd=row.low, high_usd=row.high)
    if price_usd is None:
        return Line(omission=row, low_usd=None, high_usd=None)
    return Line(omission=row, low_usd=row.low * price_usd, high_usd=row.high * price_usd)
