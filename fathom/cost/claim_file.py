"""From the tables of a claim file to a `Claim`, with one clear sentence for everything that can be wrong in it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any, TypeVar

from fathom.cost import expression
from fathom.cost.checks import positive
from fathom.cost.claim import KINDS, Check, Claim, Figure, Omission, Result, Source, Stage
from fathom.cost.figures import KNOWN, TEXT, check_number, check_together
from fathom.cost.hardware import accelerator as find_accelerator
from fathom.cost.hardware import canonical_precision
from fathom.cost.models import known_model
from fathom.errors import FathomError

accelerator = cache(find_accelerator)  # a hundred claims name a dozen devices

_TOP = {"id", "title", "kind", "subject", "family", "made_by", "date", "statement"}
_OPTIONAL = {
    "source", "figures", "stage", "check", "result", "omission", "model", "flags", "context", "stands_on",
    "compares_with",
}  # fmt: skip
_FIGURE = {"value", "source", "where", "basis", "seen", "seen_in", "derivation", "note", "unit"}

Row = TypeVar("Row", Check, Result)


def parse_claim(table: Mapping[str, Any], path: str) -> Claim:
    """The claim in `table`. `path` names the file in messages. Raises `FathomError`."""
    where = f"{path}: "
    _known_keys(table, _TOP | _OPTIONAL, where)
    _required(table, _TOP, where)
    if table["kind"] not in KINDS:
        raise FathomError(f"{where}kind = {table['kind']!r} is not known: it must be one of {', '.join(KINDS)}")
    _check_names(table, where)
    sources = parse_sources(table.get("source", []), where)
    figures = _figures(table.get("figures", {}), sources, where)
    stages = tuple(_stage(row, sources, where) for row in _rows(table, "stage", where))
    claim = Claim(
        **{key: _text(table, key, where) for key in _TOP},  # type: ignore[arg-type]  # kind is checked above
        sources=sources,
        figures=figures,
        stages=stages,
        checks=tuple(_row(Check, row, "check", where) for row in _rows(table, "check", where)),
        results=tuple(_row(Result, row, "result", where) for row in _rows(table, "result", where)),
        omissions=tuple(parse_omission(row, sources, where) for row in _rows(table, "omission", where)),
        model=_model(table, where),
        flags=_words(table, "flags", where),
        context=str(table.get("context", "")).strip(),
        stands_on=str(table.get("stands_on", "")).strip(),
        compares_with=_words(table, "compares_with", where),
        path=path,
    )
    _check_expressions(claim, where)
    return claim


def _check_names(table: Mapping[str, Any], where: str) -> None:
    """The id names files and links; the date may be a year, a month or a day."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,63}", str(table["id"])):
        raise FathomError(f"{where}id = {table['id']!r} may hold small letters, digits, dots and hyphens only")
    if not re.fullmatch(r"(19|20)\d\d(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?", str(table["date"])):
        raise FathomError(
            f'{where}date = {table["date"]!s} must be a year, year-month or day of 1900 to 2099, such as "2024-12-27"'
        )


