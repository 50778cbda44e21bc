"""What `fathom demo` does, in order: data, two trainings of equal length, their problems, the report."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fathom.errors import FathomError

if TYPE_CHECKING:
    from fathom.data.records import Manifest
    from fathom.train.job import Display, Outcome

RECIPES = ("demo-deepseek", "demo-llama")
SOURCES = ("builtin:problems:40000", "builtin:stdlib")
# Seconds kept for what comes after the trainings: two evaluations on text and problems, checkpoints, the report.
# Measured on two cores without AMX: 35 to 45 seconds a model.
RESERVED_SECONDS = 110.0
LEAST_SECONDS = 5.0  # of training; less leaves nothing to look at


@dataclass(frozen=True)
class Trained:
    """One of the two models and what was measured on it."""

    recipe: str
    folder: Path
    outcome: Outcome
    problems: dict[str, Any]

    def document(self, runs: Path) -> dict[str, Any]:
        from fathom.ledger.receipt import receipt

        return {
            "recipe": self.recipe,
            "folder": str(self.folder),
            "training_seconds": self.outcome.result.seconds,
            "steps": self.outcome.result.steps,
            "text": self.outcome.after,
            "problems": self.problems,
            "bill": receipt(self.folder, runs),
        }


@dataclass
class Demo:
    """One demonstration. `started` is when the command began, on the clock of time.monotonic."""

    seed: int
    minutes: float
    problems: int
    runs: Path
    started: float
    recipes: tuple[str, ...] = RECIPES
    trained: list[Trained] = field(default_factory=list)

    def run(self, display: Display) -> dict[str, Any]:
        """Everything until the report is written; the document that `--json` prints."""
        from fathom.audit.report import write_report

        suffix = self._free_suffix()
        manifest = self._gather(display, f"demo-data{suffix}")
        seconds = self._training_seconds()
        for recipe in self.recipes:
            self.trained.append(self._train(recipe, f"{recipe}{suffix}", seconds, display))
        report = write_report([one.folder for one in self.trained], title="Fathom's demonstration", runs=self.runs)
        return {
            "seed": self.seed,
            "minutes": self.minutes,
            "seconds": time.monotonic() - self.started,
            "data": {"manifest_sha256": manifest.digest, "train_tokens": manifest.train_tokens},
            "models": {one.folder.name: one.document(self.runs) for one in self.trained},
            "report": str(report),
        }

    def _free_suffix(self) -> str:
        """Names that no earlier demonstration in this workspace has: "", "-2", "-3" ..."""
        number = 1
        while True:
            suffix = "" if number == 1 else f"-{number}"
            if not any((self.runs / f"{name}{suffix}").exists() for name in ("demo-data", *RECIPES)):
                return suffix
            number += 1

    def _gather(self, display: Display, name: str) -> Manifest:
        """Prepare the data that both runs share. What it takes is entered as a run of its own: it serves both."""
        from fathom.data.manifest import prepare_cached
        from fathom.ledger.book import Ledger
        from fathom.train.job import source_summary
        from fathom.train.recipe_files import load_recipe

        data = load_recipe(RECIPES[0]).data
        display.phase("gathering the built-in data")
        with Ledger.create(self.runs / name, runs=self.runs) as ledger:
            ledger.start(
                recipe={"name": name, "data": {"sources": list(SOURCES), "vocab_size": data.vocab_size}}, purpose="data"
            )
            manifest, _ = prepare_cached(
                SOURCES,
                self.runs / ".prepared",
                vocab_size=data.vocab_size,
                seed=0,
                held_out_fraction=data.held_out_fraction,
                progress=display.preparing,
            )
            summaries = [source_summary(source) for source in manifest.sources]
            ledger.data(sources=summaries, manifest_sha256=manifest.digest, tokens=manifest.train_tokens)
        return manifest

    def _training_seconds(self) -> float:
        """For each of the two trainings: half of what is left, and no more than the recipe asks for."""
        from fathom.train.recipe_files import load_recipe

        left = 60 * self.minutes - (time.monotonic() - self.started) - min(RESERVED_SECONDS, 20 * self.minutes)
        if left / 2 < LEAST_SECONDS:
            raise FathomError(
                f"--minutes {self.minutes:g} leaves no time to train on this machine; give {self.minutes + 1:g} or more"
            )
        return min(left / 2, load_recipe(RECIPES[0]).budget.seconds)

    def _train(self, recipe: str, name: str, seconds: float, display: Display) -> Trained:
        from fathom.train.job import carry_out
        from fathom.train.request import Request

        request = Request(
            paths=list(SOURCES),
            recipe=recipe,
            sets=[f"seed={self.seed}", f"budget.seconds={seconds:.1f}"],
            name=name,
            runs=self.runs,
        )
        outcome = carry_out(request, display=display)
        return Trained(recipe, outcome.folder.path, outcome, self._ask(outcome, display))

    def _ask(self, outcome: Outcome, display: Display) -> dict[str, Any]:
        from fathom.cli.measure import enter_problems, reopened_ledger, solve_problems
        from fathom.data.tokenizer import Tokenizer

        display.phase(f"{outcome.folder.path.name} answers {self.problems} problems it never saw")
        with reopened_ledger(outcome.folder.path, self.runs) as ledger:
            results = solve_problems(
                outcome.result.decoder,
                Tokenizer.load(outcome.folder.tokenizer),
                total=self.problems,
                seed=self.seed,
                progress=lambda done, total: display.preparing("answered", done, total),
            )
            enter_problems(ledger, outcome.recipe.model, results)
        return results


def process_start() -> float:
    """When this process began, on the clock of time.monotonic: the minutes count from there, imports included."""
    import psutil

    return time.monotonic() - max(0.0, time.time() - psutil.Process().create_time())
