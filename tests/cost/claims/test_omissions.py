"""The ledger of what a price leaves out: sourced ranges, added up as shown."""

from __future__ import annotations

import pytest

from fathom.cost.claims import all_on_file, on_file
from fathom.cost.omissions import ledger, of_every_run
from fathom.cost.verdict import try_claim
from fathom.cost.verdict_words import Verdict


def test_the_lines_that_a_reader_expects_are_there() -> None:
    names = " ".join(row.name.lower() for row in of_every_run())
    for word in ("research", "ablations", "failures", "data", "staff", "buying"):
        assert word in names


def test_every_line_has_a_source_and_an_ordered_range() -> None:
    own = [row for claim in all_on_file() for row in claim.omissions]
    for row in (*of_every_run(), *own):
        assert row.source.url.startswith("https://")
        assert row.where
        assert 0 <= row.low <= row.high
        assert row.seen or row.seen_in


def test_ranges_follow_from_the_accounts_that_they_cite() -> None:
    """SmolLM3: 161,280 of 276,480 hours. LLaMA: 2,048 devices for five months over the sum of its Table 15."""
    research = next(row for row in of_every_run() if row.name.startswith("Research"))
    assert research.low == pytest.approx(161_280 / 276_480, rel=0.01)
    llama = 2048 * 5 * 30.4 * 24 / (82_432 + 135_168 + 530_432 + 1_022_362)
    assert research.high == pytest.approx(llama - 1, rel=0.02)
    # OPT: from a tenth of its tokens on 17 November to the end on 6 January, against 33 ideal days.
    failures = next(row for row in of_every_run() if row.name.startswith("Failures"))
    assert failures.high == pytest.approx(50 / (0.9 * 33) - 1, rel=0.05)
    # Fleet of 60,000 for $1.6 billion over four years, $640 million a year with running it, against $2 an hour.
    buying = next(row for row in of_every_run() if row.name.startswith("Buying"))
    assert buying.low == pytest.approx(1.6e9 / (60_000 * 4 * 8760) / 2, rel=0.02)
    assert buying.high == pytest.approx(640e6 / (60_000 * 8760) / 2, rel=0.02)


def test_lines_that_do_not_add_are_left_out_of_the_total() -> None:
    trial = try_claim(on_file("deepseek-v3"))
    total = trial.omissions.total_usd
    assert total is not None
    low = sum(line.low_usd or 0 for line in trial.omissions.lines if line.omission.adds)
    assert total[0] == pytest.approx(5.576e6 + low)
    assert any(not line.omission.adds for line in trial.omissions.lines)


def test_without_a_price_there_is_no_total() -> None:
    found = ledger(on_file("grok-1"), None, "", Verdict.CANNOT_BE_TOLD)
    assert found.total_usd is None
    assert all(line.low_usd is None for line in found.lines if line.omission.per == "run")
