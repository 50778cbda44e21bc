"""Your text, a real model: five minutes of `fathom train --from smollm2` on the requests for comments of Rust.

    python -m benchmarks.continued [--text FILE] [--minutes 5]

Bits per byte on held-out documents before and after, scored after the command, which itself has time for a part of
them only; the answers to general questions before and after, and the bill. The held-out documents are none of those
trained on; the whole command counts as the budget.

Two scores, because they differ: of all held-out text, and of the first row of each document alone. A row starts with
nothing to read, and where a document begins this kind of text is most like others of its kind, so that beginnings fall
by more. The aim, a fall of 15%, was set from a loop that took another such text, Ethereum's improvement proposals, from
1.21 to 0.97. How it scored was not said; by what `--text EIPS` gives (a folder; results/continued/eips.json), it
scored beginnings.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import machine
from fathom.cli.models import open_model
from fathom.data.packing import pack_pieces, pieces_of
from fathom.data.records import Manifest
from fathom.data.shards import Shard, fill_rows
from fathom.evaluate.perplexity import held_out_bits_per_byte, nats_of
from fathom.model.decoder import Decoder
from fathom.train.run_folder import RunFolder

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
    """Bits per byte on every held-out document of the run's data, and on their first rows."""
    decoder, recipe = open_model(model, runs=runs).decoder, RunFolder(folder).recipe()
    decoder.compute_dtype = torch.bfloat16
    prepared, sequence_length = Path(recipe.data.prepared), recipe.train.sequence_length
    whole = held_out_bits_per_byte(decoder, prepared, sequence_length)
    return {**whole, "beginnings": of_beginnings(decoder, prepared, sequence_length)}


def of_beginnings(decoder: Decoder, prepared: Path, sequence_length: int) -> dict[str, Any]:
    """Nats and bytes of the first `sequence_length` tokens of every held-out document, and their bits per byte."""
    manifest = Manifest.load(prepared)
    control_ids = manifest.tokenizer.control_ids
    nats, num_bytes = [], []
    for source_id, source in enumerate(manifest.sources):
        shard = Shard(prepared, source.held_out, manifest.token_dtype)
        starts, lengths, document = pieces_of(np.asarray(shard.offsets), sequence_length)
        firsts = np.unique(document, return_index=True)[1]
        for i in firsts:
            piece = pack_pieces(starts[[i]], lengths[[i]], sequence_length)
            row = fill_rows(shard, piece, [0], sequence_length, manifest.tokenizer.pad_id, source_id)
            nats.append(nats_of(decoder, replace(row, loss_mask=row.loss_mask & ~np.isin(row.targets, control_ids))))
            num_bytes.append(shard.bytes_of(int(starts[i]), int(lengths[i]), int(document[i]), control_ids))
    return {"bits_per_byte": sum(nats) / math.log(2) / sum(num_bytes), "bytes": round(sum(num_bytes)), "nats": nats}


def standard_error_of_fall(before: list[float], after: list[float]) -> float:
    """Of 1 - sum(after) / sum(before) over documents: the jackknife, one document left out at a time."""
    without = 1 - (sum(after) - np.array(after)) / (sum(before) - np.array(before))
    return float(np.sqrt((len(without) - 1) * without.var()))


def measure(text: Path, minutes: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as runs:
        started = time.monotonic()
        budget = ("--budget", f"{60 * minutes:g}s", "--name", "mine", "--runs", runs)
        document = fathom("train", str(text), "--from", "smollm2", *budget)
        seconds = time.monotonic() - started
        bill = document["bill"]
        whole = [scored(model, runs, Path(document["folder"])) for model in ("smollm2", "mine")]
        before, after = (part["bits_per_byte"] for part in whole)
        first = [part["beginnings"] for part in whole]
        began, ended = (part["bits_per_byte"] for part in first)
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
            "beginnings": {
                "documents": len(first[0]["nats"]),
                "bytes": first[0]["bytes"],
                "bits_per_byte_before": began,
                "bits_per_byte_after": ended,
                "fall": 1 - ended / began,
                "fall_standard_error": standard_error_of_fall(first[0]["nats"], first[1]["nats"]),
            },
            "all_text_passes": 1 - after / before >= FALL,
            "beginnings_pass": 1 - ended / began >= FALL,
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
    name = NAME if asked.text == shared else f"{NAME}/{asked.text.name.partition('.')[0].lower()}"
    Path(__file__).with_name("results").joinpath(f"{name}.json").write_text(json.dumps(row, indent=1) + "\n")
    print(
        f"{row['text']}: {row['bits_per_byte_before']:.4f} bits per byte before, {row['bits_per_byte_after']:.4f} "
        f"after {row['seconds']:.0f} s, {row['fall']:.1%} less; the first row of each document "
        f"{row['beginnings']['bits_per_byte_before']:.4f} and {row['beginnings']['bits_per_byte_after']:.4f}, "
        f"{row['beginnings']['fall']:.1%} less (standard error {row['beginnings']['fall_standard_error']:.1%})"
    )
    for answer in row["answers"]:
        print(f"{answer['question']}\n  before: {answer['before']}\n  after:  {answer['after']}")
    print(json.dumps(row))


if __name__ == "__main__":
    main()
