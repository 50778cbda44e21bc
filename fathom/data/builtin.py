"""Data that needs no download: what the Python standard library says about itself, and problems made without end."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import sysconfig
import warnings
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from fathom.data.chat import with_reasoning
from fathom.data.rows import conversation_text
from fathom.data.sources import Document, Identity, ReadCounts, Source, content_hash
from fathom.errors import FathomError

PSF = "PSF-2.0"
DEFAULT_PROBLEMS = 20_000
TRAINING_SEED = 0  # which questions are kept for evaluation depends on their text alone, see `fathom.data.problems`
# Left out: tests (as large as all the rest), other packages, tables that are data rather than code.
_SKIPPED_FOLDERS = frozenset(
    {
        "test",
        "tests",
        "idle_test",
        "site-packages",
        "dist-packages",
        "__pycache__",
        "lib2to3",
        "encodings",
        "pydoc_data",
    }
)
_MIN_DOCSTRING_CHARS = 200  # a module whose docstrings say less says nothing


def open_builtin(spec: str) -> list[Source]:
    """`builtin:stdlib` (English and code, two sources) or `builtin:problems[:COUNT]`."""
    _, name, *rest = spec.split(":")
    if name == "stdlib" and not rest:
        return [StandardLibraryEnglish(), StandardLibraryCode()]
    if name == "problems" and len(rest) <= 1:
        count = rest[0] if rest else str(DEFAULT_PROBLEMS)
        if not count.isdigit() or not int(count):
            raise FathomError(
                f"{spec!r} asks for {count!r} problems; it must be a positive number, as in "
                f"builtin:problems:{DEFAULT_PROBLEMS}"
            )
        return [Problems(int(count))]
    raise FathomError(f"there is no built-in data {spec!r}; there are builtin:stdlib and builtin:problems[:COUNT]")


class _Generated(Source):
    """A source that is computed: its hash is that of its texts."""

    kind = "builtin"

    @cached_property
    def _content(self) -> tuple[int, str]:
        return content_hash(document.text.encode("utf-8", "replace") for document in self.documents(ReadCounts()))

    def identity_after_reading(self) -> Identity:
        return Identity(*self._content)


class _StandardLibrary(_Generated):
    license = PSF
    origin = "builtin:stdlib"

    def identity(self) -> dict[str, Any]:
        return {"kind": self.kind, "name": self.name, "sha256": self._content[1]}

    @staticmethod
    def _modules() -> Iterator[tuple[str, str]]:
        """(name, source) of every module, sorted by path; files that this interpreter cannot decode are left out."""
        root = Path(sysconfig.get_path("stdlib"))
        for path in sorted(root.rglob("*.py")):
            relative = path.relative_to(root)
            if _SKIPPED_FOLDERS.isdisjoint(relative.parts[:-1]):
                try:
                    yield ".".join(relative.with_suffix("").parts).removesuffix(".__init__"), path.read_text("utf-8")
                except (OSError, UnicodeDecodeError):
                    continue


class StandardLibraryEnglish(_StandardLibrary):
    """The language reference as `help()` shows it, and each module's docstrings."""

    name = domain = "stdlib-english"

    def documents(self, counts: ReadCounts) -> Iterator[Document]:
        for topic, text in self._topics():
            yield self._document(f"topic {topic}", text)
        for module, source in self._modules():
            text = docstrings(source)
            if len(text) >= _MIN_DOCSTRING_CHARS:
                yield self._document(f"module {module}", f"{module}\n\n{text}")

    def _document(self, id_: str, text: str) -> Document:
        return Document(id_, text, self.name, PSF, self.domain)

    @staticmethod
    def _topics() -> Iterator[tuple[str, str]]:
        try:
            topics = importlib.import_module("pydoc_data.topics").topics
        except ImportError:  # some distributions put it into a package of their own
            return
        yield from sorted(topics.items())


class StandardLibraryCode(_StandardLibrary):
    """The source of each module."""

    name = domain = "stdlib-code"

    def documents(self, counts: ReadCounts) -> Iterator[Document]:
        for module, source in self._modules():
            if source.strip():
                yield Document(f"module {module}", source, self.name, PSF, self.domain, code=True)


def docstrings(source: str) -> str:
    """A module's docstrings in order, each under the name of what it describes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return ""
    parts = [ast.get_docstring(tree) or ""]
    parts += _described(tree, "")
    return "\n\n".join(part for part in parts if part)


def _described(node: ast.AST, prefix: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            text = ast.get_docstring(child)
            if text:
                yield f"{prefix}{child.name}: {text}"
            yield from _described(child, f"{prefix}{child.name}.")


class Problems(_Generated):
    """Worked problems of every kind, as conversations: a question, and an answer that thinks first."""

    name = domain = "problems"

    def __init__(self, count: int) -> None:
        self.origin = f"builtin:problems:{count}"
        self.license = "MIT AND Apache-2.0"  # ours, and reasoning-gym's for the kinds that it generates
        self._count = count

    def identity(self) -> dict[str, Any]:
        return {"kind": self.kind, "name": self.name, "sha256": self._content[1]}

    def documents(self, counts: ReadCounts) -> Iterator[Document]:
        from fathom.data import problems

        made_for_training = problems.training_problems(TRAINING_SEED)
        for number, made in enumerate(islice(made_for_training, self._count)):
            answer = f"<think>{made.thinking}</think>{made.answer}"
            messages = [
                {"role": "user", "content": made.question},
                with_reasoning({"role": "assistant", "content": answer}),
            ]
            yield Document(
                f"{made.kind} {number}", conversation_text(messages), self.name, self.license, self.domain, messages
            )