def _model(table: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """`[model]`: a name on file, or depth and width for the count of attention."""
    model = _table(table, "model", where)
    _known_keys(model, {"name", "layers", "hidden_size"}, f"{where}model: ")
    if "name" in model:
        try:
            known_model(str(model["name"]))
        except FathomError as error:
            raise FathomError(f"{where}{error}") from None
    for key in ("layers", "hidden_size"):
        if key in model:
            positive(f"{where}model.{key}", model[key])
    return model


def parse_omission(row: Mapping[str, Any], sources: Mapping[str, Source], where: str) -> Omission:
    """One `[[omission]]`: a range in dollars or in multiples of the run, with its source."""
    here = f"{where}omission '{row.get('name', '?')}': "
    _known_keys(row, {f.name for f in fields(Omission)}, here)
    _required(row, {"name", "says", "low", "high", "per", "source", "where"}, here)
    _one_of(row, "per", ("usd", "run"), here)
    low, high = (float(positive(f"{here}{end}", row[end], zero=True)) for end in ("low", "high"))
    if low > high:
        raise FathomError(f"{here}low = {low:g} must not exceed high = {high:g}")
    rest = {key: row[key] for key in ("name", "says", "per", "where", "adds", "seen", "seen_in") if key in row}
    return Omission(**rest, low=low, high=high, source=_source_of(row, sources, here))


def parse_sources(rows: Any, where: str) -> dict[str, Source]:
    """The `[[source]]` tables by id."""
    if not isinstance(rows, list) or not rows:
        raise FathomError(f"{where}a claim needs at least one [[source]] with id, title and url")
    found: dict[str, Source] = {}
    for row in _tables(rows, "source", where):
        here = f"{where}source '{row.get('id', '?')}': "
        _known_keys(row, {"id", "title", "url", "primary", "note"}, here)
        _required(row, {"id", "title", "url"}, here)
        if not str(row["url"]).startswith(("https://", "http://")):
            raise FathomError(f"{here}url = {row['url']!r} must be a link that begins with https://")
        if row["id"] in found:
            raise FathomError(f"{here}the id is given twice")
        found[row["id"]] = Source(**row)
    return found


def _figures(table: Any, sources: Mapping[str, Source], where: str) -> dict[str, Figure]:
    if not isinstance(table, Mapping):
        raise FathomError(f"{where}[figures] must be a table of figures, each with value, source and where")
    found = {name: _figure(name, row, sources, where) for name, row in table.items()}
    check_together({n: f.value for n, f in found.items() if isinstance(f.value, float)}, f"{where}figures.")
    return found


def _figure(name: str, row: Any, sources: Mapping[str, Source], where: str) -> Figure:
    here = f"{where}figures.{name}"
    if not isinstance(row, Mapping):
        raise FathomError(f"{here} = {row!r} lacks its source: write {{ value = ..., source = ..., where = ... }}")
    if not isinstance(row.get("seen", True), bool):
        raise FathomError(f"{here}.seen = {row['seen']!r} must be true or false")
    _known_keys(row, _FIGURE, f"{here}: ")
    _required(row, {"value", "source", "where"}, f"{here}: ")
    _text(row, "where", f"{here}.")
    basis = row.get("basis", "stated")
    if basis not in ("stated", "derived", "assumed"):
        raise FathomError(f"{here}.basis = {basis!r} must be 'stated', 'derived' or 'assumed'")
    if basis != "stated" and not row.get("derivation"):
        raise FathomError(f"{here} is {basis}: its 'derivation' must say how")
    if name not in KNOWN and name not in TEXT and not row.get("unit"):
        close = difflib.get_close_matches(name, [*KNOWN, *TEXT], n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise FathomError(f"{here} is not a figure with a known unit: {hint}give its 'unit' to use it in checks")
    read = _text_value if name in TEXT else check_number
    value = read(name, row["value"], f"{where}figures.")
    rest = {key: row[key] for key in _FIGURE - {"value", "source", "basis"} if key in row}
    return Figure(name=name, value=value, basis=basis, source=_source_of(row, sources, f"{here}: "), **rest)


def _text_value(name: str, value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise FathomError(f"{where}{name} = {value!r} must be text")
    try:
        (accelerator if name == "accelerator" else canonical_precision)(value)
    except FathomError as error:  # which names the nearest
        raise FathomError(f"{where}{name}: {error}") from None
    return value


def _stage(row: Mapping[str, Any], sources: Mapping[str, Source], where: str) -> Stage:
    here = f"{where}stage '{row.get('name', '?')}': "
    _known_keys(row, {"name", "figures"}, here)
    _required(row, {"name", "figures"}, here)
    return Stage(name=row["name"], figures=_figures(row["figures"], sources, here))


def _row(kind: type[Row], row: Mapping[str, Any], name: str, where: str) -> Row:
    here = f"{where}{name} '{row.get('title', '?')}': "
    _known_keys(row, {f.name for f in fields(kind)}, here)
    _required(row, {f.name for f in fields(kind)} - {"unit", "says", "relation", "bears"}, here)
    if kind is Check:
        _required(row, {"says"}, here)
        positive(f"{here}tolerance", row["tolerance"], zero=True)
        _one_of(row, "bears", (True, False), here)
        _one_of(row, "relation", ("equals", "at most", "at least"), here)
    return kind(**row)


def _check_expressions(claim: Claim, where: str) -> None:
    """Expressions must be arithmetic. A figure that one lacks is no error: the trial names it."""
    for check in claim.checks:
        expression.names(check.expression)
        expression.names(check.equals)
    for result in claim.results:
        expression.names(result.expression)


def _one_of(row: Mapping[str, Any], key: str, right: tuple[Any, ...], here: str) -> None:
    if row.get(key, right[0]) not in right:
        raise FathomError(f"{here}{key} = {row[key]!r} must be one of {', '.join(map(str, right))}")


def _source_of(row: Mapping[str, Any], sources: Mapping[str, Source], here: str) -> Source:
    if row["source"] not in sources:
        raise FathomError(f"{here}source = {row['source']!r} is not among the claim's sources ({', '.join(sources)})")
    return sources[row["source"]]


def _rows(table: Mapping[str, Any], name: str, where: str) -> list[Mapping[str, Any]]:
    return _tables(table.get(name, []), name, where)


def _tables(rows: Any, name: str, where: str) -> list[Mapping[str, Any]]:
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise FathomError(f"{where}{name} must be written as [[{name}]]")
    return rows


def _table(table: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    value = table.get(name, {})
    if not isinstance(value, Mapping):
        raise FathomError(f"{where}{name} must be a table, written as [{name}]")
    return value


def _words(table: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    value = table.get(name, [])
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise FathomError(f"{where}{name} = {value!r} must be a list of words")
    return tuple(value)


def _text(table: Mapping[str, Any], key: str, where: str) -> str:
    if not isinstance(table[key], str) or not table[key].strip():
        raise FathomError(f"{where}{key} = {table[key]!r} must be text")
    return table[key].strip()


def _required(table: Mapping[str, Any], keys: set[str], where: str) -> None:
    for key in sorted(keys):
        if key not in table:
            raise FathomError(f"{where}'{key}' is missing")


def _known_keys(table: Mapping[str, Any], keys: set[str], where: str) -> None:
    for key in table:
        if key not in keys:
            close = difflib.get_close_matches(key, keys, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"known are {', '.join(sorted(keys))}"
            raise FathomError(f"{where}the key '{key}' is not known; {hint}")
