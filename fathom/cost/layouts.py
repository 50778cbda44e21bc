"""How a training run can be spread over devices, and what each device then holds and sends.

Tensor parallelism splits every matrix (arXiv:1909.08053, sequence parallel as arXiv:2205.05198), pipeline parallelism
splits the layers (one forward, one backward in turn, arXiv:2104.04473), expert parallelism splits the experts over the
data-parallel devices (arXiv:2006.16668), and the optimizer's state is sharded over the replicas (ZeRO stage 1,
arXiv:1910.02054; stage 3 shards weights and gradients too). Letters: t, p, e, d devices of each kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from fathom.cost.architecture import Architecture
from fathom.cost.hardware import Accelerator
from fathom.cost.memory import LOGITS_CHUNK_TOKENS, activation_bytes_per_token, optimizer_values
from fathom.cost.parameters import ParameterCount, parameters

# 16-bit weights, 32-bit gradients accumulated, 32-bit master copy; the optimizer's own values in 32 bits.
WEIGHT_BYTES, GRADIENT_BYTES, MASTER_BYTES, STATE_BYTES = 2, 4, 4, 4
ACTIVATION_BYTES = 2
# Room that allocator, kernels' workspaces and communication buffers take.
USABLE_SHARE = 0.9
# Layouts whose steps differ by less are equally good, and the simplest of them comes first.
AS_FAST = 0.02
RANKING = (
    "first what loses least to recomputing, to waiting for pipeline stages and to sending that products do not hide; "
    f"within {AS_FAST:.0%} of the best, the one that splits the model least"
)


@dataclass(frozen=True)
class Layout:
    """Devices by kind of parallelism; `expert` of the `tensor * data` devices of a stage share each layer's experts."""

    tensor: int
    pipeline: int
    data: int
    expert: int = 1
    zero: int = 1
    checkpointing: str = "none"
    micro_batch: int = 1

    @property
    def devices(self) -> int:
        return self.tensor * self.pipeline * self.data

    @property
    def splits(self) -> int:
        """Parts into which the model is split; 1 is plain data parallelism, its state sharded."""
        return self.tensor * self.pipeline * self.expert

    def __str__(self) -> str:
        parts = [f"tensor {self.tensor}", f"pipeline {self.pipeline}", f"data {self.data}"]
        parts += [f"expert {self.expert}"] if self.expert > 1 else []
        return ", ".join([*parts, f"ZeRO-{self.zero}", f"recomputation {self.checkpointing}"])


