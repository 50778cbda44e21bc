"""Whether a run can be held by the devices it is planned on, before anything of it is priced."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from fathom.cost.efficiency import typical_count
from fathom.cost.flops import training_flops
from fathom.cost.layouts import (
    GRADIENT_BYTES,
    MASTER_BYTES,
    STATE_BYTES,
    USABLE_SHARE,
    WEIGHT_BYTES,
    Placed,
    ranked,
)
from fathom.cost.run import Run

# Numbers a parameter that the optimizer keeps (`memory.optimizer_values`, without a shape's embedding and norms).
OPTIMIZER_VALUES = {"adamw": 2, "muon": 1, "sgd": 0}
MOST_DOUBLINGS = 20


@dataclass(frozen=True)
class Holding:
    """The run with the devices it is priced on, the layouts that fit (None: shape unknown), and why it cannot run."""

    run: Run
    count: int
    layouts: list[Placed] | None
    why_not: str = ""
    least_devices: int = 0  # 0: the devices planned suffice, or no number does
    note: str = ""


def holding(run: Run, batch_tokens: float, optimizer: str) -> Holding:
    """Lay `run` out; where the plan leaves the number of devices open, on as many as hold it at least."""
    count = max(1, round(run.count or typical_count(run)))
    if run.architecture is None:
        return _by_size(run, count, optimizer)
    if not run.count:
        count = 2 ** (count.bit_length() - 1)
    found = layouts(run, count, batch_tokens, optimizer)
    if found:
        return Holding(run, round(run.count or typical_count(run)), found)
    roomy = layouts(run, count, max(batch_tokens, float(count * run.length)), optimizer)
    if roomy:
        note = f"batch_tokens = {batch_tokens:g} is too little for {count} devices: laid out with one sequence each"
        return Holding(run, count, roomy, note=note)
    least, held = _least(run, count, optimizer)
    if not run.count and held:
        note = f"the number of devices is the least that holds the model ({least}), more than such runs use"
        return Holding(replace(run, count=float(least)), least, held, note=note)
    return Holding(run, count, [], _why(run, count, least), least)


def layouts(run: Run, count: int, batch_tokens: float, optimizer: str) -> list[Placed]:
    """Layouts of a run of known shape on `count` devices that fit, the best first."""
    assert run.architecture is not None
    step = training_flops(run.architecture, batch_tokens, run.length).total
    return ranked(run.architecture, run.device, count, run.length, batch_tokens, step, optimizer)


def _least(run: Run, count: int, optimizer: str) -> tuple[int, list[Placed]]:
    """The first doubling of `count` that holds the run, with its layouts; (0, []) where none does."""
    start = 2 ** max(0, count.bit_length() - 1)
    for doubling in range(1, MOST_DOUBLINGS):
        more = start * 2**doubling
        held = layouts(run, more, float(more * run.length), optimizer)
        if held:
            return more, held
    return 0, []


def _by_size(run: Run, count: int, optimizer: str) -> Holding:
    """Of a size alone: what every layout keeps of each parameter, sharded, must fit on all devices together."""
    room = USABLE_SHARE * run.device.memory_gb * 1e9
    state = STATE_BYTES * OPTIMIZER_VALUES[optimizer]
    least = max(1, ceil(run.total * (WEIGHT_BYTES + GRADIENT_BYTES + MASTER_BYTES + state) / room))
    if least <= count:
        return Holding(run, count, None)
    if not run.count:
        note = f"the number of devices is the least that holds the training state ({least}), more than such runs use"
        return Holding(replace(run, count=float(least)), least, None, note=note)
    return Holding(run, count, None, _why(run, count, least), least)


def _why(run: Run, count: int, least: int) -> str:
    memory = f"{count} x {run.device.title} with {run.device.memory_gb:g} GB each cannot hold this model's training"
    return f"{memory}; it takes at least {least} of them" if least else f"{memory}, nor can any number of them"
