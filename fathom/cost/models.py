"""Architectures known by name, from `models.toml`."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from fathom.cost.architecture import Architecture
from fathom.cost.huggingface import architecture_from_config
from fathom.cost.parameters import parameters
from fathom.errors import FathomError


@dataclass(frozen=True, kw_only=True)
class KnownModel:
    """A published model: its shape and the totals that its maker states."""

    name: str
    title: str
    config: dict[str, Any]
    published_total: float
    published_active: float = 0.0  # 0: dense, or not stated
    other_parameters: float = 0.0  # of the published total, outside the text decoder
    active_counts: str = "all"  # or "without embedding"
    total_counts: str = "all"
    total_rounded_down: bool = False
    active_rounded_down: bool = False
    training_precision: str = ""  # of the published run; empty: not published
    training_precision_source: str = ""
    cache_bits: Mapping[str, float] = field(default_factory=dict)  # value, rope, index: as its maker keeps the cache
    aliases: tuple[str, ...] = ()
    source_title: str
    source_url: str

    @property
    def architecture(self) -> Architecture:
        return architecture_from_config(self.config)


@cache
def known_models() -> dict[str, KnownModel]:
    text = resources.files("fathom.cost").joinpath("models.toml").read_text(encoding="utf-8")
    rows = tomllib.loads(text)["model"]
    return {row["name"]: KnownModel(**{**row, "aliases": tuple(row.get("aliases", ()))}) for row in rows}


def known_model(name: str) -> KnownModel:
    """The model called `name` or by an alias; `FathomError` with the nearest names for an unknown one."""
    names = {_plain(alias): row for row in known_models().values() for alias in (row.name, *row.aliases)}
    if _plain(name) in names:
        return names[_plain(name)]
    close = difflib.get_close_matches(_plain(name), names, n=3, cutoff=0.5)
    nearest = ", ".join(dict.fromkeys(names[alias].name for alias in close))
    hint = f"the nearest names are {nearest}" if close else f"known are {', '.join(known_models())}"
    raise FathomError(f"model '{name}' is not on file; {hint}; or give total_parameters and active_parameters")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


@dataclass(frozen=True)
class Deviation:
    """A counted figure beside the published one; `allowed` is what the digits that the maker prints leave open."""

    counted: float
    published: float
    cut_off: bool  # the maker cuts off further digits instead of rounding them

    @property
    def relative(self) -> float:
        return self.counted / self.published - 1

    @property
    def last_digit(self) -> float:
        """One unit of the last digit printed: 1e11 of 1.6T, 1e9 of 109B."""
        digits = printed(self.published)[:-1]
        unit = {"T": 1e12, "B": 1e9, "M": 1e6}[printed(self.published)[-1]]
        return unit / 10 ** len(digits.partition(".")[2])

    @property
    def within(self) -> bool:
        """Within 0.5%, or no further off than rounding (or, where so marked, cutting off) to the printed digits."""
        off = self.counted - self.published
        if abs(off) <= 0.005 * self.published:
            return True
        return 0 <= off < self.last_digit if self.cut_off else abs(off) <= self.last_digit / 2


def deviations(model: KnownModel) -> dict[str, Deviation]:
    """`total` and, of a mixture whose maker states it, `active`, each by the maker's own convention of counting."""
    count = parameters(model.architecture)
    total = count.total if model.total_counts == "all" else count.total - count.embedding
    found = {"total": Deviation(total + model.other_parameters, model.published_total, model.total_rounded_down)}
    if model.published_active:
        active = count.active if model.active_counts == "all" else count.active_without_embedding
        found["active"] = Deviation(active, model.published_active, model.active_rounded_down)
    return found


def printed(figure: float) -> str:
    """As makers print it: 671B, 1.6T, 124.44M."""
    for limit, letter in ((1e12, "T"), (1e9, "B")):
        if figure >= limit:
            return f"{figure / limit:.10g}{letter}"
    return f"{figure / 1e6:.10g}M"
