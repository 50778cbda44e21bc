"""Verdicts: what is true is called so, what hardware forbids is called impossible, what is missing is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fathom.cost.claim import Claim
from fathom.cost.claim_file import parse_claim
from fathom.cost.claims import all_on_file, on_file
from fathom.cost.docket import row
from fathom.cost.docket_charts import among_runs
from fathom.cost.docket_sections_tables import follows_rows
from fathom.cost.verdict import Trial, trial_dict, try_claim
from fathom.cost.verdict_physics import physics, published
from fathom.cost.verdict_words import Verdict

Edit = Callable[..., Claim]


@pytest.fixture
def edited() -> Edit:
    """A claim on file with some numeric figures changed, or dropped where None is given."""

    def edit(name: str, **values: float | None) -> Claim:
        claim = on_file(name)
        figures = dict(claim.figures)
        for key, value in values.items():
            if value is None:
                del figures[key]
            else:
                figures[key] = replace(figures[key], value=value)
        return replace(claim, figures=figures, stages=(), checks=(), results=())

    return edit


def finding(trial: Trial, title: str) -> tuple[float, float]:
    found = next(f for f in trial.findings if f.check.title.startswith(title))
    assert found.left is not None
    assert found.right is not None
    return found.left, found.right


def test_deepseek_v3_is_consistent_and_its_utilisation_is_that_of_its_second_paper() -> None:
    """Insights into DeepSeek-V3, Table 4: 38.94% causal. All hours of the first paper, pauses included."""
    trial = try_claim(on_file("deepseek-v3"))
    assert trial.verdict is Verdict.CONSISTENT
    assert trial.physics is not None
    assert trial.physics.utilisation == pytest.approx(0.3894, rel=0.06)


def test_the_two_papers_on_v3_state_one_speed() -> None:
    trial = try_claim(on_file("deepseek-v3"))
    # 14.8e12 tokens at 272.80e9 a day on 2,048 devices, against 2,664 thousand hours.
    assert finding(trial, "The second paper's tokens a day") == pytest.approx((2_666_604, 2_664_000), rel=1e-4)
    # 15,360 sequences of 4,096 tokens in 19.926 seconds.
    assert finding(trial, "The second paper's step time") == pytest.approx((272.80e9, 272.80e9), rel=1e-3)
    assert all(f.outcome == "holds" for f in trial.findings)


def test_v3_stage_by_stage_is_priced_as_its_table_1() -> None:
    claim = on_file("deepseek-v3")
    priced = {s.name: (s.figures["device_hours"].number, s.figures["cost_usd"].number) for s in claim.stages}
    assert priced == {
        "pre-training": (2664e3, 5.328e6),
        "context extension": (119e3, 0.238e6),
        "post-training": (5e3, 1e4),
    }


def test_r1_hours_are_rebuilt_from_512_devices() -> None:
    """The sums hold; whether the work can be done in the hours nobody can tell, as the tokens were not published."""
    trial = try_claim(on_file("deepseek-r1"))
    assert {finding.outcome for finding in trial.findings} == {"holds"}
    assert finding(trial, "512 devices") == (512 * (198 + 80) + 5000, 147e3)
    assert trial.verdict is Verdict.CANNOT_BE_TOLD
    assert trial.missing == ("tokens",)
    assert trial.expected is None


def test_one_stage_of_a_model_is_tried_alike_whoever_made_it() -> None:
    for name in ("deepseek-r1", "minimax-m1"):
        trial = try_claim(on_file(name))
        assert trial.verdict is Verdict.CANNOT_BE_TOLD
        total = trial.omissions.total_usd
        assert total is not None
        assert total[1] > total[0] > (trial.omissions.price_usd or 0)


def test_rents_that_only_makers_stated_stand_beside_those_of_clouds() -> None:
    money = trial_dict(try_claim(on_file("deepseek-v3")))["price"]
    assert money["at_rents_on_file"]["median"] == pytest.approx(5.576e6, rel=0.01)
    assert money["at_rents_of_others"]["low"] > money["at_rents_on_file"]["median"]
    assert trial_dict(try_claim(on_file("llama-3-8b")))["price"]["at_rents_of_others"] is None


def test_hours_of_assumed_machines_are_assumed() -> None:
    """OpenAI gave no machines of GPT-3; Google's authors assumed 10,000."""
    trial = try_claim(on_file("gpt-3"))
    assert trial.verdict is Verdict.CANNOT_BE_TOLD
    assert "device_hours" in trial.missing
    assert trial.counter is None


