"""`hf:ORG/NAME` against a stand-in for the hub on loopback: safetensors and tokenizer only, refusals in one
sentence.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.cli.chat_models import fathom, save

COMMIT = "a" * 40


class Hub(ThreadingHTTPServer):
    """Serves one repository, `org/parrot`, as the hub's API does; remembers what was asked for."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.asked = folder, []  # type: ignore[var-annotated]


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = self.path.split("?")[0]
        self.server.asked.append(path)
        if path.startswith("/api/models/org/gated"):
            return self.reply(403, b"{}", body, {"X-Error-Code": "GatedRepo"})
        name = next((name for name in ("parrot", "pickled") if f"/org/{name}" in path), None)
        if name is None:
            return self.reply(
                401, b'{"error": "Invalid username or password."}', body, {"X-Error-Code": "RepoNotFound"}
            )
        if "/tree/" in path:
            return self.reply(200, json.dumps(self.tree(name)).encode(), body, {"Content-Type": "application/json"})
        if path.startswith("/api/models/"):
            return self.reply(200, json.dumps(self.listing(name)).encode(), body, {"Content-Type": "application/json"})
        file = self.server.folder / name / path.split(f"/{COMMIT}/")[-1]
        if not file.is_file():
            return self.reply(404, b"", body, {"X-Error-Code": "EntryNotFound"})
        content = file.read_bytes()
        etag = hashlib.sha256(content).hexdigest()
        return self.reply(200, content, body, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})

    def listing(self, name: str) -> dict[str, object]:
        files = sorted(path.name for path in (self.server.folder / name).iterdir())
        return {"id": f"org/{name}", "modelId": f"org/{name}", "sha": COMMIT, "private": False, "tags": [],
                "siblings": [{"rfilename": file} for file in files]}  # fmt: skip

    def tree(self, name: str) -> list[dict[str, object]]:
        files = sorted((self.server.folder / name).iterdir())
        return [{"type": "file", "path": file.name, "size": file.stat().st_size, "oid": "0" * 40} for file in files]

    def reply(self, status: int, content: bytes, body: bool, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("hub")
    save(folder / "parrot", "From the hub.")
    (folder / "parrot" / "pytorch_model.bin").write_bytes(b"a pickle that nobody may fetch")
    (folder / "parrot" / "modeling_parrot.py").write_text("raise SystemExit('code ran')")
    (folder / "pickled").mkdir()
    (folder / "pickled" / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "pickled" / "config.json").write_text("{}")
    server = Hub(folder)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def environment(hub: Hub, home: Path) -> dict[str, str]:
    endpoint = f"http://127.0.0.1:{hub.server_address[1]}"
    return {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}


def test_a_published_model_answers_and_only_what_cannot_run_code_is_fetched(hub: Hub, tmp_path: Path) -> None:
    done = fathom("chat", "hf:org/parrot", "--prompt", "who?", "--json", **environment(hub, tmp_path))
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["answer"] == "From the hub."
    assert document["source"] == {"kind": "hub", "repository": "org/parrot", "commit": COMMIT}
    assert not any(path.endswith((".bin", ".py")) for path in hub.asked)
    fetched = {path.name for path in tmp_path.rglob("*") if path.is_symlink() or path.is_file()}
    assert "model.safetensors" in fetched
    assert not fetched & {"pytorch_model.bin", "modeling_parrot.py"}


@pytest.mark.parametrize(
    ("name", "words"),
    [("org/nowhere", "no repository 'org/nowhere'"), ("org/gated", "is gated"), ("org/pickled", "pickled weights")],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(hub: Hub, tmp_path: Path, name: str, words: str) -> None:
    done = fathom("chat", f"hf:{name}", "--prompt", "who?", **environment(hub, tmp_path))
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.splitlines()[-1].startswith("fathom: ")
    assert "Traceback" not in done.stderr


def test_a_hub_out_of_reach_is_said_to_be(tmp_path: Path) -> None:
    variables = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    done = fathom("chat", "hf:org/parrot", "--prompt", "who?", **variables)
    assert done.returncode == 2
    assert "cannot be reached" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("fathom: ")
    assert "Traceback" not in done.stderr
