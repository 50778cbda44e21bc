"""Training speed on this processor: tokens a second, share of the measured peak and resident memory, beside two peers.

    python -m benchmarks.training_speed [--repeats 3] [--nanochat DIR]

The DeepSeek-style model runs beside `transformers`' DeepseekV3ForCausalLM of the same shape and parameter count, once
as that trains by default (fp32) and once under bf16 autocast, its faster way; the LLaMA-style twin beside nanochat's
model of the same depth and width, compiled, in bf16. nanochat is no package: give a clone of
https://github.com/karpathy/nanochat by `--nanochat` or `NANOCHAT_DIR`; without it that row is left out and the result
says so.

Every run is a process of its own with all cores to itself: forward, backward and an AdamW step over 8 x 512 random
tokens, untimed steps first (compilation and caches), then timed ones, of which the median counts. The kinds take turns,
so that a machine that slows down slows all of them. The last line is one JSON document, which is also written to
`benchmarks/results/training_speed.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.training_speed_worker import KINDS

RESULT = Path(__file__).with_name("results") / "training_speed.json"


def run_once(kind: str, nanochat: str | None) -> dict[str, Any]:
    """One measured process; its last line of output is the result."""
    command = [sys.executable, "-m", "benchmarks.training_speed_worker", kind]
    environment = os.environ | ({"NANOCHAT_DIR": nanochat} if nanochat else {})
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{kind} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def summary(runs: list[dict[str, Any]], peak_gflops: float) -> dict[str, Any]:
    """Median and spread over the repeats of one kind."""
    rates = sorted(run["tokens_per_second"] for run in runs)
    flops = runs[0]["flops_per_token"]
    return {
        "tokens_per_second": statistics.median(rates),
        "lowest": rates[0],
        "highest": rates[-1],
        "repeats": len(rates),
        "flops_per_token": flops,
        "share_of_bf16_peak": round(statistics.median(rates) * flops / peak_gflops / 1e9, 4),
        "peak_resident_bytes": max(run["peak_resident_bytes"] for run in runs),
        "parameters": runs[0]["parameters"],
        "first_step_seconds": round(statistics.median(run["first_step_seconds"] for run in runs), 2),
    }


def ratio(results: dict[str, dict[str, Any]], ours: str, peer: str, key: str) -> float | None:
    if ours not in results or peer not in results:
        return None
    return round(results[ours][key] / results[peer][key], 3)


def document(results: dict[str, dict[str, Any]], described: dict[str, object], nanochat: str | None) -> dict[str, Any]:
    return {
        "benchmark": "training_speed",
        "machine": described,
        "results": results,
        "ratios": {
            "tokens_per_second, deepseek against transformers fp32": ratio(
                results, "deepseek-ours", "deepseek-transformers-fp32", "tokens_per_second"
            ),
            "tokens_per_second, deepseek against transformers bf16": ratio(
                results, "deepseek-ours", "deepseek-transformers-bf16", "tokens_per_second"
            ),
            "share_of_bf16_peak, llama against nanochat": ratio(
                results, "llama-ours", "llama-nanochat", "share_of_bf16_peak"
            ),
            "peak_resident_bytes, deepseek against transformers bf16": ratio(
                results, "deepseek-ours", "deepseek-transformers-bf16", "peak_resident_bytes"
            ),
            "peak_resident_bytes, llama against nanochat": ratio(
                results, "llama-ours", "llama-nanochat", "peak_resident_bytes"
            ),
        },
        "left_out": [] if nanochat else ["llama-nanochat: no clone of it was given by --nanochat or NANOCHAT_DIR"],
    }


def table(results: dict[str, dict[str, Any]]) -> str:
    lines = [f"{'':28}{'tokens/s':>10}{'spread':>14}{'of bf16 peak':>14}{'resident':>11}{'first step':>12}"]
    for kind, row in results.items():
        spread = f"{row['lowest']:.0f}-{row['highest']:.0f}"
        lines.append(
            f"{kind:28}{row['tokens_per_second']:>10.0f}{spread:>14}{row['share_of_bf16_peak']:>14.1%}"
            f"{row['peak_resident_bytes'] / 1e9:>8.2f} GB{row['first_step_seconds']:>10.1f} s"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--nanochat", default=os.environ.get("NANOCHAT_DIR"), help="a clone of karpathy/nanochat")
    options = parser.parse_args()
    kinds = [kind for kind in KINDS if options.nanochat or kind != "llama-nanochat"]
    described = machine()
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    for repeat in range(options.repeats):
        for kind in kinds:
            runs[kind].append(run_once(kind, options.nanochat))
            print(
                f"{repeat + 1}/{options.repeats} {kind}: {runs[kind][-1]['tokens_per_second']:.0f} tokens/s",
                file=sys.stderr,
            )
    peak = float(str(described["bf16_peak_gflops"]))
    results = {kind: summary(found, peak) for kind, found in runs.items()}
    print(table(results))
    result = document(results, described, options.nanochat)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
