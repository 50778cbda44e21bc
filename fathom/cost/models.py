"""Architectures known by name, from `models.toml`."""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from fathom.cost.architecture import Architecture
from fathom.cost.huggingface import architecture_from_config
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