def test_the_inference_day_is_rebuilt_from_tokens_and_speeds() -> None:
    trial = try_claim(on_file("deepseek-inference-day"))
    assert trial.verdict is Verdict.CONSISTENT
    nodes, stated = finding(trial, "Nodes rebuilt")
    assert stated == 226.75
    assert nodes == pytest.approx(stated, rel=0.002)
    assert finding(trial, "The margin") == pytest.approx((5.4547, 5.45), rel=1e-3)


def test_the_inference_day_is_held_against_the_hardware() -> None:
    """Reading: 73.7k tokens/s a node, 56.3% from the cache, at least 2 x 37e9 operations each, of 8 x 1,979 TFLOP/s."""
    trial = try_claim(on_file("deepseek-inference-day"))
    asked, limit = finding(trial, "The reading speed")
    assert limit == pytest.approx(8 * 1979e12, rel=1e-3)
    assert asked == pytest.approx(73.7e3 * (1 - 0.563) * 2 * 37e9, rel=0.25)
    faster = replace(trial.claim.figures["input_tokens_per_second_node"], value=73.7e4)
    claim = replace(trial.claim, figures={**trial.claim.figures, "input_tokens_per_second_node": faster})
    assert try_claim(claim).verdict is Verdict.IMPOSSIBLE


def test_claims_about_others_are_tried_by_the_same_rules() -> None:
    assert try_claim(on_file("r1-648-h800")).verdict is Verdict.IMPLAUSIBLE
    assert try_claim(on_file("r1-294k-model")).verdict is Verdict.IMPOSSIBLE
    assert try_claim(on_file("semianalysis-fleet")).verdict is Verdict.IMPLAUSIBLE
    assert try_claim(on_file("50000-h100")).verdict is Verdict.CANNOT_BE_TOLD


@pytest.mark.parametrize("hours", [2.6e6, 1e6, 5e6])
def test_no_verdict_hangs_on_what_the_claimant_did_not_say(hours: float) -> None:
    """The leak names a price alone: whatever hours, tokens and machines are put to it, it cannot be told."""
    claim = on_file("v4-5.2m-leak")
    assumed = replace(claim.figures["device_hours"], value=hours)
    trial = try_claim(replace(claim, figures={**claim.figures, "device_hours": assumed}))
    assert trial.verdict is Verdict.CANNOT_BE_TOLD
    text = " ".join(reason.text for reason in trial.reasons)
    assert "the claim does not say" in text
    for what in ("tokens", "accelerator", "device-hours"):
        assert what in text


def test_the_headline_and_the_base_that_it_is_of_are_expected_to_take_the_same() -> None:
    headline, base = (try_claim(on_file(name)).expected for name in ("r1-294k-model", "deepseek-v3"))
    assert headline is not None
    assert base is not None
    assert headline.hours == base.hours
    assert headline.usd == base.usd


@pytest.mark.parametrize("name", [c.id for c in all_on_file() if "reference" in c.flags])
def test_no_reference_run_is_doubted_by_the_others(name: str) -> None:
    """The published runs judged one by one against the rest: honest claims must pass."""
    assert try_claim(on_file(name)).verdict is Verdict.CONSISTENT


def test_a_claim_is_not_among_the_runs_that_judge_it() -> None:
    assert "deepseek-v3" in published().claims
    assert "deepseek-v3" not in try_claim(on_file("deepseek-v3")).runs.claims


def test_ten_times_the_tokens_in_the_same_hours_is_impossible(edited: Edit) -> None:
    trial = try_claim(edited("deepseek-v3", tokens=148e12))
    assert trial.verdict is Verdict.IMPOSSIBLE
    assert any("No machine of this kind" in reason.text for reason in trial.reasons)


@pytest.mark.parametrize(("share", "verdict"), [(0.99, Verdict.IMPOSSIBLE), (1.01, Verdict.IMPLAUSIBLE)])
def test_the_peak_rate_is_the_line_between_impossible_and_implausible(
    edited: Edit, share: float, verdict: Verdict
) -> None:
    """Hours below 6 N D / peak, reckoned here by hand: 6 x 65.2e9 x 1.4e12 operations on A100 at 312 TFLOP/s."""
    claim = replace(edited("llama-1-65b"), model={})
    least = 6 * 65.2e9 * 1.4e12 / 312e12 / 3600
    figures = {**claim.figures, "device_hours": replace(claim.figures["device_hours"], value=share * least)}
    assert try_claim(replace(claim, figures=figures)).verdict is verdict


