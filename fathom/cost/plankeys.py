"""The tables and keys of a plan file, and how a value under a key is read: checked, its unit's slips questioned."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from fathom.cost.checks import positive
from fathom.errors import FathomError
from fathom.model.config import ModelConfig

ALIASES = {
    "num_layers": "layers", "n_layers": "layers", "num_hidden_layers": "layers", "d_model": "hidden_size",
    "dim": "hidden_size", "n_params": "total_parameters", "parameters": "total_parameters",
    "num_heads": "num_heads", "num_attention_heads": "num_heads", "seq_length": "sequence_length",
    "context_length": "sequence_length", "dtype": "precision", "devices": "count", "num_devices": "count",
    "gpus": "count", "num_gpus": "count", "accelerators": "count", "gpu": "accelerator", "device": "accelerator",
}  # fmt: skip
SHAPE = {f.name for f in fields(ModelConfig)} - {"num_layers", "rope_scaling"}
KEYS = {
    "model": {"name", "total_parameters", "active_parameters", "layers", "hidden_size", "config"} | SHAPE,
    "training": {"tokens", "sequence_length", "precision", "batch_tokens", "optimizer", "date"},
    "cluster": {"accelerator", "count"},
    "serving": {
        "accelerator", "devices", "prompt_tokens", "output_tokens", "context", "precision", "tokens_per_second",
    },
}  # fmt: skip
SERVING_NUMBERS = KEYS["serving"] - {"accelerator", "precision"}
# Below these a figure is a slip of the unit; the smallest models trained on a laptop lie above.
LEAST = {
    "total_parameters": (1e4, "write billions out: 671e9, not 671"),
    "active_parameters": (1e4, "write billions out: 37e9, not 37"),
    "tokens": (1e4, "write trillions out: 14.8e12, not 14.8"),
    "sequence_length": (8, "write thousands out: 4096, not 4"),
    "context": (8, "write thousands out: 4096, not 4"),
}
MOST = {
    "total_parameters": 1e14, "active_parameters": 1e14, "tokens": 1e16, "sequence_length": 1e8, "count": 1e7,
    "layers": 2000, "hidden_size": 3e5, "devices": 1e7, "tokens_per_second": 1e10,
}  # fmt: skip
WHOLE = {
    "layers", "hidden_size", "sequence_length", "count", "devices", "context", "prompt_tokens", "output_tokens",
}  # fmt: skip


def table_of(tables: Mapping[str, Any], name: str, notes: list[str]) -> dict[str, Any]:
    """The table `name`, empty where it is not given, its keys by the names used here."""
    table = tables.get(name, {})
    if not isinstance(table, Mapping):
        raise FathomError(f"'{name}' must be a table, written as [{name}]")
    found: dict[str, Any] = {}
    for key, value in table.items():
        known = key if key in KEYS[name] else ALIASES.get(key, key)
        known = "devices" if known == "count" and "devices" in KEYS[name] else known
        if known not in KEYS[name]:
            unknown(key, KEYS[name], f"[{name}]", notes)
        found[str(known)] = value
    return found


def unknown(key: str, known: set[str], where: str, notes: list[str]) -> None:
    """A key that is not known stops, lest a price or a number be thought to count. A whole table of something else,
    and a detail of a model beyond its sizes, is said to have no part in the answer unless it is a slip of the pen."""
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    if close:
        raise FathomError(f"the key '{key}' in {where} is not known; did you mean '{close[0]}'?")
    if where not in ("the plan", "[model]"):
        raise FathomError(f"the key '{key}' in {where} is not known; its keys are {', '.join(sorted(known))}")
    notes.append(f"'{key}' in {where} has no part in the answer")


def required_tokens(training: Mapping[str, Any]) -> float:
    if "tokens" not in training:
        raise FathomError(
            "[training] lacks 'tokens': add it, as tokens = 14.8e12; or plan a service alone by [serving]"
        )
    return number(training, "training", "tokens")


def number(table: Mapping[str, Any], where: str, key: str) -> float:
    """The figure, 0.0 where it is not given."""
    if key not in table:
        return 0.0
    value = float(positive(f"{where}.{key}", table[key]))
    least, hint = LEAST.get(key, (0.0, ""))
    if value < least:
        raise FathomError(f"{where}.{key} = {value:g} is questioned: it is far too little; {hint}")
    if value > MOST.get(key, float("inf")):
        raise FathomError(f"{where}.{key} = {value:g} is questioned: it is more than ever was; a factor too many?")
    if key in WHOLE and value != int(value):
        raise FathomError(f"{where}.{key} = {value:g} cannot be: it must be a whole number")
    return value


def text(table: Mapping[str, Any], where: str, key: str, default: str) -> str:
    value = table.get(key, default)
    if not isinstance(value, str):
        raise FathomError(f"{where}.{key} = {value!r} must be text in quotes")
    return value


def required_text(table: Mapping[str, Any], where: str, key: str) -> str:
    if key not in table:
        raise FathomError(f"[{where}] lacks '{key}': add it, as {key} = \"h100\"")
    return text(table, where, key, "")
