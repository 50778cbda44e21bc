"""The answer to `[serving]`: what a service of this model gives on these devices, each figure with unit and method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from fathom.cost.architecture import Architecture, Experts
from fathom.cost.hardware import Accelerator, did_you_mean
from fathom.cost.inference import (
    BYTES,
    SHARES,
    Service,
    kv_bytes_per_token,
    largest_batch,
    multi_head_bytes_per_token,
)
from fathom.cost.prices import price
from fathom.errors import FathomError

PER_MILLION = {"prefill": "US dollars a million input tokens", "decode": "US dollars a million decoded tokens"}
TYPICAL_CONTEXT = 4096  # positions, where [serving] names none
# Where [serving] names no devices: the least nodes for a mixture beyond one (32 devices prefill in both published
# services of DeepSeek-V3, docs/plan.md), and the most that are tried.
NODES_OF_EXPERTS, MOST_NODES = 4, 64


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What is asked for: `asked` is the table `[serving]`, checked; `cache_bits` the widths that the maker keeps."""

    architecture: Architecture
    device: Accelerator
    asked: Mapping[str, Any] = field(default_factory=dict)
    date: str | None = None
    cache_bits: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def service(self) -> Service:
        """On the devices asked for, or one node or as many as hold the weights; as full as memory allows."""
        empty = Service(
            architecture=self.architecture, device=self.device, devices=max(1, self.device.devices_per_node), batch=1,
            context=self._context, precision=self._precision,
        )  # fmt: skip
        devices = int(self.asked.get("devices", 0))
        roomy = replace(empty, devices=devices) if devices else _with_room(empty)
        return replace(roomy, batch=max(largest_batch(roomy), 1e-9))

    @property
    def caveats(self) -> list[str]:
        """What a reader must be told of the rent; nothing where the devices cannot hold the model and have no price."""
        return [] if self._no_room else price(self.device.name, self.date).caveats

    @property
    def _no_room(self) -> bool:
        """Whether the devices together cannot hold the weights and one sequence."""
        return self.service.batch < 1 / self.service.devices

    @property
    def _context(self) -> int:
        both = self.asked.get("prompt_tokens", 0) + self.asked.get("output_tokens", 0)
        return int(self.asked.get("context") or both or TYPICAL_CONTEXT)

    @property
    def _precision(self) -> str:
        precision = str(self.asked.get("precision", "fp8" if "fp8" in self.device.tflops else "bf16"))
        if precision not in BYTES:
            hint = did_you_mean(precision, BYTES)
            raise FathomError(
                f"serving.precision = {precision!r} is not known: it must be one of {', '.join(BYTES)}{hint}"
            )
        return precision

    def to_dict(self) -> dict[str, Any]:
        service = self.service
        if self._no_room:
            return {
                "why": f"{service.devices} x {service.device.title} cannot hold the model in {service.precision} "
                f"({service.weight_bytes * service.devices / 1e9:,.0f} GB) and one sequence"
            }
        return {
            "accelerator": service.device.name,
            "devices": service.devices,
            "precision": service.precision,
            "precision_assumed": "precision" not in self.asked,
            "batch_per_device": service.batch,
            "context": service.context,
            "kv_bytes_per_token": {
                "value": kv_bytes_per_token(service.architecture, service.context, value_bytes=service.cache_bytes),
                "unit": "bytes",
                "method": f"cache of {service.context} positions in {8 * service.cache_bytes:.0f} bits, over positions",
            },
            "kv_bytes_per_token_as_published": self._published_cache(service),
            "kv_ratio_to_multi_head": _kv_ratio(service),
            **_rates(service),
            "usd_per_million_input_tokens": self._busy_price(service, "prefill"),
            "usd_per_million_tokens": self._busy_price(service, "decode"),
            "at_load": self._at_load(service),
        }

    def _published_cache(self, service: Service) -> dict[str, Any] | None:
        """The cache in the widths in which the model's maker keeps it; None where that is not on file."""
        if not self.cache_bits:
            return None
        widths = {f"{name}_bytes": width / 8 for name, width in self.cache_bits.items()}
        how = ", ".join(f"{name} {width:g} bits" for name, width in self.cache_bits.items())
        return {
            "value": kv_bytes_per_token(service.architecture, service.context, **widths), "unit": "bytes",
            "method": f"cache of {service.context} positions as its maker keeps it ({how}), over positions",
        }  # fmt: skip

    def _busy_price(self, service: Service, phase: str) -> dict[str, Any]:
        dollars = service.usd_per_million_tokens(self.date, phase)
        return dollars.to_dict(PER_MILLION[phase], "rent over tokens at that share, all devices busy")

    def _at_load(self, service: Service) -> dict[str, Any] | None:
        """Devices and dollars for the tokens a second that `[serving]` asks for; None where it asks for none.

        The load is of output tokens; the prompts that belong to it are read by devices of their own (`prefill`).
        """
        asked = float(self.asked.get("tokens_per_second", 0.0))
        if not asked:
            return None
        ratio, how = self._input_over_output
        prefill = self._phase_at_load(service, "prefill", asked * ratio)
        return self._phase_at_load(service, "decode", asked) | {"prefill": prefill | {"method": how}}

    @property
    def _input_over_output(self) -> tuple[float, str]:
        """Input tokens an output token, and how that is known."""
        prompt, output = self.asked.get("prompt_tokens", 0.0), self.asked.get("output_tokens", 0.0)
        if prompt and output:
            return prompt / output, f"{prompt:g} input tokens to {output:g} output tokens, as asked"
        return 1.0, "as many input tokens as output tokens, assumed: prompt_tokens and output_tokens say another"

    def _phase_at_load(self, service: Service, phase: str, asked: float) -> dict[str, Any]:
        devices = service.devices_for(asked, phase)
        an_hour = devices * price(service.device.name, self.date).usd_per_hour
        return {
            "tokens_per_second": asked,
            "devices": devices.to_dict("devices", f"whole groups of {service.devices} at that share of the limit"),
            "usd_per_hour": an_hour.to_dict("US dollars an hour", "devices x rental price"),
            "usd_per_million_tokens": (an_hour * (1e6 / (asked * 3600))).to_dict(
                PER_MILLION[phase], "dollars over tokens"
            ),
        }


