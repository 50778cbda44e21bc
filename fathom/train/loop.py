"""The training loop: a recipe and prepared data in, a run folder out; killed at any moment, it goes on exactly.

A step's batch is a pure function of (manifest, seed, step) and nothing in a step draws random numbers, so parameters,
optimizer state, router bias, the number of the step and the plan are all that a resumed run needs.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from fathom.cost.flops import training_flops
from fathom.errors import RunFailed
from fathom.ledger import Ledger
from fathom.ledger.chain import hash_file
from fathom.model.decoder import Decoder
from fathom.train import checkpoint as checkpoints
from fathom.train.fit import check_memory
from fathom.train.guard import SpikeWatch, advice
from fathom.train.optimizer import Optimizer
from fathom.train.pace import Pace
from fathom.train.parallel import Parallel
from fathom.train.recipe import Recipe
from fathom.train.recipe_files import recipe_table
from fathom.train.run_folder import RunFolder, load_weights
from fathom.train.schedule import Plan, learning_rate_ratio, plan_at
from fathom.train.step import NotFinite, StepOutcome, take_step

if TYPE_CHECKING:
    from fathom.data.shards import Batch


class BatchSource(Protocol):
    def batch(self, step: int) -> Batch: ...


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a display needs after each step."""

    step: int  # done
    total_steps: int
    loss: float
    learning_rate: float
    tokens: int  # so far in this session
    tokens_per_second: float
    flops_per_second: float
    seconds: float  # of training so far in this session
    seconds_left: float
    joules: Any  # ledger Joules of this session so far, or None
    billed_seconds: float  # of this session so far, with what came before training


@dataclass(frozen=True, kw_only=True)
class RunResult:
    run_directory: Path
    steps: int
    tokens: int
    loss: float
    seconds: float  # of this session's training
    decoder: Decoder


def train(
    recipe: Recipe,
    run_directory: Path,
    batches: BatchSource,
    *,
    ledger: Ledger | None,
    progress: Callable[[Progress], None] | None = None,
    init_from: Callable[[Decoder], None] | None = None,
    parallel: Parallel | None = None,
) -> RunResult:
    """Train to the end of the plan, or go on from the newest checkpoint. The ledger is open (None on the
    processes that do not write it); the caller ends it.

    `init_from` fills a new model with published weights; without it they are drawn from the recipe's seed.
    Raises FathomError where it does not fit or the checkpoint is damaged, RunFailed where the loss diverges or the disk
    is full, KeyboardInterrupt after an interrupt has been saved.
    """
    session = Session(recipe, run_directory, batches, ledger, parallel or Parallel(), progress)
    session.open(init_from)
    with _Interrupts() as interrupts:
        while session.step < session.plan.total_steps:
            session.advance()
            if session.parallel.agree(interrupts.seen):
                session.save()
                raise KeyboardInterrupt
    session.save()
    return session.result()


