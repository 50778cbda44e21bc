"""What the report shows of one run, read from its folder: nothing here is computed that the ledger does not say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fathom.audit.charts import Curve, Share, wilson
from fathom.cost.parameters import ParameterCount, parameters
from fathom.ledger import events
from fathom.ledger.events import Event
from fathom.ledger.reading import only, read, wasted
from fathom.ledger.receipt import receipt
from fathom.ledger.verify import Verification, verify
from fathom.model.config import ModelConfig, RopeScaling


@dataclass(frozen=True)
class Sample:
    """One problem and what the model wrote."""

    kind: str
    question: str
    thinking: str
    answer: str
    expected: str
    correct: bool | None


@dataclass(frozen=True)
class RunView:
    """One run as the report needs it. `bits` is by domain and `shares` by kind of problem, `""` for all of them."""

    name: str
    bill: dict[str, Any]
    found: Verification
    recipe: dict[str, Any]
    model: ModelConfig | None
    size: ParameterCount | None
    curve: Curve
    bits: dict[str, float]
    bits_before: dict[str, float]
    shares: dict[str, Share]
    counts: dict[str, tuple[int, int]]  # kind -> (solved, asked)
    samples: list[Sample]
    training_seconds: float

    @property
    def family(self) -> str:
        """What kind of decoder it is, in words."""
        if self.model is None:
            return "unknown"
        attention = "latent attention" if self.model.attention == "latent" else "grouped-query attention"
        experts = f"{self.model.num_experts} experts, {self.model.num_experts_per_token} a token"
        return f"{attention}, {experts if self.model.num_experts else 'dense'}"

    @property
    def final_loss(self) -> float | None:
        """Mean over the last twentieth of the steps: one step's loss says little."""
        tail = list(self.curve.ys)[-max(len(self.curve.ys) // 20, 1) :]
        return sum(tail) / len(tail) if tail else None


def view(run_dir: Path | str, runs: Path | None = None) -> RunView:
    """Read one run. Raises FathomError where its ledger does not hold or it never started."""
    folder = Path(run_dir)
    bill, past = receipt(folder, runs), read(folder)
    recipe = _settled_recipe(past)
    model = _model(recipe.get("model"))
    before, after = _bits(past)
    counts = _counts(past)
    steps = _kept_steps(past)
    return RunView(
        name=bill["run"], bill=bill, found=verify(folder, runs), recipe=recipe, model=model,
        size=None if model is None else parameters(model), curve=_curve(bill["run"], steps),
        bits=after, bits_before=before, counts=counts,
        shares={kind: wilson(*count) for kind, count in counts.items()}, samples=_samples(past),
        training_seconds=sum(step.elapsed_seconds for step in steps),
    )  # fmt: skip


def _settled_recipe(past: list[Event]) -> dict[str, Any]:
    """The recipe as the run used it: the start's, or a later note's where it was settled once the data was known."""
    notes = [note.details["recipe"] for note in only(past, events.Note) if note.topic == "recipe"]
    return notes[-1] if notes else only(past, events.Start)[0].recipe


def _model(table: Any) -> ModelConfig | None:
    """The model's shape, if the recipe has one."""
    if not isinstance(table, dict) or "hidden_size" not in table:
        return None
    scaling = table.get("rope_scaling")
    return ModelConfig(**{**table, "rope_scaling": RopeScaling(**scaling) if scaling else None})


def _kept_steps(past: list[Event]) -> list[events.Step]:
    """The steps that made the model: those taken again later left out."""
    lost = wasted(past)
    return [event.body for event in past if isinstance(event.body, events.Step) and event.sequence not in lost]


def _curve(name: str, steps: list[events.Step]) -> Curve:
    seconds, xs = 0.0, []
    for step in steps:
        seconds += step.elapsed_seconds
        xs.append(seconds)
    return Curve(name, xs, [step.loss for step in steps])


def _bits(past: list[Event]) -> tuple[dict[str, float], dict[str, float]]:
    """Held-out bits per byte by domain, (before training, after); empty where they were not measured."""
    before: dict[str, float] = {}
    after: dict[str, float] = {}
    for evaluation in only(past, events.Evaluation):
        results = evaluation.results
        if not isinstance(results, dict) or not isinstance(results.get("bits_per_byte"), int | float):
            continue
        found = {"": float(results["bits_per_byte"])}
        for domain, part in (results.get("domains") or {}).items():
            if part["bits_per_byte"] is not None:
                found[domain] = float(part["bits_per_byte"])
        (before if "before" in evaluation.name else after).update(found)
    return before, after


def _counts(past: list[Event]) -> dict[str, tuple[int, int]]:
    """(solved, asked) by kind from the newest evaluation that has `kinds`, and for all of them under `""`."""
    for evaluation in reversed(only(past, events.Evaluation)):
        kinds = evaluation.results.get("kinds") if isinstance(evaluation.results, dict) else None
        if kinds:
            counts = {kind: (int(part["correct"]), int(part["total"])) for kind, part in sorted(kinds.items())}
            whole = (sum(solved for solved, _ in counts.values()), sum(asked for _, asked in counts.values()))
            return {"": whole, **counts}
    return {}


def _samples(past: list[Event]) -> list[Sample]:
    """The answers of the newest evaluation that kept some under `samples`."""
    for evaluation in reversed(only(past, events.Evaluation)):
        rows = evaluation.results.get("samples") if isinstance(evaluation.results, dict) else None
        if rows:
            return [
                Sample(
                    kind=str(row.get("kind", "")), question=str(row["question"]), thinking=str(row.get("thinking", "")),
                    answer=str(row["answer"]), expected=str(row.get("expected", "")), correct=row.get("correct"),
                )
                for row in rows
            ]  # fmt: skip
    return []
