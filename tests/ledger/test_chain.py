"""The chain's promises: no byte changes unseen, a crash is continued from and said, nothing is rewritten."""

from __future__ import annotations

import json
import multiprocessing
import resource
from pathlib import Path

import pytest
import rfc8785
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fathom.errors import FathomError
from fathom.ledger import lock
from fathom.ledger.chain import GENESIS, Writer, digest, read_chain, seal
from fathom.ledger.events import plain

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def write(path: Path, bodies: list[dict]) -> None:
    writer = Writer(path)
    for body in bodies:
        writer.append(body)
    writer.close()


@pytest.fixture(scope="module")
def three_lines(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("chain") / "ledger.jsonl"
    write(path, [{"a": 1}, {"b": "é\n"}, {"c": [1.5, None]}])
    return path.read_bytes()


def test_a_line_is_canonical_json_with_the_hash_of_itself_and_of_the_line_before(three_lines):
    previous = GENESIS
    for sequence, line in enumerate(three_lines.splitlines()):
        record = json.loads(line)
        stated = record.pop("hash")
        assert stated == digest(rfc8785.dumps(record))
        assert (record["previous"], record["sequence"], record["schema_version"]) == (previous, sequence, 1)
        previous = stated


def test_any_single_byte_that_changes_is_seen(three_lines, tmp_path):
    path = tmp_path / "ledger.jsonl"
    for position in range(len(three_lines)):
        for flip in (1, 0x20, 0x80):  # another digit or letter, another case, no longer ASCII
            changed = bytearray(three_lines)
            changed[position] ^= flip
            path.write_bytes(bytes(changed))
            assert not read_chain(path).whole, (position, flip)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 10_000), removed=st.integers(0, 3), added=st.binary(max_size=3))
def test_bytes_put_in_or_taken_out_are_seen(three_lines, tmp_path, position, removed, added):
    position %= len(three_lines)
    changed = three_lines[:position] + added + three_lines[position + removed :]
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(changed)
    assert read_chain(path).whole == (changed == three_lines)


@pytest.mark.parametrize("order", [[1, 0, 2], [0, 2], [0, 1, 1, 2], [1, 2], [0, 1, 2, 0]])
def test_lines_moved_removed_or_doubled_are_seen(three_lines, tmp_path, order):
    lines = three_lines.splitlines(keepends=True)
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b"".join(lines[index] for index in order))
    assert read_chain(path).problems


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=json_values)
def test_whatever_is_entered_reads_back_whole(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("values") / "ledger.jsonl"
    write(path, [{"value": plain(value)}, {"after": True}])
    assert read_chain(path).whole


def test_a_file_cut_anywhere_is_continued_from_and_what_was_torn_is_said(three_lines, tmp_path):
    path = tmp_path / "ledger.jsonl"
    for length in range(len(three_lines)):
        path.write_bytes(three_lines[:length])
        before = read_chain(path)
        write(path, [{"next": True}])
        after, content = read_chain(path), path.read_bytes()
        assert after.whole
        assert content.startswith(three_lines[:length])  # nothing that was written is rewritten
        whole_lines = three_lines[:length].split(b"\n")
        torn = whole_lines.pop()
        complete = torn + b"\n" in three_lines.splitlines(keepends=True)
        kept = len(whole_lines) + complete
        assert [record["sequence"] for record in after.records] == list(range(kept + 1))
        named = after.records[-1].get("torn")
        if torn and not complete:
            assert named == {"bytes": len(torn), "hash": digest(torn)}
            assert before.torn == torn
        elif not torn:
            assert named is None


def test_a_torn_stretch_that_is_changed_after_it_was_named_is_seen(three_lines, tmp_path):
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(three_lines[:-20])
    write(path, [{"next": True}])
    content = path.read_bytes()
    torn_starts = three_lines.rindex(b"\n", 0, -1) + 1
    path.write_bytes(content[:torn_starts] + content[torn_starts + 1 :])
    assert read_chain(path).problems


def test_a_crash_while_a_torn_line_was_being_closed_is_continued_from(three_lines, tmp_path):
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(three_lines[:-20] + b"\n")
    assert not read_chain(path).whole
    write(path, [{"next": True}])
    assert read_chain(path).whole
    assert read_chain(path).records[-1]["torn"]["bytes"] > 0


def test_a_damaged_ledger_is_not_continued(three_lines, tmp_path):
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b"x" + three_lines)
    with pytest.raises(FathomError, match="cannot be continued: line 1 is not a ledger line"):
        Writer(path)
    assert path.read_bytes() == b"x" + three_lines


def test_a_line_that_did_not_fit_on_the_disk_is_named_by_the_next_one(tmp_path):
    path = tmp_path / "ledger.jsonl"
    writer = Writer(path)
    writer.append({"fits": True})
    size = path.stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, limits[1]))  # a real short write, as on a full disk
    try:
        for _ in range(2):
            with pytest.raises(OSError, match="too large"):
                writer.append({"fits": False})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    writer.append({"fits": True})
    writer.close()
    chain = read_chain(path)
    assert chain.whole
    assert [record["fits"] for record in chain.records] == [True, True]
    assert chain.records[1]["torn"]["bytes"] == 50


def test_numbers_that_json_cannot_carry_exactly_are_refused_by_the_chain_and_spelt_out_by_plain():
    with pytest.raises(FathomError, match="cannot hold this value exactly"):
        seal({"count": 2**60})
    with pytest.raises(FathomError, match="cannot hold this value exactly"):
        seal({"loss": float("nan")})
    assert plain({"count": 2**60, "loss": float("-inf")}) == {"count": str(2**60), "loss": "-Infinity"}


def _append(path: str, worker: int, count: int) -> None:
    for number in range(count):
        with lock.exclusive(Path(path)):
            writer = Writer(Path(path))
            writer.append({"worker": worker, "number": number})
            writer.close()


def test_processes_that_append_at_once_leave_one_whole_chain(tmp_path):
    path = tmp_path / "ledger.jsonl"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_append, args=(str(path), worker, 15)) for worker in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    chain = read_chain(path)
    assert chain.whole
    assert sorted((r["worker"], r["number"]) for r in chain.records) == [(w, n) for w in range(3) for n in range(15)]
