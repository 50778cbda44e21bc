"""One training run that answers for several lengths: the stable phase goes on, a decay branches off for each length.

With a warm-up, stable, decay schedule a run of total length T is exactly the stable prefix of (1 - d) T and a decay of
d T, so a single stable phase with a decay branched off at each length gives the result of every length (the method of
arXiv:2405.18392). The time of a branch is its own prefix and decay; evaluations and copies are not counted, for nobody.
"""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fathom.cost.energy import modelled_joules
from fathom.cost.flops import parameters, training_flops
from fathom.data.shards import Batches
from fathom.evaluate.perplexity import held_out_bits_per_byte
from fathom.ledger.machine import billed_devices
from fathom.model.decoder import Decoder
from fathom.train.loop import build_model
from fathom.train.optimizer import Optimizer
from fathom.train.parallel import Parallel
from fathom.train.recipe import Recipe
from fathom.train.schedule import Plan, learning_rate_ratio
from fathom.train.step import take_step

DEVICE = torch.device("cpu")
RESULTS = Path(__file__).with_name("results")
WARM_SECONDS_STEPS = 3  # steps left out of the measured pace
EVALUATION_TOKENS = 20_000  # a domain


class Trainer:
    """A model, its optimizer and its clock: only seconds inside steps count."""

    def __init__(self, recipe: Recipe, prepared: Path, initialize: Any = None) -> None:
        self.recipe, self.prepared = recipe, prepared
        section = recipe.train
        self.batches = Batches(
            prepared, sequence_length=section.sequence_length, rows=section.rows_per_step, seed=recipe.seed
        )
        self.model = build_model(recipe, DEVICE)
        self.model.init_weights(recipe.seed)
        if initialize is not None:
            initialize(self.model, recipe.seed)
        self.optimizer = Optimizer(self.model, recipe.optimizer)
        self.step, self.seconds, self.loss = 0, 0.0, float("nan")

    def advance(self, plan: Plan) -> None:
        started = time.monotonic()
        rate = self.recipe.train.learning_rate * learning_rate_ratio(self.recipe.schedule, plan, self.step)
        batch = self.batches.batch(self.step)
        self.loss = take_step(self.model, self.optimizer, batch, self.recipe, rate, Parallel(device=DEVICE)).loss
        self.step += 1
        self.seconds += time.monotonic() - started

    def state(self) -> dict[str, Any]:
        return {
            "model": copy.deepcopy(self.model.state_dict()),
            "optimizer": copy.deepcopy(self.optimizer.state()),
            "step": self.step,
            "seconds": self.seconds,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load(state["optimizer"], state["step"])
        self.step, self.seconds = state["step"], state["seconds"]

    def row(self) -> dict[str, Any]:
        """What this point took and reached."""
        section, model = self.recipe.train, self.recipe.model
        tokens = self.step * self.recipe.tokens_per_step
        results = held_out_bits_per_byte(
            self.model, self.prepared, section.sequence_length, max_tokens=EVALUATION_TOKENS
        )
        count = parameters(model)
        joules = sum(
            modelled_joules(row["device"], self.seconds, count=row["count"]).median for row in billed_devices()
        )
        return {
            "bits_per_byte": results["bits_per_byte"],
            "by_domain": {name: part["bits_per_byte"] for name, part in results["domains"].items()},
            "seconds": self.seconds,
            "steps": self.step,
            "tokens": tokens,
            "flops": training_flops(model, tokens, section.sequence_length).total,
            "joules_modelled": joules,
            "last_loss": self.loss,
            "total_parameters": count.total,
            "active_parameters": count.active,
            "width": model.hidden_size,
            "layers": model.num_layers,
            "learning_rate": section.learning_rate,
            "tokens_per_step": self.recipe.tokens_per_step,
            "seed": self.recipe.seed,
            "manifest_sha256": self.batches.manifest.digest,
        }


def branching_run(
    recipe: Recipe, prepared: Path, totals: list[float], initialize: Any = None, say: Any = print
) -> list[dict[str, Any]]:
    """A row for each total length in seconds of training. The schedule's decay fraction says where each branches
    off.
    """
    trainer = Trainer(recipe, prepared, initialize)
    rows = []
    for total in sorted(totals):
        rows.append(_one_length(trainer, total))
        say(f"{total:6.0f} s: {rows[-1]['bits_per_byte']:.4f} bits per byte after {rows[-1]['tokens']:,} tokens")
    return rows


def _one_length(trainer: Trainer, total: float) -> dict[str, Any]:
    schedule = trainer.recipe.schedule
    endless = Plan(
        from_step=0, total_steps=2**40, warmup_steps=schedule.warmup_steps, decay_start=2**40, reason="benchmark"
    )
    while trainer.seconds < total * (1 - schedule.decay_fraction):
        trainer.advance(endless)
    kept = trainer.state()
    pace = trainer.seconds / trainer.step
    steps = max(1, round((total - trainer.seconds) / pace))
    plan = Plan(
        from_step=0,
        total_steps=trainer.step + steps,
        warmup_steps=schedule.warmup_steps,
        decay_start=trainer.step,
        reason="benchmark",
    )
    while trainer.step < plan.total_steps:
        trainer.advance(plan)
    row = trainer.row()
    trainer.restore(kept)
    return row


def normal_initialization(model: Decoder, seed: int) -> None:
    """Every matrix drawn with a standard deviation of 0.02, as LLaMA's and GPT-2's implementations do."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.empty(parameter.shape).normal_(0.0, 0.02, generator=generator))


def prepared_text(vocab_size: int) -> Path:
    """`../shared/data/text` prepared with a tokenizer of its own, kept between pieces. Ends with a reason where
    absent.
    """
    from fathom.data.manifest import prepare_cached

    text = Path(os.environ.get("FATHOM_SHARED_DATA", Path(__file__).resolve().parent.parent.parent / "shared" / "data"))
    if not (text / "text").is_dir():
        raise SystemExit(f"skipped: the texts are not at {text / 'text'}")
    kept = Path(__file__).resolve().parent.parent / "scratch" / "prepared"
    return prepare_cached([text / "text"], kept, vocab_size=vocab_size)[1]


def store(
    name: str,
    row: dict[str, Any],
    keys: tuple[str, ...],
    summarize: Callable[[list[dict[str, Any]]], dict[str, Any]] | None = None,
) -> None:
    """Put one row into results/NAME.json, in place of an older one with the same keys, and what all of them say."""
    file = RESULTS / f"{name}.json"
    rows = stored(name)
    rows = [old for old in rows if any(old.get(key) != row.get(key) for key in keys)] + [row]
    rows.sort(key=lambda entry: json.dumps([entry.get(key) for key in keys]))
    document = {"rows": rows} | ({"summary": summarize(rows)} if summarize else {})
    file.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")


def stored(name: str) -> list[dict[str, Any]]:
    file = RESULTS / f"{name}.json"
    return json.loads(file.read_text())["rows"] if file.is_file() else []
