"""`[model]` of a plan file: a known name, a published config, a full shape, or sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fathom.cost.architecture import Architecture
from fathom.cost.huggingface import architecture_from_config
from fathom.cost.models import KnownModel, known_model
from fathom.cost.parameters import parameters
from fathom.cost.plankeys import SHAPE, number
from fathom.cost.questions import OTHER_MODEL, question_shape
from fathom.errors import FathomError
from fathom.model.config import ModelConfig


def shape_of(model: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """What `Run` needs to know of the model, from a name, a published config, a full shape, or sizes."""
    total, active = (number(model, "model", key) for key in ("total_parameters", "active_parameters"))
    if total and active and active > 1.001 * total:
        raise FathomError(
            f"model.active_parameters = {active:g} cannot exceed model.total_parameters = {total:g}: "
            "are they exchanged?"
        )
    architecture = _architecture(model, known_only=bool(total))
    if architecture is not None:
        _check_stated(architecture, total, active)
        _check_shape(architecture, model)
        return {"architecture": architecture}
    if not total:
        raise FathomError(
            "[model] must give a known 'name', or 'total_parameters' (and 'active_parameters' of a mixture)"
        )
    if "active_parameters" not in model:
        notes.append("active_parameters is not given: taken as a dense model, every parameter active")
    layers, width = (int(number(model, "model", key)) for key in ("layers", "hidden_size"))
    if layers and width:
        question_shape(layers, width, active or total)
    return {
        "total_parameters": total, "active_parameters": active or total, "layers": layers, "hidden_size": width,
    }  # fmt: skip


def _architecture(model: Mapping[str, Any], known_only: bool) -> Architecture | None:
    if "config" in model:
        return architecture_from_config(model["config"])
    shape = {key: model[key] for key in SHAPE & set(model)}
    whole = {"vocab_size", "hidden_size", "num_heads"} <= set(shape) and "layers" in model
    if whole and {"intermediate_size", "moe_intermediate_size"} & set(shape):
        return Architecture.of(_config(shape, model["layers"]))
    if "name" not in model:
        return None
    try:
        return known_model(str(model["name"])).architecture
    except FathomError:
        if known_only:  # a new model under its own name, with its sizes
            return None
        raise


def _config(shape: dict[str, Any], layers: Any) -> ModelConfig:
    try:
        return ModelConfig(**shape, num_layers=layers)
    except TypeError as error:
        raise FathomError(f"[model] cannot be read as a shape: {error}") from None


def known_in(model: Mapping[str, Any]) -> KnownModel | None:
    """The model on file that `[model]` names; None where it names none, or a new one."""
    try:
        return known_model(str(model["name"])) if "name" in model else None
    except FathomError:
        return None


def _check_stated(architecture: Architecture, total: float, active: float) -> None:
    """A stated size must be that of the shape."""
    count = parameters(architecture)
    for name, stated, counted in (("total", total, count.total), ("active", active, count.active)):
        if stated and not 1 / OTHER_MODEL < stated / counted < OTHER_MODEL:
            raise FathomError(
                f"model.{name}_parameters = {stated:g} is questioned: the named shape has {counted:g}; drop one of them"
            )


def _check_shape(architecture: Architecture, model: Mapping[str, Any]) -> None:
    """Layers and width beside a named shape or a published config must be those of it."""
    for key, known in (("layers", architecture.num_layers), ("hidden_size", architecture.hidden_size)):
        stated = int(number(model, "model", key))
        if stated and stated != known:
            raise FathomError(f"model.{key} = {stated} is questioned: the named shape has {known}; drop one of them")