class Session:
    """One process's stretch of a run, from a start or a checkpoint to the end or an interrupt."""

    def __init__(
        self,
        recipe: Recipe,
        run_directory: Path,
        batches: BatchSource,
        ledger: Ledger | None,
        parallel: Parallel,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.recipe, self.folder, self.batches = recipe, RunFolder(run_directory), batches
        self.ledger, self.parallel, self.progress = ledger, parallel, progress
        self.step = 0
        self.loss = float("nan")
        self.watch = SpikeWatch(recipe.guard.spike_factor)
        self.flops = training_flops(recipe.model, recipe.tokens_per_step, recipe.train.sequence_length)
        self.last_save = time.monotonic()
        self.saved_step = -1
        self.tokens = 0

    # ---- opening ---------------------------------------------------------------------------------------------------

    def open(self, init_from: Callable[[Decoder], None] | None) -> None:
        check_memory(self.recipe, self.parallel.device, self.parallel.world)
        saved = checkpoints.load_latest(self.folder.path)
        self.model = build_model(self.recipe, self.parallel.device)
        if saved is None:
            self.model.init_weights(self.recipe.seed) if init_from is None else init_from(self.model)
        self.model = self.parallel.shard(self.model)  # type: ignore[assignment]
        self.optimizer = Optimizer(self.model, self.recipe.optimizer, self.parallel)
        if saved is not None:
            self._restore(saved)
        self.pace = Pace(self.recipe, self.folder, self.parallel)
        self.pace.begin(self.step)
        self._note_plan()

    def _restore(self, saved: checkpoints.Checkpoint) -> None:
        if self.parallel.world == 1:
            load_weights(self.model, saved.tensors("model"))
            self.optimizer.load(saved.tensors("optimizer"), saved.step)
        else:
            moments = self.optimizer.empty_state()
            self.parallel.read({**self.model.state_dict(), **moments}, saved.path)
            self.optimizer.load(moments, saved.step)
        self.step = self.saved_step = saved.step
        if self.ledger is not None and saved.state.get("threads") != torch.get_num_threads():
            self.ledger.note(
                "threads",
                f"resumed with {torch.get_num_threads()} threads after {saved.state.get('threads')}: losses agree "
                f"within rounding only",
            )

    @property
    def plan(self) -> Plan:
        return plan_at(self.pace.plans, self.step)

    # ---- one step --------------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """One step, then whatever is due after it. A diverged one is answered as the recipe says."""
        plan = self.plan
        rate = self.recipe.train.learning_rate * learning_rate_ratio(self.recipe.schedule, plan, self.step)
        started = time.monotonic()
        try:
            batch = self.batches.batch(self.step + plan.skipped_batches)
            outcome = take_step(self.model, self.optimizer, batch, self.recipe, rate, self.parallel)
        except NotFinite as error:
            self._diverged(str(error), rate)
            return
        if self.watch.leaps(outcome.loss):
            self._diverged(f"the loss leapt to {outcome.loss:.3f}", rate)
            return
        self.step += 1
        self._account(outcome, rate, time.monotonic() - started)
        if self.pace.after_step(self.step, time.monotonic() - started):
            self._note_plan()
        if self._save_is_due():
            self.save()

    def _account(self, outcome: StepOutcome, rate: float, seconds: float) -> None:
        self.loss = outcome.loss
        self.tokens += outcome.tokens
        if self.ledger is not None:
            self.ledger.step(
                step=self.step,
                tokens=outcome.tokens,
                loss=outcome.loss,
                learning_rate=rate,
                gradient_norm=outcome.gradient_norm,
                flops={name: int(count) for name, count in self.flops.by_component.items()},
                seconds=seconds,
                details={"loss_tokens": outcome.loss_tokens, **outcome.parts},
            )
            if self.progress is not None:
                self.progress(self._progress(rate, outcome, seconds))

    def _progress(self, rate: float, outcome: StepOutcome, seconds: float) -> Progress:
        per_step = self.pace.seconds_per_step or seconds
        return Progress(
            step=self.step,
            total_steps=self.plan.total_steps,
            loss=outcome.loss,
            learning_rate=rate,
            tokens=self.tokens,
            tokens_per_second=outcome.tokens / per_step,
            flops_per_second=self.flops.total / per_step,
            seconds=self.pace.elapsed,
            seconds_left=self.pace.seconds_left(self.plan, self.step),
            joules=self.ledger.meter.read() if self.ledger else None,
            billed_seconds=self.ledger.meter.seconds if self.ledger else 0.0,
        )

    def _note_plan(self) -> None:
        if self.ledger is not None:
            plan = self.pace.plans[-1]
            self.ledger.note(
                "plan",
                plan.reason,
                from_step=plan.from_step,
                total_steps=plan.total_steps,
                decay_start=plan.decay_start,
            )

    # ---- trouble ---------------------------------------------------------------------------------------------------

    def _diverged(self, what: str, rate: float) -> None:
        """Stop with advice, or go back to the last checkpoint with a lower learning rate and other batches."""
        guard, step = self.recipe.guard, self.step + 1
        saved = checkpoints.load_latest(self.folder.path) if guard.action == "rollback" else None
        if saved is None or self.plan.rollbacks >= guard.max_rollbacks:
            if self.ledger is not None:
                self.ledger.note("spike", what, step=step)
            raise RunFailed(advice(what, rate, step))
        skipped = step - saved.step
        self._restore(saved)
        self.watch.forget()
        self.pace.roll_back(self.step, skipped, guard.rollback_learning_rate_ratio)
        if self.ledger is not None:
            self.ledger.note("rollback", what, at_step=step, to_step=self.step, skipped_batches=skipped)

    # ---- checkpoints -----------------------------------------------------------------------------------------------

    def _save_is_due(self) -> bool:
        wanted = self.recipe.checkpoint
        if wanted.every_steps:
            return self.step % wanted.every_steps == 0
        return bool(self.parallel.agree(time.monotonic() - self.last_save >= wanted.every_seconds))

    def save(self) -> None:
        """Write a checkpoint of the steps done and enter it in the ledger."""
        if self.saved_step == self.step:
            return
        saved = checkpoints.save(
            self.folder.path,
            self.step,
            model=self.model.state_dict(),
            optimizer=self.optimizer.state(),
            state={"threads": torch.get_num_threads()},
            keep_last=self.recipe.checkpoint.keep_last,
            parallel=self.parallel,
        )
        if self.ledger is not None:
            files = {name: f"sha256:{entry['sha256']}" for name, entry in saved.state["files"].items()}
            files["state.json"] = hash_file(saved.path / "state.json")
            self.ledger.checkpoint(step=self.step, path=saved.path, files=files)
        self.last_save, self.saved_step = time.monotonic(), self.step

    def result(self) -> RunResult:
        return RunResult(
            run_directory=self.folder.path,
            steps=self.step,
            tokens=self.tokens,
            loss=self.loss,
            seconds=self.pace.elapsed,
            decoder=self.model,
        )


def build_model(recipe: Recipe, device: torch.device) -> Decoder:
    """An empty model of the recipe's shape and precision."""
    with device:
        model = Decoder(recipe.model)
    model.compute_dtype = torch.bfloat16 if recipe.train.precision == "bf16" else torch.float32
    model.checkpoint_activations = recipe.train.checkpoint_activations
    return model.train()


def open_ledger(
    recipe: Recipe,
    run_directory: Path,
    *,
    runs: Path | None = None,
    details: dict[str, Any] | None = None,
    since: float | None = None,
) -> Ledger:
    """The ledger of a new run, started, or of one that goes on, resumed from its newest checkpoint.

    `since` (time.monotonic) is when the work began that is charged to it.
    """
    exists = (run_directory / "ledger.jsonl").is_file()
    open_it = Ledger.resume if exists else Ledger.create
    ledger = open_it(run_directory, runs=runs, since=since)
    if ledger.started:
        ledger.resumed(from_step=checkpoints.latest_step(run_directory), details=details)
    else:
        ledger.start(recipe=recipe_table(recipe), purpose=recipe.purpose, details=details)
    return ledger


class _Interrupts:
    """The first Ctrl-C (or SIGTERM) lets the step end and saves; the second one stops at once."""

    def __init__(self) -> None:
        self.seen = False
        self.before: dict[int, Any] = {}

    def __enter__(self) -> _Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self.before[number] = signal.signal(number, self._note)
            except ValueError:  # not the main thread: the caller handles signals
                break
        return self

    def _note(self, number: int, frame: Any) -> None:
        if self.seen:
            raise KeyboardInterrupt
        self.seen = True

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
