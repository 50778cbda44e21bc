"""Everything that `fathom plan` answers, put together from the files beside this one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fathom.cost.efficiency import typical_count
from fathom.cost.estimate import Estimate, estimate
from fathom.cost.feasible import Holding, holding
from fathom.cost.layouts import RANKING, Placed
from fathom.cost.optimal import Alternative, Lever, compute_optimal, tornado
from fathom.cost.planfile import Plan
from fathom.cost.regulators_plan import of_run
from fathom.cost.run import Run

# Tokens of one optimizer step where the plan names none: what published runs from 7B on use, at least one sequence a
# device (LLaMA: 4M; DeepSeek-V3: 63M on 2048 devices).
TYPICAL_BATCH_TOKENS = 4e6
LAYOUTS_SHOWN = 8


@dataclass(frozen=True)
class Answer:
    """The answer to one plan; parts are computed when asked for."""

    plan: Plan

    @cached_property
    def holding(self) -> Holding:
        """Whether and how the devices hold the run."""
        return holding(self._asked, self.batch_tokens, self.plan.optimizer)

    @property
    def _asked(self) -> Run:
        assert self.plan.run is not None, "this plan is of a service alone"
        return self.plan.run

    @property
    def run(self) -> Run:
        """The run as priced: on as many devices as hold it, where the plan leaves their number open."""
        return self.holding.run

    @cached_property
    def estimate(self) -> Estimate | None:
        """None where the devices cannot hold the model: what cannot run has no price."""
        return None if self.holding.why_not else estimate(self.run, self.plan.date)

    @cached_property
    def levers(self) -> list[Lever]:
        return tornado(self.estimate, self.plan.date) if self.estimate else []

    @cached_property
    def alternative(self) -> Alternative | None:
        return compute_optimal(self.run) if self.estimate else None

    @property
    def batch_tokens(self) -> float:
        run = self._asked
        least = max(TYPICAL_BATCH_TOKENS, round(run.count or typical_count(run)) * run.length)
        return self.plan.batch_tokens or min(least, run.tokens)

    @property
    def devices(self) -> int:
        return self.holding.count

    @property
    def layouts(self) -> list[Placed] | None:
        """Layouts that fit, the best first; None where the shape is not known."""
        return self.holding.layouts

    @property
    def notes(self) -> list[str]:
        """What the reader must know of how the answer was got: said once, also where training and serving share it."""
        found = list(self.plan.notes)
        if self.plan.run is not None:
            found.append(self.holding.note)
            found += [*self.estimate.price.caveats, *self.estimate.doubts] if self.estimate else []
        if self.plan.serving is not None:
            found += self.plan.serving.caveats
        return [note for note in dict.fromkeys(found) if note]

    def to_dict(self) -> dict[str, Any]:
        """Every figure with its unit and method. Of a service alone there are the model, the serving and the notes."""
        if self.plan.run is None:
            return {"model": self.plan.model, "serving": self._serving, "notes": self.notes}
        run = self.run
        document: dict[str, Any] = {
            "feasible": {
                "fits": not self.holding.why_not,
                "why_not": self.holding.why_not or None,
                "least_devices": self.holding.least_devices or None,
            },
            "model": self.plan.model,
            "training": {"tokens": run.tokens, "sequence_length": run.length, "precision": run.precision},
            "cluster": {
                "accelerator": run.device.name,
                "count": self.devices,
                "count_assumed": not self._asked.count,
            },
            **(self.estimate.to_dict() if self.estimate else _without_price(run)),
            "flops_by_component": {"unit": "FLOP", "method": run.flops_method, "parts": run.flops_by_component},
            "utilisation_factors": self.estimate.prediction.factors_dict() if self.estimate else None,
            "memory": self._memory(),
            "step": self._step(),
            "dominates": self.dominates,
            "tornado": [lever.to_dict() for lever in self.levers],
            "compute_optimal": self.alternative.to_dict() if self.alternative else None,
            "regulators": of_run(run, self.estimate.device_hours.median if self.estimate else run.device_hours(0.33)),
            "serving": self._serving,
            "notes": self.notes,
        }
        return document

    @property
    def _serving(self) -> dict[str, Any] | None:
        """How it would be served, as `[serving]` says or on one node; None where the shape is not known."""
        return self.plan.serving.to_dict() if self.plan.serving else None

    @property
    def dominates(self) -> str:
        """The largest part of the FLOPs and the largest lever, in words."""
        parts = self.run.flops_by_component
        name = max(parts, key=lambda part: parts[part])
        share = parts[name] / sum(parts.values())
        words = name.replace("_", " ")
        lever = f"; what moves the cost most: {self.levers[0].name}" if self.levers else ""
        return f"{words}: {share:.0%} of the FLOPs{lever}"

    def _memory(self) -> dict[str, Any]:
        if self.layouts is None:
            return {"per_device": None, "why": "the model's shape is not given, only its size"}
        best = self.layouts[0] if self.layouts else None
        return {
            "per_device": {"unit": "bytes", **best.memory_bytes} if best else None,
            "available": {"value": self.run.device.memory_gb * 1e9, "unit": "bytes"},
            "layout": str(best.layout) if best else None,
            "layouts_that_fit": [_layout_row(placed) for placed in self.layouts[:LAYOUTS_SHOWN]],
            "layouts_that_fit_count": len(self.layouts),
            "ranking": RANKING,
            "method": "16-bit weights, 32-bit gradients and master copy, optimizer sharded over replicas; first stage",
            **({} if best else {"why": f"no layout holds the model: {self.holding.why_not}"}),
        }

    def _step(self) -> dict[str, Any]:
        if not self.layouts:
            return {"tokens": self.batch_tokens, "communication": None}
        best = self.layouts[0]
        return {
            "tokens": self.batch_tokens,
            "communication": {
                kind: {"bytes_a_device": sent, "seconds_if_not_overlapped": best.communication_seconds[kind]}
                for kind, sent in best.sent_bytes.items()
            },
            "bubble_share": best.bubble_share,
            "method": "collectives as rings, each over the link or the network that it spans, a ring a member",
        }


def _without_price(run: Run) -> dict[str, Any]:
    """The figures of `Estimate.to_dict` for a run that no layout holds: only the FLOPs are known."""
    flops = {"value": run.flops, "unit": "FLOP", "method": run.flops_method}
    priced = ("utilisation", "device_hours", "days", "energy_mwh", "co2_tonnes", "cost_usd")
    return {"flops": flops, **dict.fromkeys(priced)}


def _layout_row(placed: Placed) -> dict[str, Any]:
    return {
        "layout": str(placed.layout),
        "bytes_per_device": sum(placed.memory_bytes.values()),
        "communication_seconds": sum(placed.communication_seconds.values()),
        "bubble_share": placed.bubble_share,
    }