@dataclass(frozen=True)
class Placed:
    """A layout of one model on one kind of device."""

    architecture: Architecture
    device: Accelerator
    layout: Layout
    sequence_length: int
    batch_tokens: float
    optimizer: str = "adamw"

    @cached_property
    def count(self) -> ParameterCount:
        return parameters(self.architecture)

    @property
    def shares(self) -> tuple[float, float]:
        """Parameters on one device: those of experts, and all others."""
        experts = self.count.by_component.get("routed_experts", 0)
        others = self.count.total + self.count.mtp - experts
        one = self.layout
        return experts / (one.pipeline * one.expert), others / (one.pipeline * one.tensor)

    @property
    def memory_bytes(self) -> dict[str, float]:
        """Bytes on the fullest device (the first pipeline stage), by component."""
        one, (experts, others) = self.layout, self.shares
        held = experts + others
        replicas_of_experts = max(1.0, one.tensor * one.data / one.expert)
        sharded = experts / replicas_of_experts + others / one.data
        state = optimizer_values(self.architecture, self.optimizer) / max(self.count.total + self.count.mtp, 1)
        resident = sharded if one.zero == 3 else held
        return {
            "weights": WEIGHT_BYTES * resident + (WEIGHT_BYTES * self._largest_layer if one.zero == 3 else 0.0),
            "gradients": GRADIENT_BYTES * resident,
            "optimizer": (MASTER_BYTES + STATE_BYTES * state) * sharded,
            "activations": self._activations,
            "logits": 2 * 4.0 * min(self.tokens_a_micro_batch, LOGITS_CHUNK_TOKENS)
            * self.architecture.vocab_size / one.tensor,
        }  # fmt: skip

    @property
    def fits(self) -> bool:
        return sum(self.memory_bytes.values()) <= USABLE_SHARE * self.device.memory_gb * 1e9

    @property
    def tokens_a_micro_batch(self) -> int:
        return self.layout.micro_batch * self.sequence_length

    @property
    def micro_batches(self) -> float:
        """Of one step, on one data-parallel replica."""
        return max(1.0, self.batch_tokens / (self.layout.data * self.tokens_a_micro_batch))

    @property
    def _activations(self) -> float:
        """The first stage keeps one micro-batch for each stage: as much as all layers of one micro-batch."""
        per_token = activation_bytes_per_token(self.architecture, "bfloat16", self.layout.checkpointing)
        in_flight = min(self.micro_batches, self.layout.pipeline) / self.layout.pipeline
        return per_token * self.tokens_a_micro_batch * in_flight / self.layout.tensor

    @property
    def _largest_layer(self) -> float:
        """Weights of one layer, gathered whole while it runs under ZeRO-3."""
        experts, others = self.shares
        return (experts + others) * self.layout.pipeline / self.architecture.num_layers

    @property
    def sent_bytes(self) -> dict[str, float]:
        """Bytes that one device sends in one step, by kind of parallelism, collectives as rings.

        A ring over n sends (n-1)/n of the data for a gather or a scatter, twice that for an all-reduce.
        """
        one, (experts, others) = self.layout, self.shares
        tokens = self.micro_batches * self.tokens_a_micro_batch
        wide = self.architecture.hidden_size * ACTIVATION_BYTES
        layers = self.architecture.num_layers / one.pipeline
        replicas = max(1.0, one.tensor * one.data / one.expert)
        passes = 3 if one.zero == 3 else 2  # gather in forward and backward and scatter, or scatter and gather once
        gathered = passes * WEIGHT_BYTES * (_ring(one.data) * others + _ring(replicas) * experts)
        if one.zero == 3:
            gathered *= self.micro_batches
        return {
            "data": gathered,
            "tensor": 4 * 2 * _ring(one.tensor) * tokens * wide * layers,  # two all-reduces each way
            "pipeline": 2 * tokens * wide / one.tensor if one.pipeline > 1 else 0.0,  # forward on, backward back
            "expert": 4 * _ring(one.expert) * tokens * wide * self._visited * layers / one.tensor,
        }

    @property
    def _visited(self) -> float:
        """Experts that a token visits, averaged over layers (dispatch and combine, forward and backward)."""
        layers = self.architecture.layers
        visits = sum(layer.count * getattr(layer.feed_forward, "num_per_token", 0) for layer in layers)
        return visits / self.architecture.num_layers

    @property
    def communication_seconds(self) -> dict[str, float]:
        """Time of one step's sending if nothing overlaps: inside a node over its links, else over the network.

        A ring of replicas passes all of a node's members before it leaves the node, and there are as many rings as
        members: each device's own network sees one part in so many of what the device sends.
        """
        inside = self.device.link_gb_per_second / 2 * 1e9 or 1e9
        across = self.device.network_gb_per_second * 1e9 or inside
        node = self.device.devices_per_node
        reach = {"tensor": self.layout.tensor, "expert": self.layout.tensor * self.layout.expert,
                 "data": self.layout.tensor * self.layout.data, "pipeline": self.layout.devices}  # fmt: skip
        network = dict.fromkeys(reach, across) | {"data": min(inside, across * max(1, node // self.layout.tensor))}
        return {
            kind: sent / (inside if reach[kind] <= node else network[kind]) for kind, sent in self.sent_bytes.items()
        }

    @property
    def bubble_share(self) -> float:
        """Share of a step that stages wait for the pipeline to fill and drain (arXiv:2104.04473, section 2.2)."""
        idle = self.layout.pipeline - 1
        return idle / (self.micro_batches + idle)

    def step_seconds(self, flops_per_second: float, step_flops: float) -> float:
        """Seconds of a step as far as layouts differ in it; ranks layouts, predicts no hours.

        What replicas and experts send hides behind the products (gradients in buckets, weights fetched ahead,
        arXiv:2304.11277; experts as in arXiv:2412.19437, section 3.2.1), tensor and pipeline parallelism wait.
        """
        work = step_flops / (self.layout.devices * flops_per_second)
        work *= 4 / 3 if self.layout.checkpointing == "full" else 1.0
        sent = self.communication_seconds
        return (max(work, sent["data"] + sent["expert"]) + sent["tensor"] + sent["pipeline"]) / (1 - self.bubble_share)


def _ring(devices: float) -> float:
    return (devices - 1) / devices if devices > 1 else 0.0


def candidates(architecture: Architecture, device: Accelerator, count: int) -> Iterator[Layout]:
    """Layouts worth trying: tensor within a node, powers of two, experts divided evenly."""
    experts = max((getattr(layer.feed_forward, "num_experts", 0) for layer in architecture.layers), default=0)
    for tensor in _powers(min(device.devices_per_node, 8)):
        for pipeline in _powers(min(architecture.num_layers, 64)):
            if count % (tensor * pipeline):
                continue
            data = count // (tensor * pipeline)
            spans = [e for e in _powers(experts) if experts % e == 0 and (tensor * data) % e == 0] if experts else [1]
            for expert in spans:
                for zero in (1, 3) if data > 1 and pipeline == 1 else (1,):
                    for checkpointing in ("none", "full"):
                        yield Layout(tensor, pipeline, data, expert, zero, checkpointing)


def _powers(most: int) -> list[int]:
    return [2**i for i in range(max(most, 1).bit_length()) if 2**i <= max(most, 1)]


def ranked(
    architecture: Architecture, device: Accelerator, count: int, sequence_length: int, batch_tokens: float,
    step_flops: float, optimizer: str = "adamw",
) -> list[Placed]:  # fmt: skip
    """The layouts that fit, in the order that `RANKING` tells."""
    rate = 0.6 * device.peak_flops("bf16")  # what large products reach by themselves
    placed = [
        Placed(architecture, device, layout, sequence_length, batch_tokens, optimizer)
        for layout in candidates(architecture, device, count)
        if batch_tokens >= layout.data * sequence_length
    ]
    seconds = {one.layout: one.step_seconds(rate, step_flops) for one in placed if one.fits}
    near = (1 + AS_FAST) * min(seconds.values(), default=0.0)
    return sorted(
        (one for one in placed if one.layout in seconds),
        key=lambda one: (max(seconds[one.layout], near), one.layout.splits, one.layout.zero, seconds[one.layout]),
    )
