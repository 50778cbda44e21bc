"""What the hours of a claim imply: operations, utilisation, and where that stands against hardware and other runs."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import cache
from typing import Any

from fathom.cost.architecture import Architecture
from fathom.cost.claim import Claim
from fathom.cost.claimed_run import pre_training
from fathom.cost.claims import flagged
from fathom.cost.flops import training_flops
from fathom.cost.hardware import Accelerator
from fathom.cost.hardware import accelerator as find_accelerator
from fathom.cost.models import known_model

accelerator = cache(find_accelerator)  # every claim on file asks for one of a dozen names

DEFAULT_SEQUENCE = 4096  # where a claim on a known architecture does not say: what most runs on file use
# What a claim needs before its hours can be held against the work.
NEEDED = {
    "active_parameters": "how many weights work on one token",
    "tokens": "how many tokens it was trained on",
    "accelerator": "on which accelerator",
    "device_hours": "for how many device-hours",
}


@dataclass(frozen=True, kw_only=True)
class Work:
    """Model FLOPs of the stated training, without recomputation, and how they were counted."""

    flops: float
    flops_per_token: float
    tokens: float
    method: str
    prediction_flops: float = 0.0  # of it, of multi-token prediction, which some makers leave out

    def to_dict(self) -> dict[str, Any]:
        return {
            "model_flops": {"value": self.flops, "unit": "FLOP", "method": self.method},
            "model_flops_per_token": {"value": self.flops_per_token, "unit": "FLOP a token", "method": self.method},
        }


@dataclass(frozen=True, kw_only=True)
class Physics:
    """The work held against the hours. Utilisation goes by the peak in 16 bits, as published figures do."""

    work: Work
    device: Accelerator
    device_hours: float
    hours_method: str
    limit_precision: str

    @property
    def peak_flops(self) -> float:
        return self.device.peak_flops("bf16")

    @property
    def limit_flops(self) -> float:
        """The highest rate at which the stated precision could run at all."""
        return self.device.peak_flops(self.limit_precision)

    @property
    def rate(self) -> float:
        """FLOP a second a device, pauses included."""
        return self.work.flops / (self.device_hours * 3600)

    @property
    def utilisation(self) -> float:
        return self.rate / self.peak_flops

    @property
    def share_of_limit(self) -> float:
        return self.rate / self.limit_flops

    @property
    def least_hours(self) -> float:
        """Below this no accelerator of the kind could have done the work."""
        return self.work.flops / self.limit_flops / 3600

    def to_dict(self) -> dict[str, Any]:
        how = (
            f"model FLOPs / ({self.hours_method} x 3,600 s x {self.peak_flops / 1e12:g} TFLOP/s of {self.device.title})"
        )
        return self.work.to_dict() | {
            "accelerator": self.device.name,
            "device_hours": {"value": self.device_hours, "unit": "device-hours", "method": self.hours_method},
            "utilisation": {"value": self.utilisation, "unit": "share of 16-bit peak", "method": how},
            "share_of_limit": {
                "value": self.share_of_limit,
                "unit": f"share of the {self.limit_precision} peak",
                "method": f"as above with {self.limit_flops / 1e12:g} TFLOP/s",
            },
            "least_device_hours": {
                "value": self.least_hours,
                "unit": "device-hours",
                "method": f"model FLOPs at {self.limit_precision} peak without a pause",
            },
        }


@dataclass(frozen=True)
class Distribution:
    """Utilisations of the published runs on file, lowest first, with the claim that each belongs to."""

    values: tuple[float, ...]
    claims: tuple[str, ...]

    def quantile(self, share: float) -> float:
        """Linear between the neighbours, as numpy does by default."""
        place = share * (len(self.values) - 1)
        low = int(place)
        high = min(low + 1, len(self.values) - 1)
        return self.values[low] + (self.values[high] - self.values[low]) * (place - low)

    def rank(self, value: float) -> int:
        """How many of the runs lie below `value`."""
        return bisect_left(self.values, value)


def architecture(claim: Claim) -> Architecture | None:
    """The published shape of the claim's model, where it is on file under `[model] name`."""
    name = claim.model.get("name")
    return known_model(str(name)).architecture if name else None


def work(claim: Claim) -> Work | None:
    """Model FLOPs of the claim's tokens: by its architecture where known, else six a weight a token."""
    tokens = claim.value("tokens")
    if tokens is None:
        return None
    shape = architecture(claim)
    if shape is not None:
        length = int(claim.value("sequence_length") or DEFAULT_SEQUENCE)
        counted = training_flops(shape, tokens, length)
        flops, extra = counted.total, counted.by_component.get("mtp", 0.0)
        method = f"counted from the published architecture, causal attention over {length:,} tokens, no recomputation"
        return Work(flops=flops, flops_per_token=flops / tokens, tokens=tokens, method=method, prediction_flops=extra)
    active = claim.value("active_parameters")
    return None if active is None else _six_a_weight(claim, active, tokens)


