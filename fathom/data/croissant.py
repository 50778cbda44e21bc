"""A manifest as Croissant, the metadata format that data catalogues read (mlcommons.org, version 1.0)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fathom.data.records import MANIFEST_NAME, FileRecord, Manifest, file_sha256
from fathom.errors import FathomError, MissingExtra, RunFailed

_BINARY, _JSON = "application/octet-stream", "application/json"
_COLUMNS = {  # of the record set `sources`: column -> (Croissant type, what it says)
    "name": ("TEXT", "Name of the source"),
    "domain": ("TEXT", "Domain under which it is mixed and evaluated"),
    "origin": ("TEXT", "Path or name that was asked for"),
    "license": ("TEXT", "Licence of its texts"),
    "bytes": ("INTEGER", "Bytes as read"),
    "sha256": ("TEXT", "SHA-256 of what was read"),
    "documents_read": ("INTEGER", "Documents read"),
    "documents_kept": ("INTEGER", "Documents left after curation"),
    "train_tokens": ("INTEGER", "Tokens to train on"),
    "held_out_tokens": ("INTEGER", "Tokens held out"),
    "dropped": ("TEXT", "Documents dropped, by reason, as JSON"),
}


def to_croissant(manifest: Manifest, directory: Path | str) -> dict[str, Any]:
    """JSON-LD that describes the prepared data in `directory`: its files with hashes, and every source with licence.

    Validated by `mlcroissant`; raises `RunFailed` with its findings if they are errors.
    """
    mlc = _library()
    context = mlc.Context(is_live_dataset=False)
    records = [FileRecord(name=MANIFEST_NAME, bytes=0, sha256=file_sha256(Path(directory) / MANIFEST_NAME))]
    records += [
        record
        for source in manifest.sources
        for entry in (source.train, source.held_out)
        for record in entry.files.values()
    ]
    metadata = mlc.Metadata(
        ctx=context,
        name=f"fathom-{manifest.key[:16]}",
        description=f"Token shards of {len(manifest.sources)} sources with loss masks and held-out documents.",
        license=sorted({source.license for source in manifest.sources}),
        version="1.0.0",
        distribution=[_file(mlc, context, record, Path(directory)) for record in records],
        record_sets=[_sources(mlc, context, manifest)],
    )
    content = json.loads(json.dumps(metadata.to_json(), default=str))
    validate(content)
    return content


def validate(content: dict[str, Any]) -> None:
    """Let `mlcroissant` read JSON-LD and its `sources` records; raises `RunFailed` with the first thing it rejects."""
    mlc = _library()
    try:
        dataset = mlc.Dataset(jsonld=content)
        list(dataset.records("sources"))
    except Exception as error:  # its findings come as several exception types
        raise RunFailed(f"mlcroissant rejects the description: {str(error)[:500]}") from error


def _library() -> Any:
    try:
        import mlcroissant
    except ImportError as error:
        raise MissingExtra("mlcroissant") from error
    return mlcroissant


def _file(mlc: Any, context: Any, record: FileRecord, directory: Path) -> Any:
    path = directory / record.name
    try:
        size = path.stat().st_size
    except OSError as error:
        raise FathomError(f"the prepared data is incomplete: {path} is missing; prepare it again") from error
    encoding = _JSON if record.name == MANIFEST_NAME else _BINARY
    return mlc.FileObject(
        ctx=context,
        id=record.name,
        name=record.name,
        content_url=record.name,
        content_size=f"{size} B",
        sha256=record.sha256,
        encoding_formats=[encoding],
    )


def _sources(mlc: Any, context: Any, manifest: Manifest) -> Any:
    fields = [
        mlc.Field(
            ctx=context,
            id=f"sources/{name}",
            name=f"sources/{name}",
            description=text,
            data_types=[getattr(mlc.DataType, kind)],
        )
        for name, (kind, text) in _COLUMNS.items()
    ]
    rows = [{f"sources/{name}": value for name, value in row.items()} for row in map(_row, manifest.sources)]
    return mlc.RecordSet(
        ctx=context, id="sources", name="sources", description="What the data was made from", fields=fields, data=rows
    )


def _row(source: Any) -> dict[str, Any]:
    counted = {
        name: getattr(source, name)
        for name in ("name", "domain", "origin", "license", "sha256", "documents_read", "documents_kept")
    }
    tokens = {"train_tokens": source.train.tokens, "held_out_tokens": source.held_out.tokens}
    return {**counted, **tokens, "bytes": source.raw_bytes, "dropped": json.dumps(source.dropped, sort_keys=True)}
