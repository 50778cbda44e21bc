"""A claim on file: what was stated, by whom, where it can be read, and what it takes to try it.

One TOML file a claim (`fathom/cost/claims/*.toml`, format in `docs/claims.md`). Every figure carries its source, the
place in it, whether it was stated there or derived from it, and whether the place was read (`seen`): a figure that is
only recalled or quoted second-hand is kept, marked, and said to be so wherever it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fathom.cost.figures import UNITS

Kind = Literal["training", "inference", "capacity", "arithmetic", "closed", "rule"]

KINDS: dict[Kind, str] = {
    "training": "a training run: tokens, device-hours, price",
    "inference": "a service: tokens, nodes, income",
    "capacity": "machines announced or alleged",
    "arithmetic": "a sum made about somebody else's figures",
    "closed": "a closed system: what its maker published",
    "rule": "a rule with numbers in it",
}


@dataclass(frozen=True, kw_only=True)
class Source:
    """A document. `primary` where it is the claimant's own."""

    id: str
    title: str
    url: str
    primary: bool = True
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One value. `basis` is "stated" or "derived" (`derivation` says how), or "assumed": ours, of which the
    claimant says nothing (`derivation` says why it was taken). `seen` is whether the place was read."""

    name: str
    value: float | str
    source: Source
    where: str
    basis: Literal["stated", "derived", "assumed"] = "stated"
    seen: bool = True
    seen_in: str = ""  # where it was read instead, if not in the source itself
    derivation: str = ""
    note: str = ""
    unit: str = ""

    @property
    def number(self) -> float:
        """The value as a number; text figures (an accelerator's name) have none."""
        assert isinstance(self.value, float), f"{self.name} is text"
        return self.value

    @property
    def shown_unit(self) -> str:
        return self.unit or UNITS.get(self.name, "")

    def to_dict(self) -> dict[str, Any]:
        row: dict[str, Any] = {"value": self.value, "unit": self.shown_unit, "basis": self.basis, "seen": self.seen}
        row |= {"source": self.source.id, "where": self.where}
        row |= {k: v for k in ("seen_in", "derivation", "note") if (v := getattr(self, k))}
        return row


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of a run with figures of its own (pre-training, context extension, post-training)."""

    name: str
    figures: Mapping[str, Figure]


def stage_key(name: str) -> str:
    """A stage's name as it begins the names of its figures in expressions: `pre_training`."""
    return name.lower().replace(" ", "_").replace("-", "_")


@dataclass(frozen=True, kw_only=True)
class Check:
    """An identity that the claim's own figures must satisfy.

    `expression` and `equals` are arithmetic over figures; they agree when they differ by at most `tolerance`
    (relative), or by `relation` when the one is at most, or at least, the other. `says` is what it shows, in plain
    words. One that does not bear on the verdict (`bears` false) is shown and no more.
    """

    title: str
    expression: str
    equals: str
    tolerance: float
    says: str
    unit: str = ""
    relation: Literal["equals", "at most", "at least"] = "equals"
    bears: bool = True


@dataclass(frozen=True, kw_only=True)
class Result:
    """A figure worth showing that follows from the claim's own: a name for readers and the arithmetic."""

    title: str
    expression: str
    unit: str
    says: str = ""


@dataclass(frozen=True, kw_only=True)
class Omission:
    """Something that the stated price leaves out, in dollars or as a multiple of the run's own price."""

    name: str
    says: str
    low: float
    high: float
    per: Literal["usd", "run"]  # "run": times the price of the run itself
    source: Source
    where: str
    adds: bool = True  # False: another way of counting the same thing, not to be added
    seen: bool = True
    seen_in: str = ""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """See `docs/claims.md`."""

    id: str
    title: str
    kind: Kind
    subject: str  # the model or fleet that the claim is about
    family: str  # who made the model: leave-one-family-out goes by this
    made_by: str
    date: str
    statement: str  # the claim in one plain sentence
    sources: Mapping[str, Source]
    figures: Mapping[str, Figure]
    stages: tuple[Stage, ...] = ()
    checks: tuple[Check, ...] = ()
    results: tuple[Result, ...] = ()
    omissions: tuple[Omission, ...] = ()
    model: Mapping[str, Any] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    context: str = ""  # what a reader should know, in plain words
    stands_on: str = ""  # for a price that cannot be true: what it leaves out as its base, and what may be said
    compares_with: tuple[str, ...] = ()  # other claims on file
    path: str = ""

    def value(self, name: str) -> float | None:
        """The number called `name`, or None where the claim does not give it."""
        figure = self.figures.get(name)
        return figure.number if figure is not None and isinstance(figure.value, float) else None

    def text(self, name: str) -> str:
        figure = self.figures.get(name)
        return str(figure.value) if figure is not None else ""

    def numbers(self) -> dict[str, float]:
        """Every numeric figure by name; a stage's are called `<stage>_<figure>` with underscores for blanks."""
        own = {name: figure.number for name, figure in self.figures.items() if isinstance(figure.value, float)}
        for stage in self.stages:
            numbers = {n: f.number for n, f in stage.figures.items() if isinstance(f.value, float)}
            own |= {f"{stage_key(stage.name)}_{n}": number for n, number in numbers.items()}
        return own

    def all_figures(self) -> list[tuple[str, Figure]]:
        """Every figure with the stage it belongs to ("" for the claim's own)."""
        own = [("", figure) for figure in self.figures.values()]
        return own + [(stage.name, figure) for stage in self.stages for figure in stage.figures.values()]

    @property
    def unseen(self) -> list[Figure]:
        return [figure for _, figure in self.all_figures() if not figure.seen]

    @property
    def device_hours(self) -> float | None:
        """Stated device-hours, or devices times days times 24."""
        stated, count, days = (self.value(n) for n in ("device_hours", "accelerator_count", "wall_days"))
        if stated is not None or count is None or days is None:
            return stated
        return count * days * 24
