"""The promise: a plan says what it took for granted, and prices nothing that cannot run."""

from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner

from fathom.cli.plan import command
from fathom.cost.plan import Answer
from fathom.cost.planfile import plan_from
from tests.cost.test_plan import SIZES, V3, changed

# The precision of the published run, and of the device


def literal(*more):
    options = ["--model", "deepseek-v3", "--tokens", "14.8e12", "--accelerator", "h800", "--count", "2048", *more]
    result = CliRunner().invoke(command, options)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_known_model_is_planned_in_the_precision_that_it_was_trained_in():
    document = json.loads(literal("--json"))
    assert document["training"]["precision"] == "fp8"
    assert any("as DeepSeek-V3 was trained" in note for note in document["notes"])
    assert document["device_hours"]["low"] <= 2_664_000 <= document["device_hours"]["high"]
    asked = json.loads(literal("--precision", "bf16", "--json"))
    assert asked["training"]["precision"] == "bf16"
    assert asked["device_hours"]["median"] > document["device_hours"]["median"]
    assert "was trained" in " ".join(literal().split())


def test_plan_and_claim_tell_one_story():
    from fathom.cost.claimed_run import run_of
    from fathom.cost.claims import on_file
    from fathom.cost.estimate import estimate

    planned, run = json.loads(literal("--json"))["device_hours"], run_of(on_file("deepseek-v3"))[0]
    claimed = estimate(run).device_hours
    for end in ("low", "median", "high"):
        assert getattr(claimed, end) == pytest.approx(planned[end], rel=0.03)


@pytest.mark.parametrize("sequence_length", [0, 8192])
def test_llama_405b_lies_within_its_interval(sequence_length):
    """Llama 3.1 model card: 30.84M H100 hours."""
    training = {"tokens": 15.6e12} | ({"sequence_length": sequence_length} if sequence_length else {})
    plan = plan_from(
        {"model": {"name": "llama-3.1-405b"}, "training": training, "cluster": {"accelerator": "h100", "count": 16384}}
    )
    hours = Answer(plan).estimate.device_hours
    assert hours.low <= 30.84e6 <= hours.high


@pytest.mark.parametrize(
    ("device", "asked", "used"), [("a100", "fp8", "bf16"), ("v100", "fp8", "fp16"), ("v100", "bf16", "fp16")]
)
def test_a_precision_that_the_device_lacks_is_replaced_aloud(device, asked, used):
    plan = plan_from(
        {**SIZES, "training": {"tokens": 2e12, "precision": asked}, "cluster": {"accelerator": device, "count": 256}}
    )
    assert plan.run.precision == used
    assert any(f"has no {asked} units" in note and f"run in {used}" in note for note in plan.notes)


def test_wider_numbers_take_longer():
    def hours(precision):
        return Answer(plan_from(changed(SIZES, "training", precision=precision))).estimate.device_hours.median

    assert hours("fp32") == pytest.approx(16 * hours("bf16"))
    assert hours("tf32") == pytest.approx(2 * hours("bf16"))


# What cannot run


def test_what_no_layout_holds_is_not_priced():
    tables = changed(V3, "cluster", count=64)
    document = Answer(plan_from(tables)).to_dict()
    assert not document["feasible"]["fits"]
    assert document["flops"]["value"] > 0
    for name in ("device_hours", "cost_usd", "energy_mwh", "days", "co2_tonnes", "utilisation", "compute_optimal"):
        assert document[name] is None, name
    least = document["feasible"]["least_devices"]
    assert Answer(plan_from(changed(V3, "cluster", count=least))).to_dict()["feasible"]["fits"]
    output = " ".join(literal("--count", "64").split())
    assert "This cannot run: 64 x NVIDIA H800" in output
    assert "device-hours" not in output


def test_a_size_alone_is_held_against_all_memory_together():
    sized = {**SIZES, "model": {"total_parameters": 1e12, "active_parameters": 3e10}}
    document = Answer(plan_from({**sized, "cluster": {"accelerator": "a100", "count": 8}})).to_dict()
    assert not document["feasible"]["fits"]
    assert document["feasible"]["least_devices"] == 250  # 18 bytes x 1e12 over 0.9 x 80 GB


@pytest.mark.parametrize(("parameters", "count", "least"), [(7e9, 1, 2), (175e9, 8, 44)])
def test_a_size_is_held_by_the_rule_that_the_memory_table_states(parameters, count, least):
    """16-bit weights, 32-bit gradients and master copy, AdamW's two moments: 18 bytes a parameter."""
    sized = {"model": {"total_parameters": parameters}, "training": {"tokens": 2e12}}
    holds = Answer(plan_from({**sized, "cluster": {"accelerator": "a100", "count": count}})).holding
    assert holds.least_devices == least
    assert f"it takes at least {least} of them" in holds.why_not
    lean = {**sized, "training": {"tokens": 2e12, "optimizer": "sgd"}}
    assert Answer(plan_from({**lean, "cluster": {"accelerator": "a100", "count": least}})).holding.why_not == ""


