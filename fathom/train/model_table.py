"""The `[model]` table of a recipe to a `ModelConfig` and back, each wrong key or type named."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from fathom.model.config import ModelConfig, RopeScaling


def read_model(value: object) -> object:
    """Build the dataclass from a table; a `ModelConfig` passes through.

    Raises pydantic's ValidationError with the key's path for unknown keys and wrong types; FathomError for a shape
    that cannot be (from `ModelConfig` itself).
    """
    if isinstance(value, ModelConfig) or not isinstance(value, dict):
        return value
    return _build(ModelConfig, value)


def model_table(config: ModelConfig) -> dict[str, Any]:
    """Every key of the shape as TOML can hold it (a missing rope scaling is a missing table)."""
    return {key: value for key, value in dataclasses.asdict(config).items() if value is not None}


def _build(kind: type, table: dict[str, Any]) -> Any:
    errors: list[InitErrorDetails] = []
    values = {}
    for key, value in table.items():
        if key not in _adapters(kind):
            errors.append(
                {"type": PydanticCustomError("extra_forbidden", "unknown key"), "loc": (key,), "input": value}
            )
        elif kind is ModelConfig and key == "rope_scaling" and isinstance(value, dict):
            try:
                values[key] = _build(RopeScaling, value)
            except ValidationError as nested:
                errors += [_under(key, detail) for detail in nested.errors()]
        else:
            try:
                values[key] = _adapters(kind)[key].validate_python(value)
            except ValidationError as error:
                message = error.errors()[0]["msg"]
                errors.append({"type": PydanticCustomError("wrong_type", message), "loc": (key,), "input": value})
    for key in _required(kind) - table.keys():
        errors.append({"type": PydanticCustomError("missing", "missing"), "loc": (key,), "input": None})
    if errors:
        raise ValidationError.from_exception_data(kind.__name__, errors)
    return kind(**values)


def _under(key: str, detail: Any) -> InitErrorDetails:
    kind = PydanticCustomError(detail["type"], "{message}", {"message": detail["msg"]})
    return {"type": kind, "loc": (key, *detail["loc"]), "input": detail["input"]}


@functools.cache
def _adapters(kind: type) -> dict[str, TypeAdapter[Any]]:
    hints = get_type_hints(kind)
    strict = ConfigDict(strict=True)
    adapters: dict[str, TypeAdapter[Any]] = {}
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        adapters[field.name] = TypeAdapter(hint) if field.name == "rope_scaling" else TypeAdapter(hint, config=strict)
    return adapters


def _required(kind: type) -> set[str]:
    missing = dataclasses.MISSING
    return {f.name for f in dataclasses.fields(kind) if f.default is missing and f.default_factory is missing}