def test_slow_is_possible_and_a_tenth_of_the_slowest_is_not_an_account(edited: Edit) -> None:
    found = physics(on_file("deepseek-v3"))
    assert found is not None
    slowest = published("deepseek-v3").values[0]
    alone = {"cost_usd": None, "utilisation": None}  # both contradict other hours by themselves
    slow = found.device_hours * found.utilisation / (slowest / 2)
    assert try_claim(edited("deepseek-v3", device_hours=slow, **alone)).verdict is Verdict.CONSISTENT
    absurd = found.device_hours * found.utilisation / (slowest / 11)
    assert try_claim(edited("deepseek-v3", device_hours=absurd, **alone)).verdict is Verdict.IMPLAUSIBLE


@pytest.mark.parametrize(
    ("name", "dropped", "named"),
    [
        ("llama-1-65b", {"tokens": None}, {"tokens"}),
        ("llama-1-65b", {"device_hours": None}, {"device_hours"}),
        ("pythia-12b", {"tokens": None, "device_hours": None}, {"tokens", "device_hours"}),
    ],
)
def test_a_missing_figure_is_named(edited: Edit, name: str, dropped: dict[str, None], named: set[str]) -> None:
    trial = try_claim(edited(name, **dropped))
    assert trial.verdict is Verdict.CANNOT_BE_TOLD
    assert set(trial.missing) == named
    assert all(f"({word})" in " ".join(r.text for r in trial.reasons) for word in named)


def test_a_check_that_lacks_a_figure_names_it() -> None:
    table = minimal(check=[check("device_hours * price_usd_per_hour", "cost_usd")])
    trial = try_claim(parse_claim(table, "own.toml"))
    assert trial.findings[0].missing == ("price_usd_per_hour", "cost_usd")
    assert trial.verdict is Verdict.CANNOT_BE_TOLD


@pytest.mark.parametrize(
    ("relation", "right", "holds"),
    [("equals", "100", True), ("equals", "103", False), ("at most", "120", True), ("at most", "80", False),
     ("at least", "80", True), ("at least", "120", False)],
)  # fmt: skip
def test_relations_of_checks(relation: str, right: str, holds: bool) -> None:
    table = minimal(check=[check("device_hours / 1000", right) | {"relation": relation}])
    trial = try_claim(parse_claim(table, "own.toml"))
    assert (trial.findings[0].outcome == "holds") is holds


def test_closed_systems_say_what_is_missing() -> None:
    for name in ("openai-gpt-4", "anthropic-claude", "google-gemini", "xai-grok", "bytedance-doubao"):
        trial = try_claim(on_file(name))
        assert trial.verdict is Verdict.CANNOT_BE_TOLD
        said = {"google-gemini": {"accelerator"}}.get(name, set())  # its report names the kind
        assert set(trial.missing) == {"active_parameters", "tokens", "accelerator", "device_hours"} - said


def test_a_result_whose_figure_is_missing_cannot_be_told() -> None:
    claim = on_file("deepseek-v3")
    figures = {name: figure for name, figure in claim.figures.items() if name != "device_hours"}
    trial = try_claim(replace(claim, figures=figures, stages=()))
    assert trial.verdict is Verdict.CANNOT_BE_TOLD
    lacking = [says for _, value, _, says in trial.results if value is None]
    assert lacking
    assert all("device_hours" in says for says in lacking)


def test_hours_without_tokens_are_turned_into_tokens() -> None:
    """gpt-oss-120b: 2.1e6 hours x 989.4 TFLOP/s x 3,600 s at about 35%, over 6 x 5.1e9 and attention."""
    expected = try_claim(on_file("gpt-oss-120b")).expected
    assert expected is not None
    assert expected.tokens is not None
    by_hand = 2.1e6 * 3600 * 989.4e12 * published().quantile(0.5) / (6 * 5.1e9)
    assert expected.tokens.median == pytest.approx(by_hand, rel=0.2)
    assert expected.tokens.low < by_hand < expected.tokens.high