def test_few_devices_for_a_large_model_are_no_wonder_and_are_doubted():
    tables = {"model": {"total_parameters": 20e9}, "training": {"tokens": 1e12}}
    few = Answer(plan_from({**tables, "cluster": {"accelerator": "a100-40gb", "count": 16}}))
    assert few.estimate.prediction.median == pytest.approx(0.67)
    assert any("held at 67%" in note for note in few.notes)
    assert any("days are more than any run on file" in note for note in few.notes)
    many = Answer(plan_from({**tables, "cluster": {"accelerator": "a100-40gb", "count": 512}}))
    assert not many.estimate.doubts


def test_no_lever_takes_less_than_one_device():
    tables = {"model": {"total_parameters": 1e9}, "training": {"tokens": 2e10}}
    answer = Answer(plan_from({**tables, "cluster": {"accelerator": "a100", "count": 1}}))
    assert {lever.name: lever.low_says for lever in answer.levers}["devices at once"] == "1"


def test_devices_left_open_are_as_many_as_hold_the_model():
    tables = {"model": {"name": "llama-3-70b"}, "training": {"tokens": 5e10}, "cluster": {"accelerator": "a100-40gb"}}
    document = Answer(plan_from(tables)).to_dict()
    assert document["feasible"]["fits"]
    assert document["memory"]["layouts_that_fit_count"] > 0


def test_published_runs_on_file_are_feasible():
    from fathom.cost.claimed_run import run_of
    from fathom.cost.claims import all_on_file
    from fathom.cost.feasible import holding

    for claim in all_on_file():
        found = run_of(claim) if claim.kind == "training" and claim.id != "v4-5.2m-leak" else None
        if found is not None and found[0].count:
            batch = max(4e6, found[0].count * found[0].length)
            assert not holding(found[0], batch, "adamw").why_not, claim.id


# What the text prints


def test_the_text_has_components_prefill_and_the_regulators_totals():
    output = " ".join(literal().split())
    for words in (
        "FLOPs: routed experts 47%",
        "prefill ",
        "with their margin of 30%",
        "6 P D",
        "As regulators count: the final run",
        "all in",
        "1e+23 FLOP passed",
        "1e+25 FLOP not passed",
        "1e+26 FLOP not passed",
    ):
        assert words in output


def test_a_date_before_every_price_is_said():
    document = json.loads(literal("--date", "2019-01-01", "--json"))
    assert any("no rent on file is of within a year of 2019-01-01: the earliest" in note for note in document["notes"])
    assert not any("no rent on file" in note for note in json.loads(literal("--date", "2025-01-15", "--json"))["notes"])


def test_labels_of_the_tornado_do_not_overlap():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    from fathom.cost.charts import _tornado

    answer = Answer(plan_from(V3))
    figure, axes = pyplot.subplots(figsize=(4.3, 4.2))
    _tornado(axes, answer.levers, answer.estimate.cost_usd.median)
    figure.canvas.draw()
    inside = axes.get_window_extent()
    for text in axes.texts:
        box = text.get_window_extent()
        assert inside.x0 <= box.x0, text.get_text()
        assert box.x1 <= inside.x1, text.get_text()
    pyplot.close(figure)


def test_a_service_names_its_precision_and_takes_the_devices_asked_for():
    tables = {
        "model": {"name": "deepseek-v3"},
        "training": {"tokens": 14.8e12},
        "cluster": {"accelerator": "h800", "count": 2048},
        "serving": {"devices": 32, "context": 4989},
    }
    serving = Answer(plan_from(tables)).to_dict()["serving"]
    assert (serving["devices"], serving["precision"]) == (32, "fp8")
    prefill = serving["prefill_tokens_per_second"]
    assert prefill["low"] < 4026 < prefill["high"]  # DeepSeek's own, without what its cache saved
    assert Answer(plan_from({**tables, "serving": {"precision": "bf16"}})).to_dict()["serving"]["precision"] == "bf16"


def test_a_service_is_planned_without_a_training():
    """DeepSeek's inference day: 73.7k input tokens a second a node, 56.3% of them from its cache."""
    tables = {"model": {"name": "deepseek-v3"}, "cluster": {"accelerator": "h800"}, "serving": {"context": 4989}}
    document = Answer(plan_from(tables)).to_dict()
    assert set(document) == {"model", "serving", "notes"}
    assert document["serving"]["devices"] == 32
    prefill = document["serving"]["prefill_tokens_per_second"]
    assert prefill["low"] < 73_700 * (1 - 0.563) / 8 < prefill["high"]
    eight_nodes = {**tables, "cluster": {"accelerator": "h800", "count": 64}}
    assert Answer(plan_from(eight_nodes)).to_dict()["serving"]["devices"] == 64


