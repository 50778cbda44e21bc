"""Sums over events: seconds, joules, tokens, FLOPs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from fathom.ledger.events import Evaluation, Joules, Payload, Step


@dataclass
class Totals:
    """What some events took together."""

    seconds: float = 0.0
    joules: dict[str, float] = field(default_factory=lambda: {"low": 0.0, "likely": 0.0, "high": 0.0})
    methods: set[str] = field(default_factory=set)
    lost_samples: int = 0
    steps: int = 0
    tokens: int = 0
    flops: Counter[str] = field(default_factory=Counter)

    def add(self, event: Payload) -> None:
        self.seconds += event.elapsed_seconds
        self.add_joules(event.joules)
        if isinstance(event, Step):
            self.steps, self.tokens = self.steps + 1, self.tokens + event.tokens
        if isinstance(event, Step | Evaluation):
            self.flops.update(event.flops)

    def add_joules(self, joules: Joules) -> None:
        for end in self.joules:
            self.joules[end] += getattr(joules, end)
        self.lost_samples += joules.lost_samples
        self.methods.add(joules.method)

    def merge(self, other: Totals) -> None:
        self.seconds, self.steps, self.tokens = (
            self.seconds + other.seconds,
            self.steps + other.steps,
            self.tokens + other.tokens,
        )
        for end in self.joules:
            self.joules[end] += other.joules[end]
        self.methods |= other.methods
        self.lost_samples += other.lost_samples
        self.flops.update(other.flops)

    @property
    def method(self) -> str:
        """How the joules were got: one method's name, or several joined, so that `modelled` is never hidden."""
        return " + ".join(sorted(self.methods)) if self.methods else "unknown"

    def as_dict(self) -> dict[str, Any]:
        return {
            "seconds": self.seconds,
            "joules": {**self.joules, "method": self.method, "lost_samples": self.lost_samples},
            "steps": self.steps,
            "tokens": self.tokens,
            "flops": {
                "total": self.flops.total(),
                "by_component": dict(sorted(self.flops.items())),
            },
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Totals:
        """The sums as `as_dict` wrote them."""
        joules = value["joules"]
        return cls(
            seconds=value["seconds"],
            joules={end: joules[end] for end in ("low", "likely", "high")},
            methods=set(joules["method"].split(" + ")),
            lost_samples=joules["lost_samples"],
            steps=value["steps"],
            tokens=int(value["tokens"]),
            flops=Counter({name: int(count) for name, count in value["flops"]["by_component"].items()}),
        )
