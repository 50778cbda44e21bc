"""The training run inside a claim: what the efficiency model can learn from it, or predict of it."""

from __future__ import annotations

from fathom.cost.claim import Claim, Figure
from fathom.cost.hardware import find
from fathom.cost.models import known_models
from fathom.cost.run import Run


def run_of(claim: Claim) -> tuple[Run, float | None] | None:
    """The (pre-)training run that `claim` describes and its stated device-hours; None where parameters, tokens or the
    device are not given.

    Of a run told in stages, the pre-training stage is taken: the later ones are other work per token.
    """
    stage = next((stage for stage in claim.stages if stage.name.lower().startswith("pre-training")), None)
    figures = {**claim.figures, **(stage.figures if stage else {})}
    tokens, active = _number(figures, "tokens"), _number(figures, "active_parameters")
    device = find(claim.text("accelerator"))
    if not tokens or not active or device is None:
        return None
    known = known_models().get(str(claim.model.get("name", "")))
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


def _number(figures: dict[str, Figure], name: str) -> float | None:
    figure = figures.get(name)
    return figure.number if figure is not None and isinstance(figure.value, float) else None