def test_the_plan_expects_of_a_published_service_what_the_comparison_says():
    from benchmarks.serving_roofline import PUBLISHED

    ours = next(one for one in PUBLISHED if one.phase == "prefill" and one.device == "h800")
    serving = {"devices": ours.devices, "context": ours.context, "precision": ours.precision}
    document = Answer(plan_from({**V3, "serving": serving})).to_dict()["serving"]
    assert document["prefill_tokens_per_second_limit"]["value"] == pytest.approx(ours.limit)
    assert document["prefill_tokens_per_second"]["median"] == pytest.approx(ours.expected)
    assert "an upper bound: by experts sent" in document["prefill_tokens_per_second_limit"]["method"]


def test_the_text_of_a_service_names_precision_and_bounds_and_eats_no_brackets(tmp_path):
    file = tmp_path / "plan.toml"
    file.write_text('[model]\nname = "llama-3.1-405b"\nlicence = 1\n[cluster]\naccelerator = "h100"\n[serving]\n')
    result = CliRunner().invoke(command, [str(file), "--context", "8192"])
    assert result.exit_code == 0, result.output
    output = " ".join(result.stdout.split())
    assert "Served in fp8 (assumed; [serving] precision says another) by 8 x h100" in output
    assert "'licence' in [model] has no part" in output
    assert "prefill at most" in output
    wide = ["--model", "llama-3.1-405b", "--accelerator", "h100", "--context", "8192", "--json"]
    file.write_text('[serving]\nprecision = "bf16"\ndevices = 8\n')
    document = json.loads(CliRunner().invoke(command, [str(file), *wide]).stdout)
    assert "cannot hold the model in bf16 (812 GB)" in document["serving"]["why"]


def test_the_hardware_way_of_a_plan_says_that_it_is_the_count():
    regulators = json.loads(literal("--json"))["regulators"]
    assert regulators["hardware_way"]["value"] == pytest.approx(regulators["counted"]["value"])
    assert "equals that and checks nothing" in regulators["hardware_way"]["method"]
    assert "no second opinion" in " ".join(literal().split())


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ("mi300x", r"the rent of AMD Instinct MI300X is not on file: scaled by 16-bit peak rate"),
        ("tpu-v5p", r"the rent of Google TPU v5p is not on file: scaled .* from that of Google TPU v"),
    ],
)
def test_a_rent_of_another_device_is_said_in_text_and_document(device, says):
    document = json.loads(literal("--accelerator", device, "--json"))
    assert len([note for note in document["notes"] if re.search(says, note)]) == 1
    assert re.search(says, " ".join(literal("--accelerator", device).split()))
    assert not any("is not on file" in note for note in json.loads(literal("--json"))["notes"])


def test_a_service_alone_says_whose_rent_it_is_priced_at():
    tables = {"model": {"name": "llama-3-8b"}, "cluster": {"accelerator": "h20"}, "serving": {"context": 4096}}
    assert any("the rent of NVIDIA H20 96GB is not on file" in note for note in Answer(plan_from(tables)).notes)


@pytest.mark.parametrize(
    ("model", "ratio"),
    # 2 x 128 heads x 128 over 512 + 64 numbers (arXiv:2412.19437, section 4.2); 32 heads over 8 (arXiv:2407.21783)
    [("deepseek-v3", 2 * 128 * 128 / 576), ("llama-3-8b", 32 / 8), ("llama-7b", 1)],
)
def test_the_cache_is_held_against_plain_multi_head_attention(model, ratio):
    tables = {"model": {"name": model}, "cluster": {"accelerator": "h800"}, "serving": {"context": 4096}}
    serving = Answer(plan_from(tables)).to_dict()["serving"]
    assert serving["kv_ratio_to_multi_head"]["value"] == pytest.approx(ratio)


def test_the_text_prices_both_phases_and_names_the_ratio_of_the_cache():
    output = " ".join(literal("--load", "1e6").split())
    for words in ("times less than plain multi-head attention", "a million input tokens", "a million decoded tokens",
                  "For 1M decoded tokens/s", "For 1M input tokens/s"):  # fmt: skip
        assert words in output
    assert "56.9 times less" in output


def test_the_regulators_totals_are_named_as_in_a_receipt():
    """The guidelines count neither ablations nor what failed; those stand in the all-in total alone."""
    from fathom.cost.omissions import of_every_run
    from fathom.cost.regulators import totals
    from fathom.cost.regulators_plan import COMPUTING

    told = json.loads(literal("--json"))["regulators"]
    assert set(totals({"final": 1.0})) <= set(told)
    assert set(COMPUTING) <= {line.name for line in of_every_run()}
    final = told["final_run"]["value"]
    assert told["regulators"]["value"] == pytest.approx(final)
    assert told["regulators"]["low"] == pytest.approx(0.7 * final)
    assert final < told["all"]["low"] < told["all"]["high"]
    assert set(told["not_counted"]) == {"ablation", "failed"}
    assert [flag["threshold_flop"] for flag in told["regulators"]["thresholds"]] == [1e23, 1e25, 1e26]


def test_a_threshold_within_the_margin_is_said():
    output = " ".join(literal("--tokens", "380e12").split())  # 9.9e25 FLOP, a hundredth below California's threshold
    assert "1e+26 FLOP not passed, but within the margin of 30%: California" in output