def test_the_counter_claim_scales_by_devices_alone() -> None:
    """50,000 H100 at the utilisation of V3's pre-training: 2.664e6 hours / 50,000 / 24; H800 and H100 have one peak."""
    counter = try_claim(on_file("deepseek-v3")).counter
    assert counter is not None
    assert counter.days == pytest.approx(2.664e6 / 50_000 / 24, rel=1e-6)
    assert counter.share_of_year == pytest.approx(counter.days / 365)
    assert counter.runs_in_that_time == pytest.approx(50_000 / 2048, rel=1e-6)


def test_the_utilisation_of_v3_is_of_pre_training_alone() -> None:
    """14.8T tokens were worked on in the 2.664M hours of the first stage, not in the 2.788M of all three."""
    trial = try_claim(on_file("deepseek-v3"))
    assert trial.physics is not None
    assert trial.physics.device_hours == 2.664e6
    assert "2.66 million hours (stated device-hours of pre-training)" in trial.reasons[0].text


def test_a_fleet_by_power_counts_its_devices() -> None:
    capacity = try_claim(on_file("stargate")).capacity
    assert capacity is not None
    assert capacity.count == pytest.approx(10e9 / 2100)
    assert capacity.runs_a_year(capacity.fleets[1]) > 10_000


def test_every_claim_is_tried_and_its_dictionary_is_plain_json() -> None:
    import json

    for claim in all_on_file():
        text = json.dumps(trial_dict(try_claim(claim)), allow_nan=False)
        assert json.loads(text)["verdict"] in {str(v) for v in Verdict}


def minimal(**more: Any) -> dict[str, Any]:
    """The smallest claim of one's own."""
    return {
        "id": "own", "title": "t", "kind": "training", "subject": "s", "family": "f", "made_by": "m", "date": "2026",
        "statement": "st", "source": [{"id": "a", "title": "A", "url": "https://example.org/a"}],
        "figures": {
            "active_parameters": fig(7e9), "tokens": fig(1e12), "accelerator": fig("A100"), "device_hours": fig(1e5),
        },
    } | more  # fmt: skip


@pytest.mark.parametrize("off", [1.05, 1.3, 3.0])
def test_figures_that_contradict_each_other_are_implausible_by_however_much(off: float) -> None:
    table = minimal(check=[check("device_hours", f"{1e5 * off:.0f}")])
    assert try_claim(parse_claim(table, "own.toml")).verdict is Verdict.IMPLAUSIBLE


@pytest.mark.parametrize(("bears", "verdict"), [(True, Verdict.IMPOSSIBLE), (False, Verdict.CONSISTENT)])
def test_a_speed_above_the_peak_is_impossible_unless_it_does_not_bear(bears: bool, verdict: Verdict) -> None:
    table = minimal(check=[check("limit_flops * 1.02", "limit_flops") | {"relation": "at most", "bears": bears}])
    assert try_claim(parse_claim(table, "own.toml")).verdict is verdict


def test_what_is_assumed_is_no_row_and_no_dot() -> None:
    leak = try_claim(on_file("v4-5.2m-leak"))
    assert row(leak).utilisation is None
    assert among_runs(leak) is None


def test_thresholds_are_told_by_both_counts_and_the_margin() -> None:
    """V4-Pro is above 10^25 as counted and below it as 6 P D: nobody can say on which side it is."""
    found = trial_dict(try_claim(on_file("deepseek-v4-pro")))["regulators"]
    assert found["architecture_way"]["value"] < 1e25 < found["counted"]["value"]
    assert thresholds("deepseek-v4-pro") == {"may be passed": "10²⁵", "passed": "10²³"}
    assert thresholds("llama-3.1-405b") == {"passed": "10²⁵"}


def thresholds(name: str) -> dict[str, str]:
    rows = [line for line in follows_rows(try_claim(on_file(name))) if line[0].startswith("legal threshold")]
    return {line[0].removeprefix("legal threshold ").removeprefix("that "): line[1].split(",")[0] for line in rows}


def fig(value: float | str) -> dict[str, Any]:
    return {"value": value, "source": "a", "where": "page 1"}


def check(expression: str, equals: str) -> dict[str, Any]:
    return {
        "title": "c",
        "expression": expression,
        "equals": equals,
        "tolerance": 0.01,
        "says": "x",
    }
