"""The Croissant description is what mlcroissant accepts, and says whose the data is."""

from __future__ import annotations

import json
from pathlib import Path

import mlcroissant
import pytest

from fathom.data.croissant import to_croissant, validate
from fathom.data.records import Manifest, file_sha256
from fathom.errors import RunFailed


def test_mlcroissant_reads_every_source_and_file(prepared: tuple[Path, Manifest], tmp_path: Path) -> None:
    directory, manifest = prepared
    path = tmp_path / "croissant.json"
    path.write_text(json.dumps(to_croissant(manifest, directory)))
    dataset = mlcroissant.Dataset(jsonld=str(path))
    rows = [{key.removeprefix("sources/"): value for key, value in row.items()} for row in dataset.records("sources")]
    for row, source in zip(rows, manifest.sources, strict=True):
        assert row["name"] == source.name
        assert row["license"] == source.license
        assert row["sha256"] == source.sha256
        assert row["bytes"] == source.raw_bytes
    files = {file.id: file.sha256 for file in dataset.metadata.distribution}
    assert files == {name: file_sha256(directory / name) for name in files}
    assert len(files) == 1 + sum(
        len(entry.files) for source in manifest.sources for entry in (source.train, source.held_out)
    )


def test_a_description_that_mlcroissant_rejects_is_an_error(prepared: tuple[Path, Manifest]) -> None:
    directory, manifest = prepared
    content = to_croissant(manifest, directory)
    del content["recordSet"][0]["field"][0]["dataType"]
    with pytest.raises(RunFailed, match="mlcroissant rejects"):
        validate(content)
