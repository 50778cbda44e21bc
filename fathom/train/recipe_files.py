"""Recipe files: found by name or path, read, overridden, checked, and written out in full."""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fathom.errors import FathomError
from fathom.model.config import ModelConfig, RopeScaling
from fathom.train.model_table import model_table
from fathom.train.recipe import Recipe


def recipes_directory() -> Path:
    """Where the shipped recipes lie: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def recipe_names() -> list[str]:
    return sorted(path.stem for path in recipes_directory().glob("*.toml"))


def load_recipe(name_or_file: str | Path, sets: Iterable[str] = ()) -> Recipe:
    """Read a shipped recipe by name, or a file, and apply `--set a.b=value` overrides.

    Raises FathomError naming the file and key for an unknown recipe, bad TOML, a misspelt key or a wrong type.
    """
    path = _find(str(name_or_file))
    table = _read_toml(path)
    table.setdefault("name", path.stem)
    changed = list(sets)
    for assignment in changed:  # before a model's other sizes are told from those given
        _assign(table, assignment)
    return recipe_from_table(table, where=f"{path.name} with --set" if changed else path.name)


def recipe_from_table(table: dict[str, Any], *, where: str) -> Recipe:
    try:
        return Recipe.model_validate(table)
    except ValidationError as error:
        raise FathomError(f"{where}: {_explain(error)}") from None


def apply_sets(recipe: Recipe, sets: Iterable[str]) -> Recipe:
    """The recipe with `a.b=value` overrides applied and checked like a file's keys."""
    table = recipe_table(recipe)
    for assignment in sets:
        _assign(table, assignment)
    return recipe_from_table(table, where="--set")


def recipe_table(recipe: Recipe) -> dict[str, Any]:
    table = recipe.model_dump(exclude={"model"})
    return {key: model_table(recipe.model) if key == "model" else table[key] for key in Recipe.model_fields}


def recipe_toml(recipe: Recipe) -> str:
    """Every key, defaults included: `load_recipe` of this text gives an equal recipe."""
    return tomli_w.dumps(recipe_table(recipe))


def _find(name: str) -> Path:
    shipped = recipes_directory() / f"{name}.toml"
    if shipped.is_file():
        return shipped
    path = Path(name)
    if path.is_file():
        return path
    close = difflib.get_close_matches(name, recipe_names(), n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"the recipes are {', '.join(recipe_names())}"
    raise FathomError(f"no recipe or file '{name}'; {hint}")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise FathomError(f"{path} is not a recipe: it is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise FathomError(f"{path} is not valid TOML: {error}") from None


def _assign(table: dict[str, Any], assignment: str) -> None:
    key, equals, text = assignment.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise FathomError(
            f"--set {assignment!r} is not of the form section.key=value, such as train.learning_rate=3e-4"
        )
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise FathomError(f"--set {assignment!r}: '{part}' is a single value and has no keys of its own")
    table[parts[-1]] = _value(text.strip())


def _value(text: str) -> object:
    """A TOML value where it reads as one (3e-4, true, [1, 2]); a bare word is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _explain(error: ValidationError) -> str:
    """Every mistake with its full key and what would be right, a line each."""
    faults: dict[tuple[Any, ...], str] = {}  # the first of each key: a key of several types has a fault for each
    for fault in error.errors():
        faults.setdefault(fault["loc"][:2], _fault(fault))
    return "\n  and: ".join(faults.values())


def _fault(fault: ErrorDetails) -> str:
    path = [str(part) for part in fault["loc"]]
    key, value = ".".join(path), fault["input"]
    if fault["type"] == "extra_forbidden":
        return f"unknown key '{key}'{_suggestion(path)}"
    if not path:  # two keys that do not go together
        return str(fault["ctx"]["error"])
    if fault["type"] == "missing":
        return f"the key '{key}' is missing"
    wanted = fault["msg"][0].lower() + fault["msg"][1:]
    return f"{key} = {json.dumps(value, default=str)} cannot be used: {wanted}"


def _suggestion(path: list[str]) -> str:
    parent, key = path[:-1], path[-1]
    close = difflib.get_close_matches(key, _keys_under(parent), n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{'.'.join([*parent, close[0]])}'?"
    everywhere = {full.rsplit(".", 1)[-1]: full for full in _all_keys()}
    elsewhere = difflib.get_close_matches(key, everywhere, n=1, cutoff=0.8)
    if elsewhere:
        return f"; did you mean '{everywhere[elsewhere[0]]}'?"
    known = _keys_under(parent)
    return f"; {'.'.join(parent) or 'a recipe'} has the keys {', '.join(known)}" if known else ""


def _keys_under(parent: list[str]) -> list[str]:
    kind: Any = Recipe
    for part in parent:
        kind = _children(kind).get(part)
    return list(_children(kind))


def _children(kind: Any) -> dict[str, Any]:
    if kind is None:
        return {}
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: ModelConfig if name == "model" else field.annotation for name, field in kind.model_fields.items()}
    if kind is ModelConfig:
        return {f.name: RopeScaling if f.name == "rope_scaling" else None for f in dataclasses.fields(kind)}
    if kind is RopeScaling:
        return {f.name: None for f in dataclasses.fields(kind)}
    return {}


def _all_keys() -> list[str]:
    return [f"{section}.{key}" for section in _children(Recipe) for key in _keys_under([section])]
