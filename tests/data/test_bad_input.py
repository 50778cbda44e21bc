"""Whatever a user points Fathom at, he gets documents or one clear sentence, and nothing is left half done."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
import zstandard

from fathom.data.manifest import prepare
from fathom.data.sources import ReadCounts, open_sources
from fathom.errors import FathomError

ROWS = [{"text": f"document number {number} about something"} for number in range(7)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
TEXTS = [row["text"] for row in ROWS]


def read(path: Path, **options: str) -> tuple[list[str], ReadCounts]:
    counts = ReadCounts()
    return [
        document.text for source in open_sources([path], **options) for document in source.documents(counts)
    ], counts


def refused(path: Path, **options: str) -> str:
    """The sentence with which preparing `path` is refused; checks that nothing is left behind."""
    out = path.parent / "out" if path.parent.exists() else Path(os.devnull)
    with pytest.raises(FathomError) as caught:
        prepare(open_sources([path], **options), out, vocab_size=300)
    assert not out.exists()
    assert not list(path.parent.glob(".out.partial-*"))
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert "Traceback" not in sentence
    return sentence


# -- JSON in every shape -----------------------------------------------------------------------------------------

SHAPES = {
    "array_named_jsonl.jsonl": json.dumps(ROWS).encode(),
    "lines_named_json.json": LINES,
    "pretty_array.json": json.dumps(ROWS, indent=2).encode(),
    "pretty_objects.json": "\n".join(json.dumps(row, indent=2) for row in ROWS).encode(),
    "byte_order_mark.jsonl": b"\xef\xbb\xbf" + LINES,
    "carriage_returns.jsonl": LINES.replace(b"\n", b"\r\n"),
    "blank_lines.jsonl": b"\n\n" + LINES.replace(b"\n", b"\n\n  \n"),
    "no_last_newline.jsonl": LINES.rstrip(b"\n"),
    "strings.json": json.dumps(TEXTS).encode(),
    "compressed.json.gz": gzip.compress(LINES),
    "members.jsonl.gz": gzip.compress(LINES[:200]) + gzip.compress(LINES[200:]),
    "zero_padded.jsonl.gz": gzip.compress(LINES) + b"\0" * 700,
    "compressed.jsonl.zst": zstandard.compress(LINES),
    "frames.jsonl.zst": zstandard.compress(LINES[:200]) + zstandard.compress(LINES[200:]),
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_of_json_gives_every_document(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(SHAPES[name])
    assert read(path)[0] == TEXTS


@pytest.mark.parametrize("block", [1, 3, 50, 1 << 20])
def test_pretty_json_is_read_whole_wherever_blocks_end(
    tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fathom.data.jsonrows._BLOCK_BYTES", block)
    rows = [{"text": "ü" * number, "more": [number, {"a": None}]} for number in range(20)]
    for name, content in (
        ("a.json", json.dumps(rows, indent=1)),
        ("b.json", "\n".join(json.dumps(row, indent=1) for row in rows)),
    ):
        (tmp_path / name).write_text(content, "utf-8")
        assert read(tmp_path / name)[0] == [row["text"] for row in rows]


def test_a_line_of_50_megabytes_is_a_document(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps({"text": "word " * 10_000_000}) + "\n" + json.dumps({"text": "short"}))
    texts, _ = read(path)
    assert [len(text) for text in texts] == [50_000_000, 5]


def test_a_line_longer_than_a_document_may_be_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fathom.data.jsonrows.MAX_ROW_BYTES", 1_000_000)
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps({"text": "a"}) + "\n" + json.dumps({"text": "b" * 1_000_000}))
    assert f"{path}: line 2 is longer than 1 MB" in refused(path)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (LINES + b'{"text": "cut', "line 8 is not valid JSON"),
        (LINES[:46] + b"}" + LINES[46:], "line 2 is not valid JSON"),
        (b'[{"text": "a"}, {"text": "b"}', "array"),
        (b'[{"text": "a"}] {"text": "b"}', "goes on after the end of its JSON array, at character 17"),
        (b'[{"text": "a"} {"text": "b"}]', "goes on with '{' at character 16"),
        (b'{"text": "a', "not valid JSON"),
        (b"[1, 2]", "row 1 is a number"),
        (b'{"text": ' + b"[" * 100_000, "is nested too deeply"),
        (b'[{"text": "a", "n": ' + b"9" * 5000 + b"}]", "in the value at character 2"),
    ],
)
def test_broken_json_names_file_and_place(tmp_path: Path, content: bytes, place: str) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_bytes(content)
    sentence = refused(path)
    assert str(path) in sentence
    assert place in sentence


# -- columns -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["TEXT", "content", "body"])
def test_a_misnamed_column_is_listed_and_can_be_chosen(tmp_path: Path, column: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"key": 1, column: text}) + "\n" for text in TEXTS))
    assert (
        f"{path} has no column 'text'; its columns are key, {column}: choose the text with --text-column NAME"
        == refused(path)
    )
    assert read(path, text_column=column)[0] == TEXTS


def test_a_nested_column_is_pointed_at_and_can_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": {"value": text}}) + "\n" for text in TEXTS))
    assert "such as --text-column text.value" in refused(path)
    assert read(path, text_column="text.value")[0] == TEXTS


def test_a_misnamed_column_is_noticed_early(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"body": "a"}) + "\n" for _ in range(1000)) + "not read any more")
    assert "has no column 'text'" in refused(path)


def test_a_number_where_text_should_be_is_refused_with_its_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n{"text": 5}\n')
    assert "column 'text' of row 2 holds a number" in refused(path)


PARQUET_COLUMNS = {
    "string": (arrow.string(), TEXTS, "text", TEXTS),
    "large_string": (arrow.large_string(), TEXTS, "text", TEXTS),
    "dictionary": (arrow.dictionary(arrow.int32(), arrow.string()), TEXTS, "text", TEXTS),
    "list": (arrow.list_(arrow.string()), [["a", "b"], ["c"]], "text", ["a\nb", "c"]),
    "nested": (arrow.struct([("value", arrow.string())]), [{"value": text} for text in TEXTS], "text.value", TEXTS),
}


@pytest.mark.parametrize("kind", PARQUET_COLUMNS)
def test_every_kind_of_parquet_text_column_is_read(tmp_path: Path, kind: str) -> None:
    type_, values, column, expected = PARQUET_COLUMNS[kind]
    path = tmp_path / "rows.parquet"
    parquet.write_table(arrow.table({"n": list(range(len(values))), "text": arrow.array(values, type_)}), path)
    assert read(path, text_column=column)[0] == expected


def test_nulls_are_counted_and_the_rest_is_used(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    values = arrow.array([None] * 100_000 + TEXTS, arrow.string())
    parquet.write_table(arrow.table({"text": values}), path)
    texts, counts = read(path)
    assert texts == TEXTS
    assert counts.dropped == {"no_text": 100_000}


def test_a_parquet_file_without_the_column_lists_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    parquet.write_table(arrow.table({"TEXT": TEXTS, "url": TEXTS}), path)
    assert "its columns are TEXT, url" in refused(path)


# -- cut and spoilt files ----------------------------------------------------------------------------------------


def test_cut_files_are_named_with_the_byte_where_they_end(tmp_path: Path) -> None:
    many = b"".join(json.dumps({"text": os.urandom(60).hex()}).encode() + b"\n" for _ in range(4000))
    for name, data in (("a.jsonl.gz", gzip.compress(many)), ("a.jsonl.zst", zstandard.compress(many))):
        path = tmp_path / name
        cut = data[: len(data) * 7 // 10]
        path.write_bytes(cut)
        sentence = refused(path)
        assert f"{path} is cut off" in sentence
        assert f"at byte {len(cut)}" in sentence


def test_a_cut_parquet_file_is_named_with_the_byte_where_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(arrow.table({"text": [os.urandom(60).hex() for _ in range(1000)]}), path)
    cut = path.read_bytes()[:-3000]
    path.write_bytes(cut)
    sentence = refused(path)
    assert f"{path} is cut off or spoilt" in sentence
    assert f"byte {len(cut)}" in sentence


def test_a_parquet_file_spoilt_inside_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(arrow.table({"text": [os.urandom(60).hex() for _ in range(9000)]}), path, compression="zstd")
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : len(data) // 3 + 2000] = bytes(2000)
    path.write_bytes(data)
    assert f"{path} is cut off or spoilt" in refused(path)


@pytest.mark.parametrize(
    ("name", "data"),
    [("a.jsonl.gz", gzip.compress(LINES)), ("a.jsonl.zst", zstandard.compress(LINES))],
    ids=["gzip", "zstandard"],
)
def test_garbage_after_a_compressed_stream_is_refused_with_its_place(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data + b"garbage")
    assert f"from byte {len(data)}" in refused(path)


def test_a_spoilt_gzip_file_is_refused(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(os.urandom(50_000)))
    data[30_000] ^= 0xFF
    path = tmp_path / "a.txt.gz"
    path.write_bytes(data)
    assert f"{path} is spoilt" in refused(path)


def test_a_file_that_only_claims_to_be_compressed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(LINES)
    assert "is not gzip data although its name says so" in refused(path)


# -- texts and folders -------------------------------------------------------------------------------------------


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    assert "holds no file to read" in refused(folder)


def test_a_missing_path_is_refused(tmp_path: Path) -> None:
    assert f"cannot read {tmp_path / 'nothing'}: No such file" in refused(tmp_path / "nothing")


def test_a_binary_file_is_refused_alone_and_counted_in_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + os.urandom(100))
    assert "is a binary file" in refused(folder / "picture.png")
    assert "holds no text (1 binary_file)" in refused(folder)
    (folder / "rows.jsonl").write_bytes(LINES)
    (folder / "nothing.txt").touch()
    texts, counts = read(folder)
    assert texts == TEXTS
    assert counts.dropped == {"binary_file": 1, "empty_file": 1}


def test_few_invalid_bytes_are_replaced_and_counted_and_many_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"a good long text " * 100 + b"\xff")
    texts, counts = read(path)
    assert texts[0].endswith("\ufffd")
    assert counts.changed == {"invalid_utf8": 1}
    path.write_bytes("Grüße aus Köln, überall Umlaute".encode("latin-1"))
    sentence = refused(path)
    assert "is not UTF-8 text" in sentence
    assert "the first at byte 2" in sentence


def test_undecodable_files_of_a_folder_are_dropped_not_trained_on(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(3):
        (folder / f"bad{number}.txt").write_bytes("Grüße aus Köln, überall Umlaute".encode("latin-1"))
    assert "3 undecodable" in refused(folder)


def test_utf16_with_its_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("Grüße, мир", "utf-16")
    assert read(path)[0] == ["Grüße, мир"]


def test_links_in_circles_and_odd_names_are_read_once(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "back").symlink_to(folder)
    (folder / "self").symlink_to(folder / "self")
    (folder / "gone").symlink_to(folder / "missing")
    names = ["día.txt", "di\u0301a.txt", "文.txt", "🙂.txt", "two\nlines.txt", 'quo"te.txt', "blank .txt"]
    for name in names:
        (folder / name).write_text(f"the text of {name}", "utf-8")
    Path(os.fsdecode(os.fsencode(folder) + b"/not-utf8-\xff.txt")).write_text("the text of a strange name")
    (source,) = open_sources([folder])
    documents = list(source.documents(ReadCounts()))
    assert len({document.id for document in documents}) == len(names) + 1
    for document in documents:
        document.id.encode()  # fit for JSON
    assert {record.name for record in source.identity_after_reading().files} == {document.id for document in documents}


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret.txt"
    path.write_text("text")
    path.chmod(0)
    assert f"cannot read {path}: Permission denied" in refused(path)


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.txt"
    path.write_text("text")
    real = Path.open

    def deny(self: Path, *arguments: object, **options: object) -> object:
        if self == path:
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "open", deny)
    assert refused(path) == f"cannot read {path}: Permission denied"


@pytest.mark.parametrize("content", [b"", b"\n\n \n", b"[]"])
def test_a_source_without_documents_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "none.jsonl"
    path.write_bytes(content)
    assert "gave no document" in refused(path)


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        ("builtin:nothing", "there is no built-in data"),
        ("builtin:problems:many", "must be a positive number"),
        ("hf:", "is not a data set"),
        ("hf:name:train:x", "is not a data set"),
    ],
)
def test_a_misspelt_source_says_what_there_is(spec: str, part: str) -> None:
    with pytest.raises(FathomError, match=part):
        open_sources([spec])
