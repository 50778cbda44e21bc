"""Data that needs no download: what the Python standard library says about itself, and problems made without end."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import os
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from fathom.data.rows import conversation_text
from fathom.data.sources import Document, ReadCounts, Source, StreamedSource, content_hash
from fathom.errors import FathomError, MissingExtra

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


class _StandardLibrary(StreamedSource):
    kind = "builtin"
    license = PSF
    origin = "builtin:stdlib"

    def identity(self) -> dict[str, Any]:
        return {"kind": self.kind, "name": self.name, "interpreter": sys.version, "made_by": _digest_of(Path(__file__))}

    @staticmethod
    def _modules() -> Iterator[tuple[str, str]]:
        """(name, source) of every module, sorted by path; files that this interpreter cannot decode are left out."""
        root = Path(sysconfig.get_path("stdlib"))
        for folder, subfolders, names in os.walk(root):
            subfolders[:] = sorted(set(subfolders) - _SKIPPED_FOLDERS)
            for path in (Path(folder, name) for name in sorted(names) if name.endswith(".py")):
                module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
                try:
                    yield module, path.read_text("utf-8")
                except (OSError, UnicodeDecodeError):
                    continue


def _digest_of(*paths: Path) -> str:
    """What generates a source is part of its identity."""
    return content_hash(path.read_bytes() for path in paths)[1]


class StandardLibraryEnglish(_StandardLibrary):
    """The language reference as `help()` shows it, and each module's docstrings."""

    name = domain = "stdlib-english"

    def texts(self, counts: ReadCounts) -> Iterator[Document]:
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

    def texts(self, counts: ReadCounts) -> Iterator[Document]:
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


class Problems(StreamedSource):
    """Worked problems of every kind, as conversations: a question, and an answer that thinks first."""

    kind = "builtin"
    name = domain = "problems"
    license = "MIT AND Apache-2.0"  # ours, and reasoning-gym's for what it generates

    def __init__(self, count: int) -> None:
        self.origin = f"builtin:problems:{count}"
        self._count = count

    def identity(self) -> dict[str, Any]:
        try:
            version = importlib.metadata.version("reasoning-gym")
        except importlib.metadata.PackageNotFoundError as error:
            raise MissingExtra("reasoning-gym") from error
        makers = sorted(Path(__file__).with_name("problems").glob("*.py"))
        made_by = _digest_of(Path(__file__), *makers)
        return {"kind": self.kind, "origin": self.origin, "reasoning_gym": version, "made_by": made_by}

    def texts(self, counts: ReadCounts) -> Iterator[Document]:
        from fathom.data import problems

        for number, made in enumerate(islice(problems.training_problems(TRAINING_SEED), self._count)):
            messages = made.messages()
            id_ = f"{made.kind} {number}"
            yield Document(id_, conversation_text(messages), self.name, self.license, self.domain, messages)
