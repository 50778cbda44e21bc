"""What an accelerator can do at most, from `hardware.toml`, and how to find it under the names that people write."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from fathom.errors import FathomError

# precision as people write it -> the key of `tflops`
PRECISIONS = {
    "fp32": "fp32", "float32": "fp32", "tf32": "tf32", "fp16": "fp16", "float16": "fp16", "half": "fp16",
    "bf16": "bf16", "bfloat16": "bf16", "mixed": "bf16", "amp": "bf16", "fp8": "fp8", "float8": "fp8",
    "e4m3": "fp8", "fp4": "fp4", "nvfp4": "fp4", "mxfp4": "fp4", "int8": "int8",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """One device as rented: a GPU, a TPU chip, a processor core. Rates are dense and without sparsity.

    Rates are decimal (10^9), `memory_gb` as the vendor counts it. `link_gb_per_second` is the scale-up link, both
    directions together as vendors state it; `network_gb_per_second` the usual scale-out network a device, one way.
    """

    name: str
    title: str
    vendor: str
    kind: str  # gpu, tpu, npu or cpu
    released: str  # year-month
    tflops: Mapping[str, float]  # by precision
    memory_gb: float
    memory_gb_per_second: float
    link_gb_per_second: float
    network_gb_per_second: float
    power_watts: float
    devices_per_node: int = 8
    aliases: tuple[str, ...] = ()
    note: str = ""
    source_title: str
    source_url: str
    seen: bool = True  # whether the source itself was read when the row was checked
    seen_in: str = ""  # what was read instead
    datacenter: bool = True  # whether it is made or marketed for datacenters
    bridge_gb_per_second: float = 0.0  # of a bridge that joins pairs, beside the link, both directions together
    die_mm2: float = 0.0  # logic dies of one device together; 0: not on file
    die_is_most: bool = False  # the source says no more than that the area is smaller
    die_source: str = ""

    def __post_init__(self) -> None:
        if type(self.seen) is not bool or (self.seen and self.seen_in):
            raise FathomError(f"accelerator '{self.name}': seen is true or false, and seen_in goes with seen = false")
        if bool(self.die_mm2) != bool(self.die_source):
            raise FathomError(f"accelerator '{self.name}': die_mm2 and die_source go together")

    @property
    def source(self) -> str:
        """The source as a reader must be told of it: with what was read instead where it was not at hand."""
        if self.seen:
            return self.source_title
        return f"{self.source_title}, not read; seen in: {self.seen_in or 'nothing, from memory'}"

    def peak_flops(self, precision: str = "bf16") -> float:
        """Peak dense operations per second at `precision`; the next wider one that the device has, where it lacks it.

        Training in bf16 on a device that has only fp16 units (V100) runs in fp16; there is no fp8 rate on an A100.
        """
        return self.tflops[self.runs_in(precision)] * 1e12

    def runs_in(self, precision: str) -> str:
        """The arithmetic that work asked for in `precision` runs in here: its own where there are units for it."""
        for name in _FALL_BACK[canonical_precision(precision)]:
            if name in self.tflops:
                return name
        raise FathomError(f"{self.title} has no rate on file for {precision}: known are {', '.join(self.tflops)}")


_FALL_BACK = {
    "fp4": ("fp4", "fp8", "bf16", "fp16", "fp32"), "fp8": ("fp8", "bf16", "fp16", "fp32"), "int8": ("int8", "fp8"),
    "bf16": ("bf16", "fp16", "fp32"), "fp16": ("fp16", "bf16", "fp32"), "tf32": ("tf32", "fp32"), "fp32": ("fp32",),
}  # fmt: skip


def canonical_precision(precision: str) -> str:
    """`bf16`, `fp8`, ... from what people write: "mixed (amp)", "pure bf16", "bfloat16"."""
    words = re.split(r"[^a-z0-9]+", precision.lower())
    for word in words:
        if word in PRECISIONS:
            return PRECISIONS[word]
    hint = did_you_mean(precision, PRECISIONS)
    known = f": known are {', '.join(sorted(set(PRECISIONS.values())))}"
    raise FathomError(f"precision '{precision}' is not known{hint or known}")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The three nearest of `known` as the end of a sentence; empty where none is near."""
    close = [f"'{name}'" for name in difflib.get_close_matches(word.lower(), list(known), n=3, cutoff=0.55)]
    if not close:
        return ""
    return f"; did you mean {' or '.join(filter(None, (', '.join(close[:-1]), close[-1])))}?"


@cache
def accelerators() -> dict[str, Accelerator]:
    """Every device on file by its name."""
    text = resources.files("fathom.cost").joinpath("hardware.toml").read_text(encoding="utf-8")
    rows = tomllib.loads(text)["accelerator"]
    return {row["name"]: Accelerator(**{**row, "aliases": tuple(row.get("aliases", ()))}) for row in rows}


def accelerator(name: str) -> Accelerator:
    """The device called `name`, by its name here, an alias, or a longer text that contains one ("NVIDIA H100 SXM5
    80GB (Blue Vela)"). Raises `FathomError` with the nearest names for an unknown one."""
    found = find(name)
    if found is None:
        raise FathomError(f"accelerator '{name}' is not on file; {_nearest(name)}")
    return found


def find(name: str) -> Accelerator | None:
    """As `accelerator`, with None for an unknown device."""
    if not isinstance(name, str) or not name.strip():
        return None
    wanted, table = _plain(name), _names()
    if wanted in table:
        return accelerators()[table[wanted]]
    closed = _closed_names().get(wanted.replace(" ", ""), set())
    if len(closed) == 1:
        return accelerators()[next(iter(closed))]
    inside = [alias for alias in table if len(alias) >= 2 and re.search(rf"\b{re.escape(alias)}\b", wanted)]
    return accelerators()[table[max(inside, key=len)]] if inside else None


def _nearest(name: str) -> str:
    close = difflib.get_close_matches(_plain(name), _names(), n=6, cutoff=0.7)  # one sign in four differs
    rows = list(dict.fromkeys(_names()[alias] for alias in close))[:3]
    return f"the nearest names are {', '.join(rows)}" if rows else f"known are {', '.join(accelerators())}"


@cache
def _names() -> dict[str, str]:
    return {_plain(alias): row.name for row in accelerators().values() for alias in (row.name, row.title, *row.aliases)}


@cache
def _closed_names() -> dict[str, set[str]]:
    """The devices by their names without blanks and other signs: "H 100", "h-100" and "h_100" are one device's."""
    found: dict[str, set[str]] = {}
    for alias, name in _names().items():
        found.setdefault(alias.replace(" ", ""), set()).add(name)
    return found


def _plain(name: str) -> str:
    """Lower case, every run of other signs one space."""
    return re.sub(r"[^a-z0-9]+", " ", name.lower()).strip()