def _six_a_weight(claim: Claim, active: float, tokens: float) -> Work:
    """6 N a token (arXiv:2001.08361), and causal attention, 6 L T d, where depth, width and length are known."""
    per_token, method = 6 * active, "6 x active weights x tokens"
    layers, width, length = claim.model.get("layers"), claim.model.get("hidden_size"), claim.value("sequence_length")
    if layers and width and length:
        per_token += 6 * float(layers) * length * float(width)
        method += ", with causal attention by depth, width and length"
    return Work(flops=per_token * tokens, flops_per_token=per_token, tokens=tokens, method=method)


def physics(claim: Claim) -> Physics | None:
    """The work against the hours, or None where the claim lacks a figure for it (`missing` names them)."""
    done, name = work(claim), claim.text("accelerator")
    hours, how = _hours_of_the_work(claim)
    if done is None or not name or hours is None:
        return None
    device = accelerator(name)
    return Physics(
        work=done,
        device=device,
        device_hours=hours,
        hours_method=how,
        limit_precision=limit_precision(claim, device),
    )


def _hours_of_the_work(claim: Claim) -> tuple[float | None, str]:
    """The hours in which the claim's tokens were worked on: of a run told in stages, those of pre-training."""
    whole, how = hours_of(claim)
    stage = pre_training(claim)
    figure = stage.figures.get("device_hours") if stage else None
    if figure is None or (whole is not None and figure.number > whole):  # a part is not more than the whole
        return whole, how
    return figure.number, f"{figure.basis} device-hours of pre-training"


def hours_of(claim: Claim) -> tuple[float | None, str]:
    """Device-hours and how they were got: stated, devices x days, or price / rent."""
    stated, cost, rent = (claim.value(n) for n in ("device_hours", "cost_usd", "price_usd_per_hour"))
    if stated is not None:
        return stated, f"{claim.figures['device_hours'].basis} device-hours"
    if claim.device_hours is not None:
        return claim.device_hours, "devices x days x 24"
    if cost is not None and rent is not None:
        return cost / rent, f"price / ${rent:g} an hour"
    return None, ""


def limit_precision(claim: Claim, device: Accelerator) -> str:
    """The precision whose peak bounds the run: the stated one; else the fastest that models are trained in."""
    wanted = claim.text("precision") or ("fp8" if "fp8" in device.tflops else "bf16")
    return device.runs_in(wanted)


# What an announcement or an allegation of machines lacks: no arithmetic shows that they exist.
NEEDED_OF_A_FLEET = {
    "accelerator": "which accelerators they are",
    "accelerator_count": "how many they are",
    "proof_of_machines": "an account, an invoice or a register that shows them",
}


def missing(claim: Claim) -> list[str]:
    """Names of the figures that the claim lacks to be held against hardware, or to be believed."""
    if claim.kind == "capacity":
        stated = {name for name, figure in claim.figures.items() if figure.basis == "stated"}
        return [name for name in NEEDED_OF_A_FLEET if name not in stated]
    if claim.kind not in ("training", "closed"):
        return []
    has = {
        "active_parameters": claim.value("active_parameters") is not None or architecture(claim) is not None,
        "tokens": claim.value("tokens") is not None,
        "accelerator": bool(claim.text("accelerator")),
        "device_hours": hours_of(claim)[0] is not None,
    }
    taken = assumed(claim)
    return [name for name in NEEDED if not has[name] or name in taken]


def assumed(claim: Claim) -> list[str]:
    """Names of the needed figures, the precision among them, that neither the claimant nor the maker has stated."""
    behind = {name: [name] for name in (*NEEDED, "precision")}
    if "device_hours" not in claim.figures:
        behind["device_hours"] = ["accelerator_count", "wall_days"]
    basis = {name: figure.basis for name, figure in claim.figures.items()}
    return [name for name, parts in behind.items() if any(basis.get(part) == "assumed" for part in parts)]


@cache
def published(without: str = "", family: str = "") -> Distribution:
    """Utilisations of the runs on file that are marked as reference, `without` the one on trial and its `family`."""
    rows = []
    for claim in flagged("reference"):
        if claim.id == without or (family and claim.family == family):
            continue
        found = physics(claim)
        if found is not None:
            rows.append((found.utilisation, claim.id))
    rows.sort()
    return Distribution(tuple(value for value, _ in rows), tuple(name for _, name in rows))
