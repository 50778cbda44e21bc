"""A plan as a TOML file: `[model]`, `[training]`, `[cluster]` and, if it shall be served, `[serving]`.

Only the model (a known name, or its sizes), the tokens and the accelerator must be given. Every value is checked, and a
slip of units is questioned rather than computed with.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from fathom.cost.architecture import Architecture
from fathom.cost.checks import positive
from fathom.cost.hardware import Accelerator, accelerator, canonical_precision
from fathom.cost.huggingface import architecture_from_config
from fathom.cost.models import KnownModel, known_model
from fathom.cost.parameters import parameters
from fathom.cost.questions import question_batch, question_run, question_shape
from fathom.cost.run import Run
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
        "accelerator",
        "devices",
        "prompt_tokens",
        "output_tokens",
        "context",
        "precision",
        "tokens_per_second",
    },
}
# Below these a figure is a slip of the unit; the smallest models trained on a laptop lie above.
LEAST = {
    "total_parameters": (1e4, "write billions out: 671e9, not 671"),
    "active_parameters": (1e4, "write billions out: 37e9, not 37"),
    "tokens": (1e4, "write trillions out: 14.8e12, not 14.8"),
    "sequence_length": (8, "write thousands out: 4096, not 4"),
    "context": (8, "write thousands out: 4096, not 4"),
}
MOST = {
    "total_parameters": 1e14, "active_parameters": 1e14, "tokens": 1e16, "sequence_length": 1e8, "count": 1e8,
    "layers": 2000, "hidden_size": 3e5,
}  # fmt: skip
WHOLE = {"layers", "hidden_size", "sequence_length", "count", "context", "prompt_tokens", "output_tokens"}


@dataclass(frozen=True)
class Plan:
    """What was asked for: the run, and the settings that only the plan's details need."""

    run: Run
    batch_tokens: float = 0.0
    optimizer: str = "adamw"
    date: str | None = None
    serving: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    cache_bits: Mapping[str, float] = field(default_factory=dict)  # as the known model's maker keeps the cache


def read_plan(path: str | Path) -> Plan:
    """The plan in the TOML file at `path`. Raises `FathomError` for anything that cannot be meant."""
    return plan_from(read_tables(path))


