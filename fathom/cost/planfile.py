"""A plan as a TOML file: `[model]`, `[training]`, `[cluster]` and, if it shall be served, `[serving]`.

Only the model (a known name, or its sizes), the tokens and the accelerator must be given; of a service alone, without
`[training]`, the model and the accelerator. Every value is checked, and a slip of units is questioned rather than
computed with.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fathom.cost.architecture import Architecture
from fathom.cost.hardware import Accelerator, accelerator, canonical_precision
from fathom.cost.parameters import parameters
from fathom.cost.plankeys import KEYS, SERVING_NUMBERS, number, required_text, required_tokens, table_of, text, unknown
from fathom.cost.planmodel import known_in, shape_of
from fathom.cost.questions import question_batch, question_run
from fathom.cost.run import Run
from fathom.cost.serving import Serving
from fathom.errors import FathomError


@dataclass(frozen=True)
class Plan:
    """What was asked for: the model, its training (None: a service alone), its serving (None: shape not known)."""

    model: dict[str, Any]
    run: Run | None = None
    serving: Serving | None = None
    batch_tokens: float = 0.0
    optimizer: str = "adamw"
    date: str | None = None
    notes: tuple[str, ...] = ()


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
    model, training, cluster, serving = (table_of(tables, name, notes) for name in KEYS)
    for name in sorted(set(tables) - set(KEYS)):
        unknown(name, set(KEYS), "the plan", notes)
    shape = shape_of(model, notes)
    asked, date = _serving(model, shape, training, cluster, serving), _date(training)
    if serving and not set(training) - {"date"}:
        if asked is None:
            raise FathomError("a service is planned from the model's shape: give a known 'name', or a published config")
        return Plan(_model(model, asked.architecture), None, asked, date=date, notes=tuple(notes))
    run = _run(model, shape, training, cluster, notes)
    batch = number(training, "training", "batch_tokens")
    question_batch(batch, run)
    optimizer = text(training, "training", "optimizer", "adamw").lower()
    if optimizer not in ("adamw", "muon", "sgd"):
        raise FathomError(f"training.optimizer = {optimizer!r} is not known: it must be 'adamw', 'muon' or 'sgd'")
    return Plan(_model(model, run), run, asked, batch, optimizer, date, tuple(notes))


def _run(
    model: Mapping[str, Any], shape: dict[str, Any], training: Mapping[str, Any], cluster: Mapping[str, Any],
    notes: list[str],
) -> Run:  # fmt: skip
    device = accelerator(required_text(cluster, "cluster", "accelerator"))
    run = Run(
        name=str(model.get("name", "")),
        **shape,
        tokens=required_tokens(training),
        sequence_length=int(number(training, "training", "sequence_length")),
        precision=training_precision(model, training, device, notes),
        device=device,
        count=number(cluster, "cluster", "count"),
    )
    question_run(run)
    return run


def _serving(
    model: Mapping[str, Any], shape: dict[str, Any], training: Mapping[str, Any], cluster: Mapping[str, Any],
    serving: Mapping[str, Any],
) -> Serving | None:  # fmt: skip
    """On the accelerator of `[serving]`, else of `[cluster]`; the cluster's devices serve where nothing is trained."""
    numbers = {key: number(serving, "serving", key) for key in SERVING_NUMBERS & set(serving)}
    if "architecture" not in shape:
        return None
    if "count" in cluster and not training:
        numbers.setdefault("devices", number(cluster, "cluster", "count"))
    where = "serving" if "accelerator" in serving else "cluster"
    known = known_in(model)
    return Serving(
        architecture=shape["architecture"],
        device=accelerator(required_text(serving if where == "serving" else cluster, where, "accelerator")),
        asked={**serving, **numbers},
        date=_date(training),
        cache_bits=known.cache_bits if known else {},
    )


def _date(training: Mapping[str, Any]) -> str | None:
    return str(training["date"]) if training.get("date") else None


def _model(model: Mapping[str, Any], planned: Run | Architecture) -> dict[str, Any]:
    """The model as the answer names it."""
    count = planned if isinstance(planned, Run) else parameters(planned)
    shape_known = not isinstance(planned, Run) or planned.architecture is not None
    sizes = {"total_parameters": count.total, "active_parameters": count.active}
    return {"name": str(model["name"]) if model.get("name") else None, **sizes, "shape_known": shape_known}


def training_precision(
    model: Mapping[str, Any], training: Mapping[str, Any], device: Accelerator, notes: list[str]
) -> str:
    """The arithmetic of the run: as asked for, else as the known model was trained, else bf16; as the device has it.

    What is not simply what was asked for is said in `notes`.
    """
    asked = text(training, "training", "precision", "")
    known = known_in(model)
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
