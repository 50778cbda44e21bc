"""The docket: claim files that ship with Fathom, found by name, and anybody's own file in the same form."""

from __future__ import annotations

import difflib
import tomllib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from fathom.cost.claim import Claim
from fathom.cost.claim_file import parse_claim
from fathom.errors import FathomError

NOT_CLAIMS = {"omissions.toml"}  # what every price leaves out, for all claims alike


@cache
def names() -> tuple[str, ...]:
    """Every claim on file, in order of name."""
    folder = resources.files(__name__)
    return tuple(
        sorted(
            entry.name.removesuffix(".toml")
            for entry in folder.iterdir()
            if entry.name.endswith(".toml") and entry.name not in NOT_CLAIMS
        )
    )


@cache
def on_file(name: str) -> Claim:
    """The claim called `name`."""
    claim = parse_claim(read_toml(_text(name), f"{name}.toml"), f"{name}.toml")
    if claim.id != name:
        raise FathomError(f"{name}.toml: id = '{claim.id}' must be the file's name, '{name}'")
    return claim


@cache
def all_on_file() -> tuple[Claim, ...]:
    return tuple(on_file(name) for name in names())


@cache
def flagged(flag: str) -> tuple[Claim, ...]:
    """The claims with `flag`. Files without the word are not parsed, so that one claim is tried in half the time."""
    claims = (on_file(name) for name in names() if f'"{flag}"' in _text(name))
    return tuple(claim for claim in claims if flag in claim.flags)


def _text(name: str) -> str:
    return resources.files(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8")


def open_claim(name_or_file: str) -> Claim:
    """A claim on file, or the one in a TOML file. Raises `FathomError` with the nearest names otherwise."""
    if name_or_file in names():
        return on_file(name_or_file)
    path = Path(name_or_file)
    if path.suffix == ".toml" or path.exists():
        return parse_claim(read_toml(_read(path), str(path)), str(path))
    close = difflib.get_close_matches(name_or_file.lower(), names(), n=3, cutoff=0.4)
    close += [n for n in names() if name_or_file.lower() in n and n not in close][:3]
    hint = f"the nearest are {', '.join(close)}" if close else "list them with: fathom claim --list"
    raise FathomError(f"no claim '{name_or_file}' is on file, nor is there such a file; {hint}")


def read_toml(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FathomError(f"{where} is not TOML that can be read: {error}") from None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise FathomError(f"{path} is not a text file in UTF-8") from None
    except OSError as error:
        raise FathomError(f"{path} cannot be read: {error.strerror}") from None