def _kv_ratio(service: Service) -> dict[str, Any]:
    """How many times less a token keeps than under plain multi-head attention of the same heads, both in 16 bits."""
    plain = multi_head_bytes_per_token(service.architecture, service.cache_bytes)
    kept = kv_bytes_per_token(service.architecture, service.context, value_bytes=service.cache_bytes)
    return {
        "value": plain / kept, "unit": "times less than plain multi-head attention",
        "method": f"plain multi-head attention of the same heads and head widths keeps {plain:,.0f} bytes a token",
    }  # fmt: skip


def _with_room(service: Service) -> Service:
    """On as many whole nodes, doubled each time, as hold the weights and one sequence."""
    nodes, node = 1, service.devices
    while largest_batch(replace(service, devices=nodes * node)) < 1 / (nodes * node) and nodes < MOST_NODES:
        nodes *= 2
    mixture = any(isinstance(layer.feed_forward, Experts) for layer in service.architecture.layers)
    if mixture and nodes > 1:
        nodes = max(nodes, NODES_OF_EXPERTS)
    return replace(service, devices=nodes * node)


def _rates(service: Service) -> dict[str, Any]:
    """Of prefill and decoding: the roofline, which is an upper bound, and what published services reach of it."""
    found: dict[str, Any] = {}
    for phase, bound_by, whose in (
        ("prefill", service.prefill_bound_by, "prefills of DeepSeek-V3 reach"),
        ("decode", service.bound_by, "services reach"),
    ):
        limit, shares = service.limit(phase), SHARES[phase]
        unit = "tokens a second a device"
        found[f"{phase}_tokens_per_second_limit"] = {
            "value": limit, "unit": unit, "method": f"roofline, an upper bound: by {bound_by.replace('_', ' ')}",
        }  # fmt: skip
        method = f"the share of the limit that published {whose} ({shares.low:.0%} to {shares.high:.0%})"
        found[f"{phase}_tokens_per_second"] = (limit * shares).to_dict(unit, method)
    return found
