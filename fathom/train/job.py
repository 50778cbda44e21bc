"""`fathom train` from the request to the bill: one function that the command line, the demo and the benchmarks call."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fathom.cost.flops import forward_flops_per_token
from fathom.data.sources import Source as DataSource
from fathom.data.sources import open_sources
from fathom.errors import FathomError
from fathom.evaluate.perplexity import held_out_bits_per_byte
from fathom.ledger import Ledger, receipt
from fathom.train import dial
from fathom.train.allowance import Allowance
from fathom.train.durable import write_json, write_text
from fathom.train.fit import check_memory
from fathom.train.loop import Progress, RunResult, open_ledger, train
from fathom.train.machine import MachineSpeed, measure
from fathom.train.parallel import Parallel
from fathom.train.recipe import Recipe
from fathom.train.recipe_files import apply_sets, load_recipe, recipe_table
from fathom.train.request import Request, find_run
from fathom.train.run_folder import RunFolder, load_weights

if TYPE_CHECKING:
    from fathom.data.records import Manifest
    from fathom.data.tokenizer import Tokenizer
    from fathom.model.decoder import Decoder


@dataclass(frozen=True)
class Source:
    """Published or own weights to go on from."""

    decoder: Decoder
    tokenizer: Tokenizer
    name: str


class Display:
    """What a job tells while it works; the command line draws it, others leave it silent."""

    def phase(self, text: str) -> None: ...

    def preparing(self, stage: str, done: int, total: int | None) -> None: ...

    def training(self, now: Progress, speed: MachineSpeed) -> None: ...

    def evaluated(self, name: str, results: dict[str, Any]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of it."""

    folder: RunFolder
    recipe: Recipe
    result: RunResult
    before: dict[str, Any] | None  # held-out evaluation of the source model
    after: dict[str, Any]
    seconds: float
    resumed: bool


def carry_out(
    request: Request,
    *,
    open_source: Callable[[str], Source] | None = None,
    display: Display | None = None,
    started: float | None = None,
    parallel: Parallel | None = None,
) -> Outcome:
    """Do what `request` asks: prepare the data, choose the recipe, train, evaluate, write the bill.

    `started` (time.monotonic) is when the command began: the budget counts from there. `open_source` opens the model of
    `--from`. Raises FathomError with one sentence for whatever a user can mend.
    """
    job = Job(request, open_source, display or Display(), started or time.monotonic(), parallel or Parallel())
    return job.run()


