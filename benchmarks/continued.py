"""Your text, a real model: five minutes of `fathom train --from smollm2` on the requests for comments of Rust.

    python -m benchmarks.continued [--text FILE] [--minutes 5]

Bits per byte on all held-out documents before and after (they should fall by 15%), scored after the command, which
itself has time for a part of them only; the answers to general questions before and after, and the bill. The held-out
documents are none of those trained on; the whole command counts as the budget.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import machine

NAME = "continued"
FALL = 0.15
QUESTIONS = (
    "What is the capital of France?",
    "How many legs does a spider have?",
    "What is water made of?",
    "Name a primary colour.",
    "What is the opposite of hot?",
    "Which planet is closest to the sun?",
)
ANSWER_TOKENS = 40


def fathom(*arguments: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-m", "fathom", *arguments, "--json"], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout)


def answers(model: str, runs: str) -> list[str]:
    asked = ("--temperature", "0", "--max-tokens", str(ANSWER_TOKENS), "--runs", runs)
    return [fathom("chat", model, "--prompt", question, *asked)["answer"] for question in QUESTIONS]


def scored(model: str, runs: str, folder: Path) -> dict[str, Any]:
    """Bits per byte on every held-out document of the run's data."""
    from fathom.cli.models import open_model
    from fathom.evaluate.perplexity import held_out_bits_per_byte
    from fathom.train.run_folder import RunFolder

    decoder, recipe = open_model(model, runs=runs).decoder, RunFolder(folder).recipe()
    decoder.compute_dtype = torch.bfloat16
    return held_out_bits_per_byte(decoder, recipe.data.prepared, recipe.train.sequence_length)


def measure(text: Path, minutes: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as runs:
        started = time.monotonic()
        budget = ("--budget", f"{60 * minutes:g}s", "--name", "mine", "--runs", runs)
        document = fathom("train", str(text), "--from", "smollm2", *budget)
        seconds = time.monotonic() - started
        bill = document["bill"]
        whole = [scored(model, runs, Path(document["folder"])) for model in ("smollm2", "mine")]
        before, after = (part["bits_per_byte"] for part in whole)
        asked = zip(QUESTIONS, answers("smollm2", runs), answers("mine", runs), strict=True)
        return {
            "benchmark": NAME,
            "text": text.name,
            "budget_seconds": 60 * minutes,
            "seconds": seconds,
            "steps": document["steps"],
            "bits_per_byte_before": before,
            "bits_per_byte_after": after,
            "held_out_tokens": whole[0]["tokens"],
            "held_out_bytes": whole[0]["bytes"],
            "fall": 1 - after / before,
            "fall_as_the_command_saw_it": -document["change"],
            "passes": 1 - after / before >= FALL,
            "answers": [{"question": q, "before": b, "after": a} for q, b, a in asked],
            "joules": bill["joules"]["likely"],
            "usd": bill["usd"]["median"],
            "machine": machine(),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(__file__).resolve().parent.parent.parent / "shared/data/text/rust-rfcs.jsonl.gz"
    parser.add_argument("--text", type=Path, default=shared)
    parser.add_argument("--minutes", type=float, default=5.0)
    asked = parser.parse_args()
    if not asked.text.exists():
        raise SystemExit(f"skipped: there is no text at {asked.text}")
    row = measure(asked.text, asked.minutes)
    Path(__file__).with_name("results").joinpath(f"{NAME}.json").write_text(json.dumps(row, indent=1) + "\n")
    print(
        f"{row['text']}: {row['bits_per_byte_before']:.4f} bits per byte before, {row['bits_per_byte_after']:.4f} "
        f"after {row['seconds']:.0f} s, {row['fall']:.1%} less"
    )
    for answer in row["answers"]:
        print(f"{answer['question']}\n  before: {answer['before']}\n  after:  {answer['after']}")
    print(json.dumps(row))


if __name__ == "__main__":
    main()
