"""Serving a model: what a token keeps in the cache, how fast tokens can come at most, what a million of them cost.

The limit is a roofline (Williams et al., CACM 2009): a step takes at least the time of its products at the peak rate
and at least the time of reading weights and cache at the memory's bandwidth. Experts spread over many devices add the
time of sending tokens to them and back. What services really reach of it, against published ones: see
`PUBLISHED_SHARES`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

from fathom.cost.architecture import Architecture, Attention, CompressedAttention, GroupedAttention, LatentAttention
from fathom.cost.checks import positive
from fathom.cost.flops import decode_flops_per_token, forward_flops_per_token
from fathom.cost.hardware import Accelerator
from fathom.cost.interval import Interval
from fathom.cost.parameters import parameters
from fathom.cost.prices import price

# What published services reach of the limits computed here (`benchmarks/serving_roofline.py` holds each against its
# source): the middle is used for expected rates. Those of prefill are of one model, DeepSeek-V3.
PUBLISHED_SHARES = Interval(0.35, 0.5, 0.7)
PREFILL_SHARES = Interval(0.25, 0.45, 0.6)
SHARES = {"prefill": PREFILL_SHARES, "decode": PUBLISHED_SHARES}
BYTES = {"bf16": 2.0, "fp16": 2.0, "fp32": 4.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5, "int4": 0.5}


def kv_cache_bytes(
    architecture: Architecture, context: int, *, value_bytes: float = 2.0, index_bytes: float | None = None,
    rope_bytes: float | None = None,
) -> float:  # fmt: skip
    """Bytes of cache for `context` positions of one sequence.

    `value_bytes` a number; `rope_bytes` those of the rotary part where it is kept wider, `index_bytes` those of an
    indexer's keys. Windows keep only their width, compressed attention one entry for `ratio` positions.
    """
    positive("context", context)
    rope = value_bytes if rope_bytes is None else rope_bytes
    index = value_bytes if index_bytes is None else index_bytes
    return sum(
        layer.count * _layer_cache(layer.attention, context, value_bytes, rope, index) for layer in architecture.layers
    )


def _layer_cache(a: Any, context: int, value: float, rope: float, index: float) -> float:
    if isinstance(a, GroupedAttention):
        kept = min([context, *(limit for limit in (a.window, a.chunk) if limit)])
        return kept * 2 * a.num_kv_heads * a.head_dim * value
    if isinstance(a, LatentAttention):
        indexer = a.indexer.head_dim * index if a.indexer else 0.0
        return context * (a.kv_lora_rank * value + a.qk_rope_head_dim * rope + indexer)
    return _compressed_cache(a, context, value, rope, index)


def _compressed_cache(a: CompressedAttention, context: int, value: float, rope: float, index: float) -> float:
    """One entry serves as key and value; an indexer keeps one key of its own for each."""
    entry = (a.head_dim - a.rope_dim) * value + a.rope_dim * rope
    entries = context // a.ratio if a.ratio else 0
    indexer = a.indexer.head_dim * index if a.indexer else 0.0
    return min(context, a.window) * entry + entries * (entry + indexer)


def kv_bytes_per_token(architecture: Architecture, context: int = 4096, **widths: float) -> float:
    """Mean bytes of cache a position, at `context` positions (the same at any for attention without windows)."""
    return kv_cache_bytes(architecture, context, **widths) / context


def multi_head_bytes_per_token(architecture: Architecture, value_bytes: float = 2.0) -> float:
    """What plain multi-head attention (arXiv:1706.03762) of the same layers, heads and head widths would keep of every
    position: a key and a value a head, none shared, compressed, or forgotten outside a window. Rotary parts that latent
    attention keeps beside its heads are not counted, as in arXiv:2405.04434, section 2.1.4."""
    return sum(layer.count * _multi_head_numbers(layer.attention) * value_bytes for layer in architecture.layers)


def _multi_head_numbers(a: Attention) -> int:
    if isinstance(a, LatentAttention):
        return a.num_heads * (a.qk_nope_head_dim + a.v_head_dim)
    return a.num_heads * 2 * a.head_dim


@dataclass(frozen=True, kw_only=True)
class Service:
    """A model whose weights `devices` devices share; on each `batch` sequences at once, `context` positions long."""

    architecture: Architecture
    device: Accelerator
    devices: int
    batch: float
    context: int
    precision: str = "bf16"
    cache_bytes: float = 2.0
    send_bytes: float = 3.0  # a number sent to an expert and back: 8 bits out, 16 back

    def __post_init__(self) -> None:
        for name in ("devices", "batch", "context"):
            positive(f"serving.{name}", getattr(self, name))

    @property
    def weight_bytes(self) -> float:
        """Of the whole model, on one device's share of it."""
        return parameters(self.architecture).total * BYTES[self.precision] / self.devices

    @property
    def cache_bytes_total(self) -> float:
        """On one device."""
        return self.batch * kv_cache_bytes(self.architecture, self.context, value_bytes=self.cache_bytes)

    @property
    def fits(self) -> bool:
        return self.weight_bytes + self.cache_bytes_total <= 0.9 * self.device.memory_gb * 1e9

    @property
    def decode_seconds(self) -> dict[str, float]:
        """Least time of one step that gives each sequence its next token, by what sets it."""
        flops = self.batch * sum(decode_flops_per_token(self.architecture, self.context).values())
        touched = self._touched_share
        memory = (self.weight_bytes * touched + self.cache_bytes_total) / (self.device.memory_gb_per_second * 1e9)
        return {
            "compute": flops / self.device.peak_flops(self.precision),
            "memory": memory,
            "experts_sent": self._sent_bytes / self._network_bytes_per_second,
        }

    @property
    def decode_tokens_per_second(self) -> float:
        """At most, a device: products, memory and sending overlap perfectly, the longest sets the pace."""
        return self.batch / max(self.decode_seconds.values())

    @property
    def bound_by(self) -> str:
        return max(self.decode_seconds, key=lambda name: self.decode_seconds[name])

    @property
    def prefill_seconds(self) -> dict[str, float]:
        """Least time of one token of prompts of `context` positions, a device, by what sets it.

        A token's copy is sent once to each node and spread inside it (arXiv:2412.19437, section 3.2.2), so at most as
        many copies leave as there are other nodes.
        """
        flops = sum(forward_flops_per_token(self.architecture, self.context, mtp=False).values())
        nodes = max(1.0, self.devices / self.device.devices_per_node)
        copies = sum(
            layer.count * min(getattr(layer.feed_forward, "num_per_token", 0), nodes)
            for layer in self.architecture.layers
        )
        sent = copies * (nodes - 1) / nodes * self.architecture.hidden_size * self.send_bytes
        return {
            "compute": flops / self.device.peak_flops(self.precision),
            "experts_sent": sent / self._network_bytes_per_second,
        }

    @property
    def prefill_tokens_per_second(self) -> float:
        """At most, a device: products and sending overlap perfectly, the longer sets the pace."""
        return 1 / max(self.prefill_seconds.values())

    @property
    def prefill_bound_by(self) -> str:
        return max(self.prefill_seconds, key=lambda name: self.prefill_seconds[name])

    @property
    def _touched_share(self) -> float:
        """Share of the weights that a step reads: all but experts that no sequence of the batch chose."""
        count = parameters(self.architecture)
        experts = count.by_component.get("routed_experts", 0)
        if not experts:
            return 1.0
        active = 1 - count.inactive / experts
        chosen = 1 - (1 - active) ** (self.batch * self.devices)
        return 1 - experts / count.total * (1 - chosen)

    @property
    def _sent_bytes(self) -> float:
        """To experts on other devices and back, all layers, for the batch of one device."""
        if self.devices == 1:
            return 0.0
        visits = sum(
            layer.count * getattr(layer.feed_forward, "num_per_token", 0) for layer in self.architecture.layers
        )
        away = (self.devices - 1) / self.devices
        return self.batch * visits * self.architecture.hidden_size * self.send_bytes * away

    @property
    def _network_bytes_per_second(self) -> float:
        inside = self.devices <= self.device.devices_per_node
        rate = self.device.link_gb_per_second / 2 if inside else self.device.network_gb_per_second
        return (rate or 1.0) * 1e9

    def limit(self, phase: str) -> float:
        """Tokens a second a device of `phase`, prefill (input tokens) or decode (output tokens), at most."""
        return self.prefill_tokens_per_second if phase == "prefill" else self.decode_tokens_per_second

    def usd_per_million_tokens(self, date: str | None = None, phase: str = "decode") -> Interval:
        """Rent of a device over the tokens of `phase` that it does at the share of the limit that services reach."""
        rent, done = price(self.device.name, date).usd_per_hour, self.limit(phase) * 3600 / 1e6 * SHARES[phase]
        return Interval(rent.low / done.high, rent.median / done.median, rent.high / done.low)

    def devices_for(self, tokens_per_second: float, phase: str = "decode") -> Interval:
        """Devices for so many tokens a second of `phase`: whole groups of `devices`, at the share services reach."""
        positive("serving.tokens_per_second", tokens_per_second)
        group = self.limit(phase) * self.devices

        def needed(share: float) -> float:
            return float(self.devices * ceil(tokens_per_second / (group * share)))

        shares = SHARES[phase]
        return Interval(needed(shares.high), needed(shares.median), needed(shares.low))


def largest_batch(service: Service) -> float:
    """Sequences a device can hold at once beside its share of the weights; 0 where the weights alone do not fit."""
    free = 0.9 * service.device.memory_gb * 1e9 - service.weight_bytes
    return max(0.0, free / kv_cache_bytes(service.architecture, service.context, value_bytes=service.cache_bytes))
