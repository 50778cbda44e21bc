"""`fathom train` as a person uses it: one document on stdout, the same command goes on, and mistakes cost one
sentence.
"""

from __future__ import annotations

import json
import shutil
import sys
import tomllib
from pathlib import Path

import pytest

from fathom.cli import main
from fathom.ledger import read

SMALL = (
    "model.hidden_size=32",
    "model.num_layers=2",
    "model.num_heads=2",
    "model.kv_lora_rank=16",
    "model.qk_nope_head_dim=8",
    "model.qk_rope_head_dim=8",
    "model.v_head_dim=8",
    "model.intermediate_size=64",
    "model.moe_intermediate_size=16",
    "model.vocab_size=320",
    "data.vocab_size=320",
    "data.held_out_fraction=0.2",
    "train.steps=6",
    "train.sequence_length=32",
    "train.rows_per_step=2",
    "train.micro_batch_rows=2",
    "checkpoint.every_steps=2",
)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Forty little documents of made-up but varied prose."""
    folder = tmp_path / "text"
    folder.mkdir()
    for number in range(40):
        words = " ".join(f"word{(number * 7 + i * i) % 83} and" for i in range(120))
        (folder / f"{number}.txt").write_text(f"Document {number}. {words}.\n")
    return folder


@pytest.fixture
def fathom(tmp_path: Path, monkeypatch, capsys):
    """Runs the command line in this process: (exit code, stdout, stderr)."""
    monkeypatch.setenv("FATHOM_RUNS", str(tmp_path / "runs"))

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fathom", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        output = capsys.readouterr()
        return int(ended.value.code or 0), output.out, output.err

    return call


def train_arguments(text: Path, *more: str) -> list[str]:
    sets = [part for key in SMALL for part in ("--set", key)]
    return ["train", str(text), "--recipe", "laptop", "--name", "one", *sets, *more]


def test_a_run_prints_one_document_and_leaves_a_whole_folder(fathom, text: Path, tmp_path: Path) -> None:
    code, out, _ = fathom(*train_arguments(text, "--json"))
    assert code == 0
    document = json.loads(out)
    assert document["steps"] == 6
    assert document["after"]["bits_per_byte"] > 0
    assert document["bill"]["steps"] == 6
    folder = tmp_path / "runs" / "one"
    for name in ("recipe.toml", "ledger.jsonl", "receipt.json", "data/manifest.json", "tokenizer/tokenizer.json"):
        assert (folder / name).is_file(), name
    tokens = sum(e.body.tokens for e in read(folder) if e.body.kind == "step")
    assert document["bill"]["tokens"] == tokens == 6 * 2 * 32
    code, out, _ = fathom("runs", "--json")
    assert [(line["run"], line["status"]) for line in json.loads(out)["runs"]] == [("one", "completed")]


def test_a_finished_run_is_not_overwritten(fathom, text: Path) -> None:
    assert fathom(*train_arguments(text))[0] == 0
    code, _, err = fathom(*train_arguments(text))
    assert code == 2
    assert "is a finished run; choose another --name" in err


def interrupt_after(steps: int, monkeypatch) -> None:
    from fathom.train import loop

    whole = loop.Session.advance

    def advance(session) -> None:
        if session.step == steps:
            raise KeyboardInterrupt
        whole(session)

    monkeypatch.setattr(loop.Session, "advance", advance)


def test_the_same_command_goes_on(fathom, text: Path, tmp_path: Path, monkeypatch) -> None:
    assert fathom(*train_arguments(text))[0] == 0
    whole = {e.body.step: e.body.loss for e in read(tmp_path / "runs/one") if e.body.kind == "step"}
    shutil.move(tmp_path / "runs/one", tmp_path / "whole")
    with monkeypatch.context() as patched:
        interrupt_after(5, patched)
        assert fathom(*train_arguments(text))[0] == 130
    code, out, _ = fathom(*train_arguments(text, "--json"))
    assert code == 0
    assert json.loads(out)["resumed"] is True
    parts = {e.body.step: e.body.loss for e in read(tmp_path / "runs/one") if e.body.kind == "step"}
    assert parts == whole


def test_without_a_name_the_same_command_finds_its_unfinished_run(
    fathom, text: Path, tmp_path: Path, monkeypatch
) -> None:
    arguments = [part for part in train_arguments(text) if part not in ("--name", "one")]
    with monkeypatch.context() as patched:
        interrupt_after(3, patched)
        assert fathom(*arguments)[0] == 130
    assert fathom(*arguments)[0] == 0
    assert fathom(*arguments)[0] == 0
    names = sorted(path.parent.name for path in (tmp_path / "runs").glob("*/recipe.toml"))
    assert names == ["text-laptop", "text-laptop-2"]


def test_changed_data_is_refused_and_nothing_is_lost(fathom, text: Path, tmp_path: Path, monkeypatch) -> None:
    with monkeypatch.context() as patched:
        interrupt_after(5, patched)
        fathom(*train_arguments(text))
    before = (tmp_path / "runs/one/checkpoints/latest").read_text()
    (text / "new.txt").write_text("A document that was not there. " * 50)
    code, _, err = fathom(*train_arguments(text))
    assert code == 2
    assert "the data has changed since" in err
    assert (tmp_path / "runs/one/checkpoints/latest").read_text() == before


def test_another_request_under_the_same_name_is_refused(fathom, text: Path, monkeypatch) -> None:
    with monkeypatch.context() as patched:
        interrupt_after(3, patched)
        fathom(*train_arguments(text))
    code, _, err = fathom(*train_arguments(text, "--set", "seed=2"))
    assert code == 2
    assert "unfinished run of another request (sets was" in err


def test_a_damaged_checkpoint_is_refused(fathom, text: Path, tmp_path: Path, monkeypatch) -> None:
    with monkeypatch.context() as patched:
        interrupt_after(5, patched)
        fathom(*train_arguments(text))
    file = tmp_path / "runs/one/checkpoints/step-00000004/model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 255
    file.write_bytes(content)
    code, _, err = fathom(*train_arguments(text))
    assert code == 2
    assert "does not have the SHA-256" in err
    assert "Traceback" not in err


WRONG = [
    (["--set", "train.lerning_rate=1"], "did you mean 'train.learning_rate'"),
    (["--set", "train.steps=many"], "train.steps"),
    (["--recipe", "lapdog"], "did you mean 'laptop'"),
    (["--budget", "3 bananas"], "not a unit"),
    (["--budget", "0s"], "more than nothing"),
    (["--size", "gigantic"], "use one of tiny"),
    (["--recipe", "deepseek-v3"], "GB are free"),
    (["--name", "../outside"], "cannot name a folder"),
    (["--from", "no-such-model"], "no model 'no-such-model'"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_a_mistake_costs_one_sentence_and_leaves_no_run(fathom, text: Path, tmp_path: Path, arguments, message) -> None:
    code, out, err = fathom("train", str(text), *arguments)
    assert code == 2, err
    assert message in err
    assert out == ""
    assert "Traceback" not in err
    assert not list((tmp_path / "runs").glob("*/recipe.toml"))


@pytest.mark.parametrize("missing", ["nowhere", "empty"])
def test_data_that_is_not_there_is_said(fathom, tmp_path: Path, missing: str) -> None:
    (tmp_path / "empty").mkdir()
    code, _, err = fathom("train", str(tmp_path / missing), "--recipe", "laptop")
    assert code == 2
    assert missing in err
    assert not list((tmp_path / "runs").glob("*/recipe.toml"))


@pytest.mark.parametrize(
    "arguments", [["nowhere"], ["--recipe", "lapdog"], ["--recipe", "laptop", "--set", "train.st=1"]]
)
def test_a_mistake_is_said_before_the_machine_is_measured(fathom, text: Path, monkeypatch, arguments) -> None:
    monkeypatch.setattr("fathom.train.job.measure", lambda device: pytest.fail("the machine was measured first"))
    code, _, err = fathom("train", *([str(text)] if arguments[0].startswith("-") else []), *arguments)
    assert code == 2
    assert arguments[-1].removesuffix("=1") in err


def test_a_workspace_that_is_a_file_is_said(fathom, text: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = fathom(*train_arguments(text, "--runs", str(tmp_path / "file")))
    assert code == 1
    assert f"{tmp_path / 'file'}" in err
    assert "Traceback" not in err


def test_no_data_at_all_is_said(fathom) -> None:
    code, _, err = fathom("train", "--recipe", "laptop")
    assert code == 2
    assert "no data was named" in err


def test_a_recipe_of_another_run_learns_from_the_text_that_is_named(fathom, text: Path, tmp_path: Path) -> None:
    """A run's own recipe.toml names the data of that run; a copy of it must read what the command names."""
    assert fathom(*train_arguments(text))[0] == 0
    shutil.copy(tmp_path / "runs/one/recipe.toml", tmp_path / "copy.toml")
    other = tmp_path / "other"
    other.mkdir()
    for number in range(40):
        (other / f"{number}.txt").write_text(f"Another text {number}. " + " ".join(f"x{number * i}" for i in range(99)))
    code, out, _ = fathom("train", str(other), "--recipe", str(tmp_path / "copy.toml"), "--name", "two", "--json")
    assert code == 0
    assert json.loads(out)["after"]["domains"].keys() == {"other"}
    assert (tmp_path / "runs/two/tokenizer/tokenizer.json").is_file()


@pytest.mark.slow
def test_a_budget_beside_a_recipe_decides_how_long(fathom, text: Path, tmp_path: Path) -> None:
    sets = [part for key in SMALL if key != "train.steps=6" for part in ("--set", key)]
    code, out, err = fathom("train", str(text), "--recipe", "laptop", "--budget", "30s", *sets, "--name", "b", "--json")
    assert code == 0, err
    recipe = tomllib.loads((tmp_path / "runs/b/recipe.toml").read_text())
    assert recipe["train"]["steps"] == 0
    assert 0 < recipe["budget"]["seconds"] < 30
    assert json.loads(out)["steps"] > 0


def test_text_in_another_column_is_named(fathom, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [{"1": f"Row {n}. " + " ".join(f"word{(n * i) % 61}" for i in range(90))} for n in range(60)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, err = fathom(*train_arguments(file))
    assert code == 2
    assert "--text-column NAME" in err
    code, _, err = fathom(*train_arguments(file, "--text-column", "1", "--name", "two"))
    assert code == 0, err
