"""`fathom data`: one JSON document on stdout, one sentence and an exit code for bad input, nothing overwritten."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROWS = [
    {"text": f"document number {number} has some words and the figure {number * 7}", "license": "MIT"}
    for number in range(60)
]


def fathom(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fathom", "data", *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    done = fathom(
        "prepare", folder / "rows.jsonl", "--out", folder / "data", "--vocab-size", 320, "--held-out", 0.1, "--json"
    )
    assert done.returncode == 0, done.stderr
    return folder / "data", json.loads(done.stdout)


def test_prepare_reports_the_manifest(prepared: tuple[Path, dict]) -> None:
    directory, report = prepared
    (source,) = report["sources"]
    assert (source["name"], source["license"], source["documents_read"]) == ("rows", "MIT", 60)
    assert report["tokenizer"]["vocab_size"] <= 320
    assert (directory / "manifest.json").is_file()


def test_inspect_checks_and_reports_the_same(prepared: tuple[Path, dict]) -> None:
    directory, report = prepared
    done = fathom("inspect", directory, "--json")
    assert json.loads(done.stdout) == report
    assert "MIT" in fathom("inspect", directory).stdout


def test_sample_shows_documents(prepared: tuple[Path, dict]) -> None:
    directory, _ = prepared
    pieces = json.loads(fathom("sample", directory, "--count", 2, "--sequence-length", 64, "--json").stdout)
    texts = {row["text"] for row in ROWS}
    assert pieces
    assert all(piece["text"].removeprefix("<|endoftext|>") in texts for piece in pieces)


def test_croissant_is_one_document_and_overwrites_nothing(prepared: tuple[Path, dict], tmp_path: Path) -> None:
    directory, _ = prepared
    assert json.loads(fathom("croissant", directory, "--json").stdout)["@type"] == "sc:Dataset"
    (tmp_path / "c.json").write_text("mine")
    done = fathom("croissant", directory, "--out", tmp_path / "c.json")
    assert done.returncode == 2
    assert "exists and is not overwritten" in done.stderr
    assert (tmp_path / "c.json").read_text() == "mine"


def test_bad_input_is_one_sentence_and_exit_code_2(prepared: tuple[Path, dict], tmp_path: Path) -> None:
    directory, _ = prepared
    for arguments in (
        ("prepare", tmp_path / "nothing", "--out", tmp_path / "out"),
        ("prepare", directory.parent / "rows.jsonl", "--out", tmp_path / "out", "--text-column", "body"),
        ("prepare", directory.parent / "rows.jsonl", "--out", directory),
        ("inspect", tmp_path),
        ("sample", tmp_path),
    ):
        done = fathom(*arguments)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith("fathom: ")
        assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
