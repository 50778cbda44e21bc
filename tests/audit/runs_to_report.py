"""Runs as training and evaluation leave them, for the report's tests."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

from fathom.ledger import Ledger

MODEL = {
    "vocab_size": 4096, "hidden_size": 128, "num_layers": 4, "num_heads": 4, "attention": "latent", "kv_lora_rank": 32,
    "qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "v_head_dim": 32, "intermediate_size": 256, "num_experts": 8,
    "num_experts_per_token": 2, "num_shared_experts": 1, "moe_intermediate_size": 64, "first_dense_layers": 1,
}  # fmt: skip
KINDS = ("addition with carrying", "base conversion", "counting letters", "sorting")


def samples(right: bool) -> list[dict[str, Any]]:
    return [
        {"kind": "addition with carrying", "question": "What is 478 + 394?",
         "thinking": "8 + 4 = 12, write 2 carry 1\n7 + 9 + 1 = 17, write 7 carry 1\n4 + 3 + 1 = 8",
         "answer": "872" if right else "862", "expected": "872", "correct": right},
        {"kind": "sorting", "question": "Sort: 31, 4, 15", "thinking": "4 < 15 < 31", "answer": "4, 15, 31",
         "expected": "4, 15, 31", "correct": True},
    ]  # fmt: skip


def reported_run(run_dir: Path, *, steps: int = 400, skill: float = 0.95, name: str = "", **changes: Any) -> Path:
    """A run with losses, held-out text, problems, sample answers and a checkpoint; `changes` replace results."""
    draw = random.Random(str(run_dir.name))
    with Ledger.create(run_dir) as ledger:
        ledger.start(recipe={"name": name or run_dir.name, "model": {**MODEL, **changes.get("model", {})}})
        ledger.data(
            sources=changes.get("sources")
            or [
                {"name": "builtin:stdlib", "license": "PSF-2.0", "documents": 21540, "bytes": 48_200_000,
                 "sha256": "ab" * 32, "dropped": {"near duplicate": 1200, "too short": 310}},
                {"name": "builtin:problems", "license": "MIT", "documents": 90000, "bytes": 31_000_000,
                 "sha256": "cd" * 32, "dropped": {}},
            ],
            tokens=30_000_000,
        )  # fmt: skip
        ledger.evaluation(
            name="held-out before", results={"bits_per_byte": 7.9, "domains": {"code": {"bits_per_byte": 8.0}}}
        )
        for step in range(1, steps + 1):
            loss = 1.2 + 7 * math.exp(-step / 60) + draw.gauss(0, 0.08)
            ledger.step(step=step, tokens=4096, loss=loss, learning_rate=1e-3,
                        flops={"attention": 10**10, "experts": 3 * 10**10, "output head": 10**9})  # fmt: skip
        folder = run_dir / "checkpoints" / "step-1"
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"weights")
        ledger.checkpoint(step=steps, path=folder)
        ledger.evaluation(
            name="held-out after",
            results={
                "bits_per_byte": 1.4,
                "domains": {"code": {"bits_per_byte": 1.21}, "prose": {"bits_per_byte": 1.63}},
            },
        )
        kinds = {kind: {"correct": round(100 * skill) - 3 * place, "total": 100} for place, kind in enumerate(KINDS)}
        ledger.evaluation(
            name="problems", tokens=1000,
            results={"kinds": changes.get("kinds", kinds), "samples": changes.get("samples", samples(skill > 0.9))},
        )  # fmt: skip
    return run_dir
