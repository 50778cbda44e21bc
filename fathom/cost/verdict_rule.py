"""Export-control arithmetic: total processing performance of the accelerators on file, and what the slower ones lose.

"Total processing performance" is 2 x MacTOPS x the width of the operation in bits, the highest over the precisions
(Commerce Control List, ECCN 3A090, technical note 2): with operations counted two a multiply-add, dense rate x bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from fathom.cost.export_limits import Density, density, rule_of_2022, rule_of_2023
from fathom.cost.hardware import Accelerator, accelerators

BITS = {"fp32": 32, "tf32": 32, "fp16": 16, "bf16": 16, "fp8": 8, "int8": 8, "fp4": 4}
# A TF32 operand has 19 bits that are computed with, in a container of 32; vendors and the bureau count 16-bit rates.
COUNTED = ("fp32", "fp16", "bf16", "fp8", "int8", "fp4")
AGAINST = "h100"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One accelerator under the rules, with what it has of an H100's rate, bandwidth and link."""

    device: Accelerator
    performance: float
    density: Density
    rule_of_2022: str
    rule_of_2023: str
    rate: float
    bandwidth: float
    link: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "accelerator": self.device.name,
            "total_processing_performance": self.performance,
            "die_mm2": self.device.die_mm2 or None,
            "die_source": self.device.die_source or None,
            "performance_density": self.density.to_dict(),
            "rule_of_2022": self.rule_of_2022,
            "rule_of_2023": self.rule_of_2023,
            "rate_against_h100": self.rate,
            "memory_bandwidth_against_h100": self.bandwidth,
            "link_against_h100": self.link,
            "source": {"title": self.device.source, "url": self.device.source_url, "seen": self.device.seen},
        }


def performance(device: Accelerator) -> float:
    """Total processing performance, in 10^12 operations a second times bits."""
    return max(device.tflops[name] * BITS[name] for name in COUNTED if name in device.tflops)


@cache
def table() -> tuple[Row, ...]:
    """Every accelerator on file but processors, the strongest first."""
    best = accelerators()[AGAINST]
    rows = [_row(device, best) for device in accelerators().values() if device.kind != "cpu"]
    return tuple(sorted(rows, key=lambda row: -row.performance))


def _row(device: Accelerator, best: Accelerator) -> Row:
    reached = performance(device)
    return Row(
        device=device,
        performance=reached,
        density=density(device, reached),
        rule_of_2022=rule_of_2022(device, reached),
        rule_of_2023=rule_of_2023(device, reached),
        rate=device.peak_flops("bf16") / best.peak_flops("bf16"),
        bandwidth=device.memory_gb_per_second / best.memory_gb_per_second,
        link=max(device.link_gb_per_second, device.bridge_gb_per_second) / best.link_gb_per_second,
    )


def performance_values() -> dict[str, float]:
    """`tpp_<name>` and `link_<name>` for a rule's checks; signs that are no letters or digits become underscores."""
    values = {}
    for row in table():
        name = row.device.name.replace("-", "_").replace(".", "_")
        values[f"tpp_{name}"] = row.performance
        values[f"link_{name}"] = row.device.link_gb_per_second
    return values
