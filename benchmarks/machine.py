"""The machine that a benchmark ran on, its matmul peaks measured on the spot, so that figures travel as ratios.

`python -m benchmarks.machine` prints it as one JSON document.
"""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path

import psutil

# Sides of square products. The peak is the best of many repeats over these: smaller ones stay in cache and leave the
# memory out of it, the largest shows that the rate holds.
_SIDES = (1024, 1536, 2048)
_SECONDS_PER_TYPE = 2.0


def machine() -> dict[str, object]:
    """Processor, cores, instruction sets, memory, versions, and measured peaks of matrix products in GFLOP/s.

    The peaks take about four seconds on all cores and mean nothing while something else runs.
    """
    import torch

    flags = _processor_flags()
    return {
        "processor": _processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "amx": "amx_bf16" in flags,
        "avx512_bf16": "avx512_bf16" in flags,
        "memory_bytes": psutil.virtual_memory().total,
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "bf16_peak_gflops": round(matmul_peak_gflops("bfloat16"), 1),
        "fp32_peak_gflops": round(matmul_peak_gflops("float32"), 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.release()}",
        "load_average_before": round(os.getloadavg()[0], 2),
    }


def matmul_peak_gflops(dtype: str) -> float:
    """Best rate of a square matrix product of this type on this machine's processor, in GFLOP/s."""
    import torch

    best = 0.0
    for side in _SIDES:
        a, b = (torch.randn(side, side).to(getattr(torch, dtype)) for _ in range(2))
        product = torch.empty_like(a)
        end = time.perf_counter() + _SECONDS_PER_TYPE / len(_SIDES)
        while time.perf_counter() < end:
            start = time.perf_counter()
            torch.mm(a, b, out=product)
            best = max(best, 2 * side**3 / (time.perf_counter() - start) / 1e9)
    return best


def _processor_flags() -> set[str]:
    """Instruction sets that Linux reports; empty elsewhere."""
    for line in _cpuinfo():
        if line.startswith(("flags", "Features")):
            return set(line.partition(":")[2].split())
    return set()


def _processor_name() -> str:
    for line in _cpuinfo():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


if __name__ == "__main__":
    print(json.dumps(machine()))
