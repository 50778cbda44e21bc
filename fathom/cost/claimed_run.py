"""The training run inside a claim: what the efficiency model can learn from it, or predict of it."""

from __future__ import annotations

from fathom.cost.claim import Claim, Figure, Stage
from fathom.cost.hardware import Accelerator, find
from fathom.cost.models import known_models
from fathom.cost.parameters import parameters
from fathom.cost.run import Run


def run_of(claim: Claim, unnamed: Accelerator | None = None) -> tuple[Run, float | None] | None:
    """The (pre-)training run that `claim` describes and its stated device-hours; None where parameters, tokens or the
    device are not given. `unnamed` is the device to take where the claim names none.

    Of a run told in stages, the pre-training stage is taken: the later ones are other work per token.
    """
    stage = pre_training(claim)
    figures = {**claim.figures, **(stage.figures if stage else {})}
    known = known_models().get(str(claim.model.get("name", "")))
    tokens = _number(figures, "tokens")
    active = _number(figures, "active_parameters") or (known and float(parameters(known.architecture).active))
    device = find(claim.text("accelerator")) or unnamed
    if not tokens or not active or device is None:
        return None
    run = Run(
        name=claim.id,
        architecture=known.architecture if known else None,
        total_parameters=_number(figures, "total_parameters") or active,
        active_parameters=active,
        layers=int(claim.model.get("layers", 0)),
        hidden_size=int(claim.model.get("hidden_size", 0)),
        tokens=tokens,
        sequence_length=int(_number(figures, "sequence_length") or 0),
        precision=claim.text("precision") or (known.training_precision if known else "") or "bf16",
        device=device,
        count=_number(figures, "accelerator_count") or 0.0,
    )
    hours = stage.figures["device_hours"].number if stage and "device_hours" in stage.figures else claim.device_hours
    return run, hours


def pre_training(claim: Claim) -> Stage | None:
    """The stage in which the tokens were read, of a run told in stages."""
    return next((stage for stage in claim.stages if stage.name.lower().startswith("pre-training")), None)


def _number(figures: dict[str, Figure], name: str) -> float | None:
    figure = figures.get(name)
    return figure.number if figure is not None and isinstance(figure.value, float) else None
