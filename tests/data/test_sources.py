"""Sources that are no plain files: data sets through `datasets`, and what the interpreter brings along."""

from __future__ import annotations

import importlib
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from fathom.data.builtin import docstrings
from fathom.data.manifest import prepare
from fathom.data.sources import ReadCounts, Source, open_sources
from fathom.data.tokenizer import Tokenizer
from fathom.errors import FathomError
from tests.data.conftest import paragraphs


@pytest.fixture
def data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set directory with two splits, read without any network."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "small-set"
    folder.mkdir()
    for split, first, count in (("train", 0, 12), ("test", 100, 3)):
        table = arrow.table({"text": [paragraphs(first + number) for number in range(count)], "title": ["t"] * count})
        parquet.write_table(table, folder / f"{split}-00000-of-00001.parquet")
    return folder


def read(source: Source) -> list[str]:
    return [document.text for document in source.documents(ReadCounts())]


def test_a_data_set_is_streamed_by_split_and_count(data_set: Path) -> None:
    (train,) = open_sources([f"hf:{data_set}"])
    assert read(train) == [paragraphs(number) for number in range(12)]
    (test,) = open_sources([f"hf:{data_set}:test"])
    assert read(test) == [paragraphs(100 + number) for number in range(3)]
    (some,) = open_sources([f"hf:{data_set}:train:5"])
    assert read(some) == [paragraphs(number) for number in range(5)]


def test_a_data_set_is_prepared_with_its_hash_and_found_again(
    data_set: Path, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    first = prepare([f"hf:{data_set}"], tmp_path / "out", tokenizer=tokenizer)
    again = prepare([f"hf:{data_set}"], tmp_path / "out", tokenizer=tokenizer)
    assert again.digest == first.digest
    (source,) = first.sources
    assert (source.kind, source.name, source.documents_read) == ("huggingface", "small-set", 12)
    assert source.raw_bytes == sum(len(paragraphs(number)) for number in range(12))
    parquet.write_table(arrow.table({"text": ["other"]}), data_set / "train-00000-of-00001.parquet")
    with pytest.raises(FathomError, match="holds other prepared data"):
        prepare([f"hf:{data_set}"], tmp_path / "out", tokenizer=tokenizer)


@pytest.mark.parametrize(
    ("spec", "part"), [("{}:nosuch", "cannot read the data set"), ("{}-missing", "cannot read the data set")]
)
def test_a_data_set_that_cannot_be_read_is_refused_in_a_sentence(data_set: Path, spec: str, part: str) -> None:
    (source,) = open_sources([f"hf:{spec.format(data_set)}"])
    with pytest.raises(FathomError, match=part) as caught:
        read(source)
    assert "\n" not in str(caught.value)


def test_a_data_set_without_the_column_lists_what_it_has(data_set: Path) -> None:
    (source,) = open_sources([f"hf:{data_set}"], text_column="body")
    with pytest.raises(FathomError, match="its columns are text, title"):
        read(source)


def test_the_standard_library_gives_english_and_code() -> None:
    english, code = open_sources(["builtin:stdlib"])
    english_documents = {document.id: document for document in english.documents(ReadCounts())}
    code_documents = {document.id: document for document in code.documents(ReadCounts())}
    json_source = Path(importlib.import_module("json").__file__ or "").read_text("utf-8")
    assert code_documents["module json"].text == json_source
    assert "JSON (JavaScript Object Notation)" in english_documents["module json"].text
    assert "import" not in {line.split(" ")[0] for line in english_documents["module json"].text.splitlines()[:3]}
    assert all(document.license == "PSF-2.0" for document in [*english_documents.values(), *code_documents.values()])
    assert sum(len(document.text) for document in english_documents.values()) > 1_000_000
    assert sum(len(document.text) for document in code_documents.values()) > 4_000_000
    assert not any(".test." in id_ or "site-packages" in id_ for id_ in code_documents)


def test_docstrings_stand_under_the_names_of_what_they_describe() -> None:
    source = '"""About all."""\nclass A:\n    """About A."""\n    def b(self):\n        """About b."""\n'
    assert docstrings(source) == "About all.\n\nA: About A.\n\nA.b: About b."
    assert docstrings("not python (") == ""


def test_problems_are_conversations_that_think_first(tmp_path: Path, tokenizer: Tokenizer) -> None:
    from fathom.data.problems import KINDS, is_held_out

    (source,) = open_sources(["builtin:problems:30"])
    documents = list(source.documents(ReadCounts()))
    assert len(documents) == 30
    assert {document.id.split()[0] for document in documents} <= set(KINDS)
    for document in documents:
        question, answer = document.messages or []
        assert (question["role"], answer["role"]) == ("user", "assistant")
        assert answer["reasoning_content"]
        assert not is_held_out(question["content"])
    assert [document.text for document in source.documents(ReadCounts())] == [document.text for document in documents]
    manifest = prepare([source], tmp_path / "out", tokenizer=tokenizer, held_out_fraction=0)
    assert 0 < manifest.sources[0].train.targets < manifest.sources[0].train.tokens


def test_a_folder_gives_each_kind_of_file_its_own_domain(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    (folder / "docs").mkdir(parents=True)
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("hidden")
    (folder / "docs" / "guide.md").write_text("# Guide")
    (folder / "main.py").write_text("print()")
    for number in range(2):
        (folder / f"train-0000{number}-of-00002.jsonl").write_text('{"text": "row"}\n')
    sources = open_sources([folder])
    assert {source.name: read(source) for source in sources} == {
        "project": ["# Guide"],
        "project code": ["print()"],
        "train": ["row", "row"],
    }


def test_a_licence_comes_from_the_rows_or_from_the_user(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "license": "MIT"}\n{"text": "b", "license": "CC0-1.0"}\n')
    (source,) = open_sources([path])
    assert [document.license for document in source.documents(ReadCounts())] == ["MIT", "CC0-1.0"]
    assert source.license == "CC0-1.0 AND MIT"
    (source,) = open_sources([path], license="CC BY 4.0")
    assert {document.license for document in source.documents(ReadCounts())} == {"CC BY 4.0"}
    assert source.license == "CC BY 4.0"


def test_json_among_code_is_a_setting_unless_it_holds_texts(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "main.ts").write_text("let x = 1")
    (folder / "package.json").write_text('{\n "name": "x"\n}')
    (folder / "tsconfig.json").write_text("{ // a comment\n}")
    (folder / "corpus.json").write_text('[{"text": "row"}]')
    documents = {source.name: sorted(read(source)) for source in open_sources([folder])}
    assert documents == {
        "project code": sorted(['{\n "name": "x"\n}', "{ // a comment\n}", "let x = 1"]),
        "corpus": ["row"],
    }
    (folder / "main.ts").unlink()
    (folder / "tsconfig.json").unlink()
    with pytest.raises(FathomError, match=r"package\.json has no column 'text'; its columns are name"):
        prepare([folder], tmp_path / "out", vocab_size=300)
