"""The report is one file without script, escapes whatever a model wrote, and says what was not checked."""

from __future__ import annotations

import html.parser
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs_to_report import KINDS, reported_run

from fathom.audit.charts import Curve, line_chart, ticks, wilson
from fathom.audit.report import visible, write_report
from fathom.errors import FathomError
from fathom.ledger import Ledger

HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(2)> & \"quotes' \x00\u202egnp.exe {{ 7*7 }}"


class Page(html.parser.HTMLParser):
    """Counts what a browser would act on."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words += data


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    reported_run(runs / "deepseek-style", skill=0.95)
    reported_run(runs / "llama-style", skill=0.8, model={"attention": "grouped", "num_experts": 0})
    return runs


@pytest.fixture(scope="module")
def page(two_runs):
    return write_report([two_runs / "deepseek-style", two_runs / "llama-style"], two_runs / "report.html").read_text()


def test_the_page_is_one_file_without_script_that_fetches_nothing(page):
    parsed = Page(page)
    assert not {"script", "link", "iframe", "object", "embed", "img"} & {tag for tag, _ in parsed.tags}
    for tag, attributes in parsed.tags:
        assert not any(name.startswith("on") or name in ("src", "href", "action") for name in attributes), (
            tag,
            attributes,
        )
    assert "url(" not in page
    assert "@import" not in page
    assert re.findall(r"https?://[^\"<]*", re.sub(r'xmlns="[^"]*"', "", page)) == re.findall(
        r"https?://[^\"<]*", parsed.words
    )
    policy = next(attributes for tag, attributes in parsed.tags if attributes.get("http-equiv"))
    assert policy["content"].startswith("default-src 'none'")


def test_both_runs_stand_side_by_side_in_every_part(page):
    words = Page(page).words
    for part in ("At a glance", "Loss", "Held-out text", "Problems never seen", "Sample answers", "The bill", "Data",
                 "What was checked", "What was not"):  # fmt: skip
        assert part in words, part
    assert "latent attention, 8 experts, 2 a token" in words
    assert "grouped-query attention, dense" in words
    assert words.count("95 of 100") == 1
    assert words.count("80 of 100") == 1
    assert len(re.findall(r'<path class="line run[01]"', page)) == 2
    assert len(re.findall(r'<circle class="dot run[01]"', page)) == 2 * len(KINDS)


def test_energy_that_was_modelled_is_called_so_wherever_it_is_shown(page):
    words = Page(page).words
    shown = re.findall(r"[\d.,]+ [kM]?J \([^)]*\)", words)
    assert len(shown) >= 6
    assert all("modelled" in energy for energy in shown)


def test_the_page_names_what_was_left_out_and_what_nobody_checked(page):
    words = Page(page).words
    assert "1,200 near duplicate, 310 too short" in words
    assert "carry no signature" in words
    assert "modelled at least in part" in words
    assert "PSF-2.0" in words


def test_whatever_a_model_or_a_source_wrote_is_shown_and_not_obeyed(tmp_path):
    row = {
        "kind": HOSTILE,
        "question": HOSTILE,
        "thinking": HOSTILE,
        "answer": HOSTILE,
        "expected": HOSTILE,
        "correct": False,
    }
    source = {"name": HOSTILE, "license": HOSTILE, "dropped": {HOSTILE: 3}}
    run = reported_run(
        tmp_path / "run", steps=5, samples=[row], sources=[source], kinds={HOSTILE: {"correct": 1, "total": 2}}
    )
    page = write_report(run, title=HOSTILE).read_text()
    parsed = Page(page)
    assert not {"script", "img"} & {tag for tag, _ in parsed.tags}
    assert parsed.words.count("<script>alert(1)</script>") >= 8
    assert "{{ 7*7 }}" in parsed.words
    assert not re.search("[\x00\u202e]", page)


@given(text=st.text())
def test_no_character_can_hide_or_turn_the_text_round(text):
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", visible(text).replace("\r", "")
    )
    visible(text).encode()


def test_a_run_that_measured_nothing_still_gets_its_bill(tmp_path):
    ledger = Ledger.create(tmp_path / "run")
    ledger.start(recipe={"name": "x"})
    ledger.end("failed")
    words = Page(write_report(tmp_path / "run").read_text()).words
    assert "The bill" in words
    assert "failed and redone" in words
    assert "Held-out text" not in words
    assert "Sample answers" not in words


def test_steps_taken_again_are_left_out_of_the_curve(tmp_path):
    from fathom.audit.run_view import view

    with Ledger.create(tmp_path / "run") as ledger:
        ledger.start(recipe={"name": "x"})
        for step in (1, 2, 3):
            ledger.step(step=step, tokens=1, loss=10.0 + step, learning_rate=1.0)
        ledger.note("rollback", to_step=1)
        ledger.step(step=2, tokens=1, loss=5.0, learning_rate=1.0)
    assert list(view(tmp_path / "run").curve.ys) == [11.0, 5.0]


@pytest.mark.parametrize("count", [0, 5])
def test_too_few_or_too_many_runs_are_refused(tmp_path, count):
    with pytest.raises(FathomError, match=f"1 to 4 runs side by side, not {count}"):
        write_report([tmp_path] * count)


def test_losses_that_are_not_finite_leave_the_chart_whole():
    chart = line_chart([Curve("a", [1.0, 2.0, 3.0], [4.0, float("nan"), float("inf")])], "x", "y")
    assert "nan" not in chart
    assert "inf" not in chart
    assert line_chart([Curve("a", [], [])], "x", "y") == ""


@given(low=st.floats(-1e6, 1e6), span=st.floats(1e-6, 1e6))
def test_ticks_are_few_and_inside(low, span):
    found = ticks(low, low + span)
    assert len(found) <= 11
    slack = 1e-9 * max(abs(low), span)
    assert all(low - slack <= tick <= low + span + slack for tick in found)


@pytest.mark.parametrize(("correct", "total"), [(0, 10), (10, 10), (81, 263), (1, 2)])
def test_the_wilson_interval_agrees_with_scipy(correct, total):
    from scipy.stats import binomtest

    ours, theirs = wilson(correct, total), binomtest(correct, total).proportion_ci(method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-6)
