"""What this machine can do, measured in about two seconds: the rate of its matrix products."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

_SECONDS_PER_TRY = 0.5
# (stack, rows, inner, columns): what training at laptop size multiplies, and large squares for bigger machines
_SHAPES = ((1, 4096, 1024, 1024), (1, 2048, 2048, 2048), (16, 512, 384, 384))


@dataclass(frozen=True)
class MachineSpeed:
    """Measured rates of this process on this machine."""

    device: str
    threads: int
    peak_flops_per_second: float  # bf16 products, the best of a few shapes


def measure(device: torch.device | None = None) -> MachineSpeed:
    """Time bf16 products of a few shapes, the best counts: a peak, so that a share of it is an honest utilisation."""
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    peak = max(_rate(shape, device) for shape in _SHAPES)
    return MachineSpeed(device.type, torch.get_num_threads(), peak)


def _rate(shape: tuple[int, int, int, int], device: torch.device) -> float:
    stack, rows, inner, columns = shape
    a = torch.randn(stack, rows, inner, device=device).bfloat16()
    b = torch.randn(stack, inner, columns, device=device).bfloat16()
    torch.bmm(a, b)
    best, stop = float("inf"), time.monotonic() + _SECONDS_PER_TRY
    while time.monotonic() < stop:
        started = time.monotonic()
        torch.bmm(a, b)
        _wait(device)
        best = min(best, time.monotonic() - started)
    return 2.0 * stack * rows * inner * columns / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