class Job:
    """One command's work, in the order in which it happens."""

    def __init__(
        self,
        request: Request,
        open_source: Callable[[str], Source] | None,
        display: Display,
        started: float,
        parallel: Parallel,
    ) -> None:
        self.request, self.open_source, self.display = request, open_source, display
        self.started, self.parallel = started, parallel
        self.allowance = Allowance.of(request, started)
        self.source: Source | None = None

    def run(self) -> Outcome:
        self.folder = RunFolder(self.parallel.first(self._find))
        self.display.phase("measuring the machine")
        self.speed = measure(self.parallel.device)
        self.resumed = self.folder.exists
        self.ledger = self._open_ledger() if self.parallel.writes else None
        with self.ledger or contextlib.nullcontext():
            recipe, before = self.parallel.first(self._make_ready)
            result = self._train(recipe)
            after = self._evaluate(recipe, result.decoder, "after", step=result.steps)
        if self.parallel.writes:
            receipt.write(self.folder.path, self.request.runs)
            self.folder.finish({"bits_per_byte": after["bits_per_byte"]})
        return Outcome(
            folder=self.folder,
            recipe=recipe,
            result=result,
            before=before,
            after=after,
            seconds=time.monotonic() - self.started,
            resumed=self.resumed,
        )

    def _find(self) -> Path:
        """Where to work. What is wrong with a name, a path or a recipe is said before the machine is measured."""
        path = find_run(self.request).path
        open_sources([path for path in self.request.paths if not path.startswith("hf:")])
        if self.request.recipe and not self.request.start_from:
            load_recipe(self.request.recipe, self.request.sets)
        return path

    def _open_ledger(self) -> Ledger:
        recipe = self.folder.recipe() if self.resumed else self._asked_recipe()
        check_memory(recipe, self.parallel.device, self.parallel.world)
        if not self.resumed:
            self._sources(recipe)  # a path that is not there is said before a run folder exists
            self.folder.write_recipe(recipe)
        details = {"measured_peak_flops_per_second": self.speed.peak_flops_per_second, "threads": self.speed.threads}
        return open_ledger(recipe, self.folder.path, runs=self.request.runs, details=details, since=self.started)

    def _make_ready(self) -> tuple[Recipe, dict[str, Any] | None]:
        """The settled recipe and, for a source model, what it scores before: one process's work."""
        recipe = self.folder.recipe()
        settled = bool(recipe.data.manifest_sha256)
        recipe = self._settle(recipe)
        before = self._evaluate_source(recipe)
        if not settled:
            recipe = self._limit(recipe, before)
            self._keep(recipe)
        return recipe, before

    def _limit(self, recipe: Recipe, before: dict[str, Any] | None) -> Recipe:
        """The recipe with the seconds that its training loop may take, where a budget and not its steps decide."""
        if not self.allowance.seconds or recipe.train.steps:
            return recipe
        return recipe.with_changes(
            budget={"seconds": self.allowance.seconds_left(recipe, before["seconds"] if before else None)}
        )

    def _keep(self, recipe: Recipe) -> None:
        if self.ledger is not None:
            self.ledger.note("recipe", "settled once the data was known", recipe=recipe_table(recipe))
        self.folder.write_recipe(recipe)

    # ---- the recipe ------------------------------------------------------------------------------------------------

    def _asked_recipe(self) -> Recipe:
        """The recipe as far as it is known before the data is read."""
        if self.request.start_from:
            recipe = dial.continue_from(self._open_source().decoder.config, self.request.recipe)
        elif self.request.recipe:
            recipe = load_recipe(self.request.recipe, self.request.sets)
            if self.request.budget:  # asked for beside a recipe, it decides how long
                recipe = recipe.with_changes(train={"steps": 0})
        else:
            recipe = dial.choose(
                self.allowance.seconds, self.speed, dial.vocabulary_for(self.allowance.seconds), self.request.size
            )
        # A recipe taken from another run names that run's data: only the request says what this one learns from.
        recipe = recipe.with_changes(data={"prepared": "", "manifest_sha256": ""})
        name = self.folder.path.name
        recipe = recipe.model_copy(update={"name": name, "request": self.request.section()})
        return apply_sets(recipe, self.request.sets)

    def _settle(self, recipe: Recipe) -> Recipe:
        """The recipe once the data is known: vocabulary, manifest, shape. A resumed run keeps what it had."""
        manifest, prepared = self._prepare(recipe)
        if recipe.data.manifest_sha256:
            _check_same_data(recipe, manifest, self.folder)
            return recipe
        recipe = self._fit_to_data(recipe, manifest)
        sections: dict[str, Any] = {"data": {"prepared": str(prepared.resolve()), "manifest_sha256": manifest.digest}}
        if self.allowance.seconds:
            domains = len(manifest.held_out_domains)
            sections["data"]["evaluation_tokens"] = self.allowance.evaluation_tokens(recipe, self.speed, domains)
        self._keep_data_facts(manifest, prepared)
        return recipe.with_changes(**sections)

    def _fit_to_data(self, recipe: Recipe, manifest: Manifest) -> Recipe:
        if self.request.recipe or self.request.start_from:
            return recipe.with_changes(
                model={"vocab_size": max(recipe.model.vocab_size, manifest.tokenizer.vocab_size)}
            )
        chosen = dial.choose(
            self.allowance.seconds_left(recipe),
            self.speed,
            manifest.tokenizer.vocab_size,
            self.request.size,
            manifest.train_tokens,
        )
        kept = {key: getattr(recipe, key) for key in ("name", "request", "data")}
        return apply_sets(chosen.model_copy(update=kept), self.request.sets)

    # ---- the data --------------------------------------------------------------------------------------------------

    def _prepare(self, recipe: Recipe) -> tuple[Manifest, Path]:
        from fathom.data.manifest import prepare_cached

        self.display.phase("preparing the data")
        return prepare_cached(
            self._sources(recipe),
            self.request.runs / ".prepared",
            vocab_size=recipe.data.vocab_size,
            tokenizer=self._tokenizer(recipe),
            seed=0,
            held_out_fraction=recipe.data.held_out_fraction,
            progress=self.display.preparing,
        )

    def _sources(self, recipe: Recipe) -> list[DataSource]:
        paths = self.request.paths or recipe.data.sources
        if not paths:
            raise FathomError("no data was named: give files or folders, hf:NAME, builtin:stdlib or builtin:problems")
        return open_sources(paths, text_column=recipe.data.text_column or None)

    def _tokenizer(self, recipe: Recipe) -> Tokenizer | None:
        """The source model's where there is one, the recipe's where it names one; None: to be trained."""
        from fathom.data.tokenizer import Tokenizer

        if self.request.start_from:
            kept = self.folder.tokenizer
            return Tokenizer.load(kept) if kept.is_dir() else self._open_source().tokenizer
        return Tokenizer.load(recipe.data.tokenizer) if recipe.data.tokenizer else None

    def _keep_data_facts(self, manifest: Manifest, prepared: Path) -> None:
        """What the run folder holds of the data: the manifest and the tokenizer; the shards stay where they are
        shared.
        """
        (self.folder.path / "data").mkdir(exist_ok=True)
        write_text(self.folder.path / "data" / "manifest.json", manifest.to_json())
        shutil.copytree(prepared / "tokenizer", self.folder.tokenizer, dirs_exist_ok=True)
        sources = [source_summary(source) for source in manifest.sources]
        if self.ledger is not None:
            self.ledger.data(sources=sources, manifest_sha256=manifest.digest, tokens=manifest.train_tokens)

    # ---- training and evaluation -----------------------------------------------------------------------------------

    def _open_source(self) -> Source:
        if self.source is None:
            if self.open_source is None:
                raise FathomError(
                    f"--from {self.request.start_from!r} needs a way to open models, which this caller lacks"
                )
            self.display.phase(f"opening {self.request.start_from}")
            self.source = self.open_source(self.request.start_from)
        return self.source

    def _train(self, recipe: Recipe) -> RunResult:
        from fathom.data.shards import Batches

        train_section = recipe.train
        batches = Batches(
            recipe.data.prepared,
            sequence_length=train_section.sequence_length,
            rows=train_section.rows_per_step,
            seed=recipe.seed,
            weights=recipe.data.weights or None,
        )
        self.display.phase("training")
        return train(
            recipe,
            self.folder.path,
            batches,
            ledger=self.ledger,
            progress=lambda now: self.display.training(now, self.speed),
            init_from=self._copy_source if self.request.start_from else None,
            parallel=self.parallel,
        )

    def _copy_source(self, decoder: Decoder) -> None:
        load_weights(decoder, self._open_source().decoder.state_dict())

    def _evaluate_source(self, recipe: Recipe) -> dict[str, Any] | None:
        if not self.request.start_from:
            return None
        file = self.folder.path / "before.json"
        if file.is_file():
            return json.loads(file.read_text(encoding="utf-8"))
        results = self._evaluate(recipe, self._open_source().decoder, "before")
        write_json(file, results)
        return results

    def _evaluate(self, recipe: Recipe, decoder: Decoder, name: str, step: int | None = None) -> dict[str, Any]:
        self.display.phase("evaluating on held-out text")
        decoder.compute_dtype = torch.bfloat16 if recipe.train.precision == "bf16" else torch.float32
        results = held_out_bits_per_byte(
            decoder, Path(recipe.data.prepared), recipe.train.sequence_length, max_tokens=recipe.data.evaluation_tokens
        )
        flops = forward_flops(recipe, results["tokens"])
        if self.ledger is not None:
            self.ledger.evaluation(
                name=f"held-out {name}", results=results, step=step, tokens=results["tokens"], flops=flops
            )
        self.display.evaluated(name, results)
        return results


def forward_flops(recipe: Recipe, tokens: int) -> dict[str, int]:
    by_component = forward_flops_per_token(recipe.model, recipe.train.sequence_length, mtp=False)
    return {name: int(count * tokens) for name, count in by_component.items()}


def source_summary(source: Any) -> dict[str, Any]:
    return {
        "name": source.name,
        "license": source.license,
        "documents": source.documents_kept,
        "bytes": source.text_bytes,
        "sha256": source.sha256,
        "dropped": dict(source.dropped),
        "origin": source.origin,
    }


def _check_same_data(recipe: Recipe, manifest: Manifest, folder: RunFolder) -> None:
    if manifest.digest != recipe.data.manifest_sha256:
        raise FathomError(
            f"the data has changed since {folder.path} began (manifest {manifest.digest[:12]}, was "
            f"{recipe.data.manifest_sha256[:12]}); put it back, or start a new run with another --name"
        )