def read_tables(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file, unchecked."""
    try:
        return tomllib.loads(Path(path).read_bytes().decode("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise FathomError(f"there is no plan file '{path}'; give a TOML file, or --model, --tokens, ...") from None
    except IsADirectoryError:
        raise FathomError(f"'{path}' is a folder: give a TOML file") from None
    except UnicodeDecodeError as error:
        raise FathomError(f"{path} is not a text file: byte {error.start} is no UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise FathomError(f"{path} is not valid TOML: {error}") from None


def plan_from(tables: Mapping[str, Any]) -> Plan:
    """The plan in tables already read (the command line builds them from its options)."""
    notes: list[str] = []
    model, training, cluster, serving = (_table(tables, name, notes) for name in KEYS)
    for name in sorted(set(tables) - set(KEYS)):
        _unknown(name, set(KEYS), "the plan", notes)
    shape = _shape(model, notes)
    device = accelerator(_required_text(cluster, "cluster", "accelerator"))
    run = Run(
        name=str(model.get("name", "")),
        **shape,
        tokens=_required(training, "training", "tokens"),
        sequence_length=int(_number(training, "training", "sequence_length")),
        precision=training_precision(model, training, device, notes),
        device=device,
        count=_number(cluster, "cluster", "count"),
    )
    question_run(run)
    for key in set(serving) & {"devices", "prompt_tokens", "output_tokens", "context", "tokens_per_second"}:
        _number(serving, "serving", key)
    batch = _number(training, "training", "batch_tokens")
    question_batch(batch, run)
    date, optimizer = training.get("date"), _text(training, "training", "optimizer", "adamw").lower()
    if optimizer not in ("adamw", "muon", "sgd"):
        raise FathomError(f"training.optimizer = {optimizer!r} is not known: it must be 'adamw', 'muon' or 'sgd'")
    known = _known(model)
    cache_bits = known.cache_bits if known and run.architecture else {}
    return Plan(run, batch, optimizer, str(date) if date else None, serving, tuple(notes), cache_bits)


def _table(tables: Mapping[str, Any], name: str, notes: list[str]) -> dict[str, Any]:
    table = tables.get(name, {})
    if not isinstance(table, Mapping):
        raise FathomError(f"'{name}' must be a table, written as [{name}]")
    found: dict[str, Any] = {}
    for key, value in table.items():
        known = key if key in KEYS[name] else ALIASES.get(key, key)
        if known not in KEYS[name]:
            _unknown(key, KEYS[name], f"[{name}]", notes)
        found[str(known)] = value
    return found


def _unknown(key: str, known: set[str], where: str, notes: list[str]) -> None:
    """A misspelt key stops; a key of something else is said to have no part in the answer."""
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    if close:
        raise FathomError(f"the key '{key}' in {where} is not known; did you mean '{close[0]}'?")
    notes.append(f"'{key}' in {where} has no part in the answer")


def _shape(model: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """What `Run` needs to know of the model, from a name, a published config, a full shape, or sizes."""
    total, active = (_number(model, "model", key) for key in ("total_parameters", "active_parameters"))
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
    layers, width = (int(_number(model, "model", key)) for key in ("layers", "hidden_size"))
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


def training_precision(
    model: Mapping[str, Any], training: Mapping[str, Any], device: Accelerator, notes: list[str]
) -> str:
    """The arithmetic of the run: as asked for, else as the known model was trained, else bf16; as the device has it.

    What is not simply what was asked for is said in `notes`.
    """
    asked = _text(training, "training", "precision", "")
    known = _known(model)
    wanted = asked or (known.training_precision if known else "") or "bf16"
    if known and known.training_precision and not asked:
        notes.append(
            f"precision is not given: {wanted}, as {known.title} was trained: {known.training_precision_source}"
        )
    if canonical_precision(wanted) in ("int8", "int4"):
        raise FathomError(f"training.precision = '{wanted}' cannot be: training needs floating point, as bf16 or fp8")
    used = device.runs_in(wanted)
    if used != canonical_precision(wanted):
        units = ", ".join(device.tflops)
        notes.append(
            f"{device.title} has no {canonical_precision(wanted)} units (it has {units}): taken to run in {used}"
        )
        return used
    return wanted


def _known(model: Mapping[str, Any]) -> KnownModel | None:
    try:
        return known_model(str(model["name"])) if "name" in model else None
    except FathomError:
        return None


def _check_stated(architecture: Architecture, total: float, active: float) -> None:
    """A stated size must be that of the shape; half as much again or more is another model."""
    count = parameters(architecture)
    for name, stated, counted in (("total", total, count.total), ("active", active, count.active)):
        if stated and not 0.5 < stated / counted < 1.5:
            raise FathomError(
                f"model.{name}_parameters = {stated:g} is questioned: the named shape has {counted:g}; drop one of them"
            )


def _check_shape(architecture: Architecture, model: Mapping[str, Any]) -> None:
    """Layers and width beside a named shape or a published config must be those of it."""
    for key, known in (("layers", architecture.num_layers), ("hidden_size", architecture.hidden_size)):
        stated = int(_number(model, "model", key))
        if stated and stated != known:
            raise FathomError(f"model.{key} = {stated} is questioned: the named shape has {known}; drop one of them")


def _required(table: Mapping[str, Any], where: str, key: str) -> float:
    if key not in table:
        raise FathomError(f"[{where}] lacks '{key}': add it, as {key} = 14.8e12")
    return _number(table, where, key)


def _number(table: Mapping[str, Any], where: str, key: str) -> float:
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


def _text(table: Mapping[str, Any], where: str, key: str, default: str) -> str:
    value = table.get(key, default)
    if not isinstance(value, str):
        raise FathomError(f"{where}.{key} = {value!r} must be text in quotes")
    return value


def _required_text(table: Mapping[str, Any], where: str, key: str) -> str:
    if key not in table:
        raise FathomError(f"[{where}] lacks '{key}': add it, as {key} = \"h100\"")
    return _text(table, where, key, "")
