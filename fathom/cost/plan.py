"""Everything that `fathom plan` answers, put together from the files beside this one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from fathom.cost.architecture import Architecture
from fathom.cost.estimate import Estimate, estimate
from fathom.cost.flops import training_flops
from fathom.cost.hardware import accelerator
from fathom.cost.inference import PUBLISHED_SHARES, Service, kv_bytes_per_token, largest_batch
from fathom.cost.layouts import Placed, ranked
from fathom.cost.optimal import Alternative, Lever, compute_optimal, tornado
from fathom.cost.planfile import Plan
from fathom.cost.prices import price
from fathom.cost.regulators import of_run
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
    def estimate(self) -> Estimate:
        return estimate(self.plan.run, self.plan.date)

    @cached_property
    def levers(self) -> list[Lever]:
        return tornado(self.estimate, self.plan.date)

    @cached_property
    def alternative(self) -> Alternative:
        return compute_optimal(self.plan.run)

    @property
    def batch_tokens(self) -> float:
        least = max(TYPICAL_BATCH_TOKENS, self.devices * self.plan.run.length)
        return self.plan.batch_tokens or min(least, self.plan.run.tokens)

    @property
    def devices(self) -> int:
        return max(1, round(self.estimate.count))

    @cached_property
    def layouts(self) -> list[Placed] | None:
        """Layouts that fit, the best first; None where the shape is not known."""
        run = self.plan.run
        if run.architecture is None:
            return None
        step = training_flops(run.architecture, self.batch_tokens, run.length).total
        devices = self.devices if self.plan.run.count else _round_to_power(self.devices)
        return ranked(run.architecture, run.device, devices, run.length, self.batch_tokens, step, self.plan.optimizer)

    @cached_property
    def service(self) -> Service | None:
        """How it would be served, as `[serving]` says or on one node; None where the shape is not known."""
        return _service(self.plan) if self.plan.run.architecture is not None else None

    def to_dict(self) -> dict[str, Any]:
        run = self.plan.run
        document: dict[str, Any] = {
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
                "count_assumed": self.estimate.count_assumed,
            },
            **self.estimate.to_dict(),
            "flops_by_component": run.flops_by_component,
            "utilisation_factors": self.estimate.prediction.reasons,
            "memory": self._memory(),
            "step": self._step(),
            "dominates": self.dominates,
            "tornado": [lever.to_dict() for lever in self.levers],
            "compute_optimal": self.alternative.to_dict(),
            "regulators": of_run(run, self.estimate.device_hours.median),
            "serving": self._serving(),
            "notes": list(self.plan.notes),
        }
        return document

    @property
    def dominates(self) -> str:
        """The largest part of the FLOPs and the largest lever, in words."""
        parts = self.plan.run.flops_by_component
        name = max(parts, key=lambda part: parts[part])
        share = parts[name] / sum(parts.values())
        words = name.replace("_", " ")
        return f"{words}: {share:.0%} of the FLOPs; what moves the cost most: {self.levers[0].name}"

    def _memory(self) -> dict[str, Any]:
        if self.layouts is None:
            return {"per_device": None, "why": "the model's shape is not given, only its size"}
        best = self.layouts[0] if self.layouts else None
        return {
            "per_device": {"unit": "bytes", **best.memory_bytes} if best else None,
            "available": {"value": self.plan.run.device.memory_gb * 1e9, "unit": "bytes"},
            "layout": str(best.layout) if best else None,
            "layouts_that_fit": [_layout_row(placed) for placed in self.layouts[:LAYOUTS_SHOWN]],
            "layouts_that_fit_count": len(self.layouts),
            "method": "16-bit weights, 32-bit gradients and master copy, optimizer sharded over replicas; first stage",
            **({} if best else {"why": "no layout of these devices holds the model: take more or larger devices"}),
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
            "batch_per_device": service.batch,
            "context": service.context,
            "kv_bytes_per_token": {
                "value": kv_bytes_per_token(service.architecture, service.context, value_bytes=service.cache_bytes),
                "unit": "bytes",
                "method": f"cache of {service.context} positions in {8 * service.cache_bytes:.0f} bits, over positions",
            },
            "prefill_tokens_per_second_limit": _rate(service.prefill_tokens_per_second, "compute roofline"),
            "decode_tokens_per_second_limit": _rate(limit, f"roofline, bound by {service.bound_by}"),
            "decode_tokens_per_second": (limit * PUBLISHED_SHARES).to_dict(
                "tokens a second a device", "the share of the limit that published services reach"
            ),
            "usd_per_million_tokens": service.usd_per_million_tokens(self.plan.date).to_dict(
                "US dollars a million decoded tokens", "rent over tokens at that share, all devices busy"
            ),
            "at_load": self._at_load(service),
        }

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
    """On one node, or as many as hold the weights in half of their memory; as full as memory allows."""
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
    devices = node
    while largest_batch(replace(empty, devices=devices)) < 1 / devices and devices < 64 * node:
        devices *= 2
    roomy = replace(empty, devices=devices)
    return replace(roomy, batch=max(largest_batch(roomy), 1e-9))


def _round_to_power(count: int) -> int:
    return 2 ** round(max(count, 1).bit_length() - 1)
