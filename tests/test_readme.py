"""The README says nothing that is not so: its figures come from result files and its commands run."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fathom.cli import VERBS, cli

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
sys.path.insert(0, str(ROOT))

# Commands that run elsewhere: where that is, and words of that file which show it.
ELSEWHERE = {
    "make test": (".ci/run", "make test"),
    "make test-slow": ("Makefile", "pytest -m slow"),
    "make test-gpu": ("Makefile", "pytest -m gpu"),
    "make demo": ("Makefile", "$(BIN)/fathom demo"),
}
# Commands that take minutes: `make test-slow` runs them here.
SLOW = {"fathom train notes --name notes --budget 5min"}
# Digits that are no measured figure: requirements and names of models.
NAMES = {"3.11"}


def blocks() -> list[str]:
    return re.findall(r"```sh\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    return [line for block in blocks() for line in block.splitlines() if line]


def quick() -> list[str]:
    return [command for command in commands() if command not in ELSEWHERE and command not in SLOW]


def test_every_command_of_the_readme_runs_somewhere():
    for command in commands():
        assert command in ELSEWHERE or command.startswith("fathom "), command
    for command, (place, words) in ELSEWHERE.items():
        assert command in commands()
        assert words in (ROOT / place).read_text(encoding="utf-8")
    assert set(commands()) >= SLOW


def test_every_verb_is_described_and_no_other():
    assert re.findall(r"^\| `fathom (\w+)` \|", README, re.MULTILINE) == list(VERBS)


def test_every_local_link_leads_somewhere():
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_ledgers_page_lists_every_kind_of_event():
    from fathom.ledger import events

    kinds = [kind.model_fields["kind"].default for kind in events.EventBase.__subclasses__()]
    page = (ROOT / "docs" / "ledger.md").read_text(encoding="utf-8").partition("## The kinds")[2]
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == kinds


def test_the_pages_are_what_the_result_files_say():
    from docs.build import pages

    for path, text in pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is out of date: run `make docs`"


def test_no_figure_of_the_readme_is_typed_by_hand():
    prose = re.sub(r"```.*?```|<!-- [\w/-]+: .*?<!-- / -->|`[^`]*`|\[[^\]]*\]\([^)]*\)", "", README, flags=re.DOTALL)
    typed = set(re.findall(r"(?<![\w-])\d[\d.,]*\d|(?<![\w-])\d", prose)) - NAMES
    assert not typed


def test_a_page_that_is_out_of_date_is_noticed(monkeypatch):
    from docs import build

    changed = {**build.result("startup"), "ours": 123.456}
    original = build.result
    monkeypatch.setattr(build, "result", lambda name: changed if name == "startup" else original(name))
    assert "123.456" in build.filled(README)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """A folder with `notes` and a model of three steps trained on them under that name."""
    from pydoc_data.topics import topics

    folder = tmp_path_factory.mktemp("readme")
    (folder / "notes").mkdir()
    for name in sorted(topics)[:40]:
        (folder / "notes" / f"{name.replace('/', '-')}.md").write_text(topics[name], encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run("fathom train notes --name notes --size tiny --set train.steps=3 --set data.vocab_size=512")
    return folder


def run(command: str) -> Result:
    import shlex

    result = CliRunner().invoke(cli, shlex.split(command)[1:])
    assert result.exit_code == 0, f"{command}\n{result.output}\n{result.exception!r}"
    return result


@pytest.mark.parametrize("command", quick())
def test_a_command_of_the_readme_runs(workspace, monkeypatch, command):
    monkeypatch.chdir(workspace)
    assert run(command).output.strip()


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted(SLOW))
def test_a_long_command_of_the_readme_runs(workspace, monkeypatch, tmp_path, command):
    (tmp_path / "notes").symlink_to(workspace / "notes")
    monkeypatch.chdir(tmp_path)
    assert "bits per byte" in run(command).output
