"""A training run as far as it must be known to say what it takes: a shape or a size, tokens, a device."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from fathom.cost.architecture import Architecture
from fathom.cost.checks import positive
from fathom.cost.flops import BACKWARD_OVER_FORWARD, forward_flops_per_token
from fathom.cost.hardware import Accelerator, canonical_precision
from fathom.cost.parameters import parameters
from fathom.errors import FathomError

# What most published runs of a device's time used, where a file does not say (median of the claims on file).
TYPICAL_SEQUENCE_LENGTH = 4096
# Width over depth of published decoders from 1B to 400B lies between 50 and 140; 12 x depth x width^2 is their size.
TYPICAL_WIDTH_OVER_DEPTH = 100


@dataclass(frozen=True, kw_only=True)
class Run:
    """`architecture` where the shape is known; otherwise the parameter counts, and layers and width where known."""

    name: str = ""
    architecture: Architecture | None = None
    total_parameters: float = 0.0
    active_parameters: float = 0.0
    layers: int = 0
    hidden_size: int = 0
    tokens: float
    sequence_length: int = 0  # 0: not known
    precision: str = "bf16"
    device: Accelerator
    count: float = 0.0  # devices; 0: not known
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        positive("training.tokens", self.tokens)
        canonical_precision(self.precision)
        if self.architecture is None:
            positive("model.total_parameters", self.total_parameters)
            positive("model.active_parameters", self.active_parameters)
            if self.active_parameters > 1.001 * self.total_parameters:
                raise FathomError(
                    f"model.active_parameters = {self.active_parameters:g} cannot exceed model.total_parameters = "
                    f"{self.total_parameters:g}: are they exchanged?"
                )

    @cached_property
    def total(self) -> float:
        """All parameters of the main model."""
        return self.total_parameters or float(parameters(self._known).total)

    @cached_property
    def active(self) -> float:
        """Parameters that one token uses."""
        return self.active_parameters or float(parameters(self._known).active)

    @property
    def length(self) -> int:
        return self.sequence_length or TYPICAL_SEQUENCE_LENGTH

    @property
    def depth_and_width(self) -> tuple[float, float]:
        """Layers and hidden size, guessed from the size where they are not known."""
        if self.architecture is not None:
            return self.architecture.num_layers, self.architecture.hidden_size
        if self.layers and self.hidden_size:
            return self.layers, self.hidden_size
        width = (self.active * TYPICAL_WIDTH_OVER_DEPTH / 12) ** (1 / 3)
        return width / TYPICAL_WIDTH_OVER_DEPTH, width

    @cached_property
    def flops_by_component(self) -> dict[str, float]:
        """Model FLOPs of the whole run. Exact from a shape; from sizes 6 per parameter and token and causal attention.

        The rough form is arXiv:2204.02311, appendix B: 6 N a token, and 12 x layers x width x length for the square
        of attention, half of it when causal.
        """
        if self.architecture is not None:
            forward = forward_flops_per_token(self.architecture, self.length)
            scale = self.tokens * (1 + BACKWARD_OVER_FORWARD)
            return {name: value * scale for name, value in forward.items()}
        layers, width = self.depth_and_width
        attention = 6 * layers * width * self.length * self.tokens
        return {"parameters": 6 * self.active * self.tokens, "attention_products": attention}

    @property
    def flops(self) -> float:
        return sum(self.flops_by_component.values())

    @property
    def flops_method(self) -> str:
        if self.architecture is not None:
            return f"counted product by product from the architecture, causal, at {self.length} positions"
        guessed = "" if self.layers and self.hidden_size else " of a typical shape"
        return f"6 x active parameters x tokens, and causal attention{guessed} at {self.length} positions"

    @property
    def peak_flops(self) -> float:
        """Peak rate of one device in 16-bit arithmetic, the base of every utilisation here, also of fp8 runs."""
        return self.device.peak_flops("bf16")

    @property
    def wide_arithmetic(self) -> float:
        """Peak rate at this run's precision over the 16-bit peak, where its numbers are wider than 16 bits; else 1.

        What published runs reach of the 16-bit peak, a run in 32 bits reaches of its own, slower one.
        """
        used = self.device.runs_in(self.precision)
        return min(1.0, self.device.peak_flops(used) / self.peak_flops) if used in ("fp32", "tf32") else 1.0

    def utilisation(self, device_hours: float) -> float:
        """Share of the 16-bit peak that the run's FLOPs are, if it took `device_hours`."""
        return self.flops / (device_hours * 3600 * self.peak_flops)

    def device_hours(self, utilisation: float) -> float:
        return self.flops / (utilisation * 3600 * self.peak_flops)

    @property
    def _known(self) -> Architecture:
        assert self.architecture is not None
        return self.architecture
