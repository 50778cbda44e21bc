"""The models and accelerators that a plan knows by name."""

from __future__ import annotations

from typing import Any

from fathom.cost.hardware import accelerators
from fathom.cost.models import known_models
from fathom.cost.parameters import parameters


def known() -> dict[str, list[dict[str, Any]]]:
    """`models` with parameters as counted, `accelerators` with 10^12 operations a second in 16 bits and GB."""
    return {
        "models": [
            {"name": name, "title": one.title, "total_parameters": count.total, "active_parameters": count.active}
            for name, one in known_models().items()
            for count in (parameters(one.architecture),)
        ],
        "accelerators": [
            {
                "name": name, "title": one.title, "vendor": one.vendor, "released": one.released,
                "tflops_16_bit": one.peak_flops("bf16") / 1e12, "memory_gb": one.memory_gb,
            }
            for name, one in accelerators().items()
        ],
    }  # fmt: skip
