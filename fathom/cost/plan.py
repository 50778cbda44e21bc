"""Everything that `fathom plan` answers, put together from the files beside this one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from fathom.cost.architecture import Architecture
from fathom.cost.efficiency import typical_count
from fathom.cost.estimate import Estimate, estimate
from fathom.cost.feasible import Holding, holding
from fathom.cost.hardware import accelerator
from fathom.cost.inference import PREFILL_SHARES, PUBLISHED_SHARES, Service, kv_bytes_per_token, largest_batch
from fathom.cost.layouts import Placed
from fathom.cost.optimal import Alternative, Lever, compute_optimal, tornado
from fathom.cost.planfile import Plan
from fathom.cost.prices import price
from fathom.cost.regulators import of_run
from fathom.cost.run import Run
from fathom.errors import FathomError

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
        return holding(self.plan.run, self.batch_tokens, self.plan.optimizer)

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
        run = self.plan.run
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
        """What the reader must know of how the answer was got."""
        found = [*self.plan.notes, self.holding.note]
        if self.estimate is not None:
            found.append(self.estimate.price.caveat)
        return [note for note in found if note]

    @cached_property
    def service(self) -> Service | None:
        """How it would be served, as `[serving]` says or on one node; None where the shape is not known."""
        return _service(self.plan) if self.plan.run.architecture is not None else None

    def to_dict(self) -> dict[str, Any]:
        run = self.run
        document: dict[str, Any] = {
            "feasible": {
                "fits": not self.holding.why_not,
                "why_not": self.holding.why_not or None,
                "least_devices": self.holding.least_devices or None,
            },
            "model": {
                "name": run.name or None,
                "total_parameters": run.total,
                "active_parameters": run.active,
                "shape_known": run.architecture is not None,
            },
            "training": {"tokens": run.tokens, "sequence_length": run.length, "precision": run.precision},
            "cluster": {
                "accelerator": run.device.name,
                "count": self.devices,
                "count_assumed": not self.plan.run.count,
            },
            **(self.estimate.to_dict() if self.estimate else _without_price(run)),
            "flops_by_component": run.flops_by_component,
            "utilisation_factors": self.estimate.prediction.reasons if self.estimate else None,
            "memory": self._memory(),
            "step": self._step(),
            "dominates": self.dominates,
            "tornado": [lever.to_dict() for lever in self.levers],
            "compute_optimal": self.alternative.to_dict() if self.alternative else None,
            "regulators": of_run(run, self.estimate.device_hours.median if self.estimate else run.device_hours(0.33)),
            "serving": self._serving(),
            "notes": self.notes,
        }
        return document

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
            "method": "collectives as rings, each over the link or the network that it spans",
        }

    def _serving(self) -> dict[str, Any] | None:
        service = self.service
        if service is None:
            return None
        if service.batch < 1 / service.devices:
            return {"why": f"{service.devices} x {service.device.title} cannot hold the model and one sequence"}
        limit = service.decode_tokens_per_second
        return {
            "accelerator": service.device.name,
            "devices": service.devices,
            "precision": service.precision,
            "batch_per_device": service.batch,
            "context": service.context,
            "kv_bytes_per_token": {
                "value": kv_bytes_per_token(service.architecture, service.context, value_bytes=service.cache_bytes),
                "unit": "bytes",
                "method": f"cache of {service.context} positions in {8 * service.cache_bytes:.0f} bits, over positions",
            },
            "kv_bytes_per_token_as_published": self._published_cache(service),
            "prefill_tokens_per_second_limit": _rate(
                service.prefill_tokens_per_second, f"roofline, bound by {service.prefill_bound_by}"
            ),
            "prefill_tokens_per_second": (service.prefill_tokens_per_second * PREFILL_SHARES).to_dict(
                "tokens a second a device", "the share of the limit that published prefills of DeepSeek-V3 reach"
            ),
            "decode_tokens_per_second_limit": _rate(limit, f"roofline, bound by {service.bound_by}"),
            "decode_tokens_per_second": (limit * PUBLISHED_SHARES).to_dict(
                "tokens a second a device", "the share of the limit that published services reach"
            ),
            "usd_per_million_tokens": service.usd_per_million_tokens(self.plan.date).to_dict(
                "US dollars a million decoded tokens", "rent over tokens at that share, all devices busy"
            ),
            "at_load": self._at_load(service),
        }

    def _published_cache(self, service: Service) -> dict[str, Any] | None:
        """The cache in the widths in which the model's maker keeps it; None where that is not on file."""
        bits = self.plan.cache_bits
        if not bits:
            return None
        widths = {f"{name}_bytes": width / 8 for name, width in bits.items()}
        how = ", ".join(f"{name} {width:g} bits" for name, width in bits.items())
        return {
            "value": kv_bytes_per_token(service.architecture, service.context, **widths), "unit": "bytes",
            "method": f"cache of {service.context} positions as its maker keeps it ({how}), over positions",
        }  # fmt: skip

    def _at_load(self, service: Service) -> dict[str, Any] | None:
        """Devices and dollars for the tokens a second that `[serving]` asks for; None where it asks for none."""
        asked = float(self.plan.serving.get("tokens_per_second", 0.0))
        if not asked:
            return None
        devices = service.devices_for(asked)
        rent = price(service.device.name, self.plan.date).usd_per_hour
        a_million = devices * rent * (1e6 / (asked * 3600))
        return {
            "tokens_per_second": asked,
            "devices": devices.to_dict("devices", f"whole groups of {service.devices} at that share of the limit"),
            "usd_per_hour": (devices * rent).to_dict("US dollars an hour", "devices x rental price"),
            "usd_per_million_tokens": a_million.to_dict("US dollars a million decoded tokens", "dollars over tokens"),
        }


