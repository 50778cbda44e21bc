"""`fathom demo` from the data to the report, made short: fewer problems to learn from, three seconds of training."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from fathom.cli import demo, demo_job
from fathom.data.problems import KINDS
from fathom.ledger.events import Evaluation
from fathom.ledger.reading import only, read, status_of


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    """The JSON document of one demonstration, and its workspace."""
    runs = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_job, "SOURCES", ("builtin:problems:400", "builtin:stdlib"))
        patch.setattr(demo_job.Demo, "_training_seconds", lambda self: 3.0)
        arguments = ["--problems", "12", "--runs", str(runs), "--json"]
        result = CliRunner(catch_exceptions=False).invoke(demo.command, arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout), runs


def test_both_models_train_alike_and_answer_the_same_problems(shown: tuple) -> None:
    document, _ = shown
    assert [model["recipe"] for model in document["models"].values()] == list(demo_job.RECIPES)
    for model in document["models"].values():
        assert model["steps"] >= 1
        assert model["training_seconds"] > 0
        assert set(model["problems"]["kinds"]) == set(KINDS)
        assert model["problems"]["total"] == 12
        assert 0 < model["text"]["bits_per_byte"] < 20


def test_ledgers_hold_the_answers_and_the_report_names_both(shown: tuple) -> None:
    document, runs = shown
    for name in document["models"]:
        past = read(runs / name)
        assert status_of(runs / name, past) == "completed"
        assert {"held-out after", "held-out problems"} <= {event.name for event in only(past, Evaluation)}
    report = Path(document["report"]).read_text(encoding="utf-8")
    assert all(name in report for name in document["models"])


def test_what_is_printed_shows_shares_bills_and_five_questions_with_their_steps(
    shown: tuple, capsys: pytest.CaptureFixture
) -> None:
    document, _ = shown
    demo.print_comparison(document)
    demo.print_samples(document)
    printed = capsys.readouterr().out
    assert printed.count("\n> ") == 5
    assert all(name in printed for name in document["models"])
    assert document["report"] in printed.replace("\n", "")


def test_too_short_a_time_is_refused_with_a_longer_one(tmp_path: Path) -> None:
    job = demo_job.Demo(seed=1, minutes=1.0, problems=12, runs=tmp_path, started=-1000.0)
    with pytest.raises(demo_job.FathomError, match="leaves no time to train"):
        job._training_seconds()
