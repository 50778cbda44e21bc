"""`fathom receipt` prints the bill, as a table for people and as one JSON document for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from fathom.cli import cli
from fathom.errors import FathomError
from fathom.ledger import Ledger


@pytest.fixture
def run(tmp_path) -> Path:
    ledger = Ledger.create(tmp_path / "tiny")
    ledger.start(recipe={"name": "tiny"})
    ledger.data(
        sources=[{"name": "[bold]books[/]", "license": "CC0-1.0", "documents": 1200, "bytes": 5_000_000,
                  "sha256": "sha256:abcdef0123456789", "dropped": {"near duplicate": 7}}]
    )  # fmt: skip
    ledger.step(step=1, tokens=4096, loss=3.0, learning_rate=1e-3, flops={"attention": 10**12, "experts": 3 * 10**12})
    ledger.end("completed")
    return tmp_path / "tiny"


def test_the_bill_has_every_part(run):
    result = CliRunner().invoke(cli, ["receipt", "tiny", "--runs", str(run.parent)], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    for words in (
        "[bold]books[/]", "CC0-1.0", "1,200", "5 MB", "abcdef012345", "4 TFLOP", "FLOPs, experts", "4,096 in 1 steps",
        "modelled", "kWh", "$", "an hour (", "below every threshold",
        "By purpose", "final run", "The workspace, runs started: 1", "rounded up",
    ):  # fmt: skip
        assert words in result.output, words


def test_json_is_one_document_with_the_state_of_the_ledger(run):
    result = CliRunner().invoke(cli, ["receipt", str(run), "--json"])
    bill = json.loads(result.stdout)
    assert bill["flops"]["total"] == 4 * 10**12
    assert bill["ledger"]["holds"] is True
    assert bill["joules"]["method"] == "modelled"
    assert bill["usd"]["prices"][0]["source"]
    assert bill["programme"]["runs_started"] == 1


def test_a_changed_ledger_gets_no_bill(run):
    content = (run / "ledger.jsonl").read_bytes()
    (run / "ledger.jsonl").write_bytes(content.replace(b'"tokens":4096', b'"tokens":4000'))
    result = CliRunner().invoke(cli, ["receipt", str(run)])
    assert isinstance(result.exception, FathomError)
    assert "does not hold" in str(result.exception)
    assert result.stdout == ""