def _without_price(run: Run) -> dict[str, Any]:
    """The figures of `Estimate.to_dict` for a run that no layout holds: only the FLOPs are known."""
    flops = {"value": run.flops, "unit": "FLOP", "method": run.flops_method}
    priced = ("utilisation", "device_hours", "days", "energy_mwh", "co2_tonnes", "cost_usd")
    return {"flops": flops, **dict.fromkeys(priced)}


def _rate(value: float, method: str) -> dict[str, Any]:
    return {"value": value, "unit": "tokens a second a device", "method": method}


def _layout_row(placed: Placed) -> dict[str, Any]:
    return {
        "layout": str(placed.layout),
        "bytes_per_device": sum(placed.memory_bytes.values()),
        "communication_seconds": sum(placed.communication_seconds.values()),
        "bubble_share": placed.bubble_share,
    }


def _service(plan: Plan) -> Service:
    """On the devices asked for, or one node or as many as hold the weights; as full as memory allows."""
    architecture = plan.run.architecture
    assert isinstance(architecture, Architecture)
    asked = plan.serving
    device = accelerator(asked["accelerator"]) if "accelerator" in asked else plan.run.device
    context = int(asked.get("context") or asked.get("prompt_tokens", 0) + asked.get("output_tokens", 0) or 4096)
    precision = str(asked.get("precision", "fp8" if "fp8" in device.tflops else "bf16"))
    if precision not in ("bf16", "fp16", "fp32", "fp8", "fp4", "int8", "int4"):
        raise FathomError(f"serving.precision = {precision!r} is not known: it must be bf16, fp8, int8, fp4 or int4")
    node = max(1, device.devices_per_node)
    empty = Service(
        architecture=architecture, device=device, devices=node, batch=1, context=context, precision=precision
    )
    roomy = replace(empty, devices=int(asked["devices"])) if "devices" in asked else _with_room(empty, node)
    return replace(roomy, batch=max(largest_batch(roomy), 1e-9))


def _with_room(service: Service, node: int) -> Service:
    """On as many whole nodes, doubled each time, as hold the weights and one sequence."""
    devices = node
    while largest_batch(replace(service, devices=devices)) < 1 / devices and devices < 64 * node:
        devices *= 2
    return replace(service, devices=devices)
