"""The promise: `fathom plan` answers from a file or from options, and says in one sentence what cannot be meant."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest
from click.testing import CliRunner

from fathom.cli.plan import command
from fathom.cost.flops import training_flops
from fathom.cost.hardware import accelerator
from fathom.cost.models import known_model
from fathom.cost.optimal import LAW, compute_optimal
from fathom.cost.plan import Answer
from fathom.cost.planfile import plan_from, read_plan
from fathom.cost.run import Run
from fathom.errors import FathomError

V3 = {
    "model": {"name": "deepseek-v3"},
    "training": {"tokens": 14.8e12, "sequence_length": 4096, "precision": "fp8"},
    "cluster": {"accelerator": "H800", "count": 2048},
}
SIZES = {
    "model": {"total_parameters": 7e9, "active_parameters": 7e9},
    "training": {"tokens": 2e12},
    "cluster": {"accelerator": "NVIDIA A100-SXM4-80GB"},
}


def changed(tables, table, **keys):
    return {**tables, table: {**tables[table], **keys}}


@pytest.fixture(scope="module")
def answered():
    return Answer(plan_from(V3)).to_dict()


def test_a_file_is_answered_as_one_document(tmp_path):
    file = tmp_path / "plan.toml"
    file.write_text(
        "[model]\ntotal_parameters = 671e9\nactive_parameters = 37e9\nlayers = 61\nhidden_size = 7168\n"
        '[training]\ntokens = 14.8e12\nsequence_length = 4096\nprecision = "fp8"\n'
        '[cluster]\naccelerator = "H800"\ncount = 2048\n'
    )
    result = CliRunner().invoke(command, [str(file), "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["flops"]["unit"] == "FLOP"
    for name in ("device_hours", "energy_mwh", "cost_usd", "co2_tonnes", "days"):
        figure = document[name]
        assert 0 < figure["low"] < figure["median"] < figure["high"], name
        assert figure["unit"], name
        assert figure["method"], name


def test_only_sizes_tokens_and_device_are_needed():
    document = Answer(plan_from(SIZES)).to_dict()
    assert document["cluster"]["count_assumed"]
    assert document["cluster"]["count"] > 8
    assert document["memory"]["per_device"] is None
    assert document["serving"] is None


def test_options_and_file_agree_and_options_win(tmp_path):
    file = tmp_path / "plan.toml"
    file.write_text('[model]\nname = "llama-3-8b"\n[training]\ntokens = 1e12\n[cluster]\naccelerator = "h100"\n')
    from_file = CliRunner().invoke(command, [str(file), "--json"])
    options = ["--model", "llama-3-8b", "--tokens", "1e12", "--accelerator", "h100", "--json"]
    assert json.loads(from_file.stdout) == json.loads(CliRunner().invoke(command, options).stdout)
    doubled = json.loads(CliRunner().invoke(command, [str(file), "--tokens", "2e12", "--json"]).stdout)
    assert doubled["flops"]["value"] == pytest.approx(2 * json.loads(from_file.stdout)["flops"]["value"])


def test_people_can_read_it():
    result = CliRunner().invoke(
        command, ["--model", "deepseek-v3", "--tokens", "14.8e12", "--accelerator", "h800", "--count", "2048"]
    )
    assert result.exit_code == 0, result.output
    for word in (
        "device-hours",
        "US dollars",
        "Memory a device",
        "what would change the cost",
        "cache a token",
        "fitted on dense models",
        "not known",
    ):
        assert word in result.output


def test_flops_are_the_trainers_own(answered):
    """One set of formulas: the plan's total is `training_flops` of the same shape."""
    arch = known_model("deepseek-v3").architecture
    assert answered["flops"]["value"] == pytest.approx(training_flops(arch, 14.8e12, 4096).total)
    assert answered["flops_by_component"]["unit"] == "FLOP"
    assert sum(answered["flops_by_component"]["parts"].values()) == pytest.approx(answered["flops"]["value"])


def test_the_factors_of_the_utilisation_multiply_to_it_and_say_what_they_are(answered):
    factors = answered["utilisation_factors"]
    assert factors["unit"]
    assert math.prod(part["value"] for part in factors["parts"].values()) == pytest.approx(
        answered["utilisation"]["median"]
    )
    assert all(len(part["means"].split()) > 2 for part in factors["parts"].values())
    held = Answer(plan_from(changed(SIZES, "cluster", count=2))).to_dict()
    parts = {name: part["value"] for name, part in held["utilisation_factors"]["parts"].items()}
    assert math.prod(parts.values()) == pytest.approx(held["utilisation"]["median"])
    assert parts["limit_of_published_runs"] < 1
    assert {"start", "number_of_devices", "fp8_arithmetic"} <= set(factors["parts"])


def test_the_names_that_a_plan_knows_are_listed():
    document = json.loads(CliRunner().invoke(command, ["--list", "--json"]).stdout)
    text = CliRunner().invoke(command, ["--list"]).stdout
    for kind, name in (("models", "deepseek-v3"), ("accelerators", "h800")):
        assert name in [row["name"] for row in document[kind]]
        assert name in text


def test_the_chosen_layout_fits(answered):
    memory = answered["memory"]
    held = sum(value for name, value in memory["per_device"].items() if name != "unit")
    assert held <= memory["available"]["value"]
    assert memory["layouts_that_fit_count"] >= len(memory["layouts_that_fit"]) > 0


def test_the_tornado_is_sorted_and_starts_from_the_median(answered):
    widths = [abs(lever["usd"][1] - lever["usd"][0]) for lever in answered["tornado"]]
    assert widths == sorted(widths, reverse=True)
    middle = answered["cost_usd"]["median"]
    for lever in answered["tornado"]:
        assert min(lever["usd"]) <= middle * 1.001, lever["what"]
        assert max(lever["usd"]) >= middle * 0.999, lever["what"]


def test_a_load_takes_whole_groups_of_devices():
    serving = {"prompt_tokens": 4000, "output_tokens": 1000, "tokens_per_second": 1e6}
    served = Answer(plan_from({**V3, "serving": serving})).to_dict()["serving"]
    assert served["context"] == 5000
    load = served["at_load"]
    assert load["devices"]["median"] % served["devices"] == 0
    carried = load["devices"]["median"] * served["decode_tokens_per_second"]["median"]
    assert carried >= 1e6
    assert carried - 1e6 <= served["devices"] * served["decode_tokens_per_second"]["median"]
    assert load["usd_per_million_tokens"]["median"] == pytest.approx(
        served["usd_per_million_tokens"]["median"] * carried / 1e6, rel=1e-6
    )


def test_input_tokens_are_priced_busy_and_at_the_load():
    """Rent over tokens; at a load the prompts that belong to it are read by whole groups of devices of their own."""
    serving = {"prompt_tokens": 4000, "output_tokens": 1000, "tokens_per_second": 1e6}
    served = Answer(plan_from({**V3, "serving": serving})).to_dict()["serving"]
    read, busy = served["at_load"]["prefill"], served["usd_per_million_input_tokens"]["median"]
    assert read["tokens_per_second"] == pytest.approx(4e6)
    carried = read["devices"]["median"] * served["prefill_tokens_per_second"]["median"]
    assert 4e6 <= carried <= 4e6 + served["devices"] * served["prefill_tokens_per_second"]["median"]
    assert read["usd_per_million_tokens"]["median"] == pytest.approx(busy * carried / 4e6)
    assert busy < served["usd_per_million_tokens"]["median"]
    alone = Answer(plan_from({**V3, "serving": {"tokens_per_second": 1e6}})).to_dict()["serving"]["at_load"]["prefill"]
    assert alone["tokens_per_second"] == 1e6
    assert "assumed" in alone["method"]


def test_thresholds_of_regulators_are_flagged(answered):
    flags = answered["regulators"]["counted"]["thresholds"]
    assert [flag["passed"] for flag in flags] == [True, False, False]
    assert answered["regulators"]["architecture_way"]["value"] == pytest.approx(6 * 37.55e9 * 14.8e12, rel=1e-3)
    assert answered["regulators"]["ways_agree_within_margin"]


def test_no_dense_model_for_the_same_money_does_better():
    run = Run(total_parameters=8e9, active_parameters=8e9, tokens=15e12, device=accelerator("h100"), count=1024)
    best = compute_optimal(run)
    assert best.loss <= LAW.loss(8e9, 15e12)
    assert best.parameters > 8e9  # 15T tokens are far past the optimum of 8B
    assert best.tokens < 15e12


@pytest.mark.parametrize(
    ("total", "active", "tokens", "of_mixtures", "over_trained"),
    [(671e9, 37e9, 14.8e12, True, True), (8e9, 8e9, 15e12, False, True), (400e9, 400e9, 1e12, False, False)],
)
def test_the_alternative_says_what_its_law_does_not_know(total, active, tokens, of_mixtures, over_trained):
    run = Run(total_parameters=total, active_parameters=active, tokens=tokens, device=accelerator("h100"), count=2048)
    caveat = compute_optimal(run).to_dict()["caveat"]
    assert "fitted on dense models" in caveat
    assert ("mixture" in caveat) is of_mixtures
    assert ("cheaper to serve" in caveat) is over_trained


def test_the_scaling_law_has_its_optimum_where_the_paper_says():
    """arXiv:2404.10102: about 20 tokens a parameter is optimal at the compute of Chinchilla (5.88e23 FLOP)."""
    sizes = [10 ** (10 + step / 100) for step in range(200)]
    best = min(sizes, key=lambda size: LAW.loss(size, 5.88e23 / 6 / size))
    assert 10 < 5.88e23 / 6 / best / best < 40


def test_a_full_shape_is_counted_exactly():
    model = {"layers": 32, "hidden_size": 4096, "num_heads": 32, "num_kv_heads": 8, "intermediate_size": 14336,
             "vocab_size": 128256}  # fmt: skip
    plan = plan_from({**SIZES, "model": model})
    assert plan.run.total == pytest.approx(8.03e9, rel=1e-3)
    published = {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
                 "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256}  # fmt: skip
    assert plan_from({**SIZES, "model": {"config": published}}).run.flops == pytest.approx(plan.run.flops)


BAD = [
    (changed(V3, "cluster", accelerator="h8000"), r"'h8000' is not on file; the nearest names are h800"),
    (changed(V3, "cluster", accelerator="Cerebras CS-3"), r"'Cerebras CS-3' is not on file; known are .*h100.*tpu-v4"),
    (changed(V3, "model", name="deepseek-v33"), r"'deepseek-v33' is not on file; the nearest names are deepseek-v3"),
    (changed(V3, "training", tokens=14.8), r"tokens = 14.8 is questioned.*write trillions out"),
    (changed(V3, "training", tokens=14.8e21), r"tokens = 1.48e\+22 is questioned"),
    (changed(V3, "cluster", count=2e7), r"count = 2e\+07 is questioned"),
    ({**V3, "serving": {"tokens_per_second": 1e30}}, r"tokens_per_second = 1e\+30 is questioned"),
    (changed(V3, "training", tokens=-1e12), r"tokens = -1e\+12 cannot be"),
    (changed(V3, "training", tokens=float("nan")), r"tokens = nan is not a finite number"),
    (changed(V3, "training", tokens=float("inf")), r"tokens = inf is not a finite number"),
    (changed(V3, "training", tokens="14.8T"), r"tokens = '14.8T' is not a number"),
    (changed(V3, "training", sequence_length=4), r"sequence_length = 4 is questioned.*4096, not 4"),
    (changed(V3, "training", precision="fp9"), r"precision 'fp9' is not known; did you mean 'fp8'"),
    (changed(V3, "training", token=1e12), r"key 'token' in \[training\] is not known; did you mean 'tokens'"),
    (changed(V3, "training", optimizer="adamm"), r"optimizer = 'adamm' is not known"),
    (changed(V3, "cluster", count=0), r"count = 0 cannot be"),
    (changed(V3, "cluster", count=2.5), r"count = 2.5 cannot be: it must be a whole number"),
    (changed(SIZES, "model", layers=32.5), r"layers = 32.5 cannot be: it must be a whole number"),
    (changed(SIZES, "model", layers=320, hidden_size=40960), r"layers = 320 and hidden_size = 40960 are questioned"),
    (changed(SIZES, "model", layers=4, hidden_size=512), r"layers = 4 and hidden_size = 512 are questioned"),
    (changed(V3, "model", layers=40), r"layers = 40 is questioned: the named shape has 61"),
    (changed(V3, "training", precision="int8"), r"precision = 'int8' cannot be: training needs floating point"),
    (changed(SIZES, "training", tokens=1e9), r"is questioned: published runs lie between 0.5 and 61,000"),
    ({**SIZES, "model": {"total_parameters": 7e6}, "training": {"tokens": 1e12}}, r"and 61,000 .*, this is 142,857;"),
    (changed(SIZES, "model", total_parameters=7e6, active_parameters=7e6), r"7e\+06 active parameters is questioned"),
    (changed(SIZES, "model", total_parameters=70e9, active_parameters=7e6), r"a token uses one in 10,000"),
    (changed(SIZES, "training", tokens=1e16), r"is questioned"),
    (changed(SIZES, "training", batch_tokens=1e14), r"batch_tokens = 1e\+14 cannot exceed"),
    (changed(V3, "training", batch_tokens=10), r"batch_tokens = 10 is questioned: one sequence has 4096"),
    (changed(V3, "model", total_parameters=871e9), r"total_parameters = 8.71e\+11 is questioned: the named shape has"),
    (changed(SIZES, "model", active_parameters=70e9), r"cannot exceed model.total_parameters.*exchanged"),
    (changed(SIZES, "model", total_parameters=7, active_parameters=7), r"write billions out"),
    (changed(SIZES, "training", tokens=5e7), r"for 7e\+09 active parameters is questioned.*mixed up"),
    (changed(V3, "model", total_parameters=67e9), r"total_parameters = 6.7e\+10 is questioned: the named shape has"),
    ({**V3, "model": {}}, r"must give a known 'name', or 'total_parameters'"),
    ({**V3, "cluster": {}}, r"\[cluster\] lacks 'accelerator'"),
    ({**V3, "training": {}}, r"\[training\] lacks 'tokens'"),
    ({**V3, "model": "deepseek-v3"}, r"'model' must be a table"),
    ({**V3, "clusters": {}}, r"key 'clusters' in the plan is not known; did you mean 'cluster'"),
    (changed(V3, "training", date="soon"), r"is not a date"),
    (changed(V3, "cluster", price_per_hour=2), r"'price_per_hour' in \[cluster\] is not known.*accelerator, count"),
    (changed(V3, "cluster", counts=2), r"'counts' in \[cluster\] is not known; did you mean 'count'"),
    ({**V3, "serving": {"devices": 1.5}}, r"serving.devices = 1.5 cannot be: it must be a whole number"),
    ({**SIZES, "training": {}, "serving": {"context": 5000}}, r"a service is planned from the model's shape"),
    ({**V3, "serving": {"context": 4}}, r"serving.context = 4 is questioned"),
    ({**V3, "serving": {"tokens_per_second": -1}}, r"serving.tokens_per_second = -1 cannot be"),
    ({**V3, "serving": {"precision": "int9"}}, r"serving.precision = 'int9' is not known"),
    (changed(V3, "training", precision="fp3"), r"precision 'fp3' is not known; did you mean 'fp32', 'fp8' or 'fp4'"),
    ({**V3, "serving": {"precision": "fp3"}}, r"serving.precision = 'fp3' is not known.*did you mean .*'fp8' or 'fp4'"),
    ({**V3, "serving": {"accelerator": "h101"}}, r"'h101' is not on file"),
]


@pytest.mark.parametrize(("tables", "says"), BAD, ids=[says[:40] for _, says in BAD])
def test_what_cannot_be_meant_is_said_in_one_sentence(tables, says):
    with pytest.raises(FathomError, match=says) as caught:
        Answer(plan_from(tables)).to_dict()
    assert "\n" not in str(caught.value)


def test_the_longest_trained_and_the_sparsest_published_models_are_planned():
    """Qwen3-0.6B: 36T tokens, 60,400 a parameter; DeepSeek-V4 Pro: one parameter in 32."""
    qwen = {**SIZES, "model": {"total_parameters": 0.596e9}, "training": {"tokens": 36e12}}
    pro = {**SIZES, "model": {"total_parameters": 1.6e12, "active_parameters": 49e9}}
    assert plan_from(qwen).run.tokens == 36e12
    assert plan_from(pro).run.active == 49e9


def test_a_detail_of_a_model_without_a_part_in_the_answer_is_noted():
    plan = plan_from(changed(V3, "model", licence="[mit]"))
    assert plan.notes == ("'licence' in [model] has no part in the answer",)


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "there is no plan file"), (b"[model", "is not valid TOML"), (b"\xff\xfe", "is not a text file")],
)
def test_unreadable_files_are_named(tmp_path, content, says):
    file = tmp_path / "plan.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(FathomError, match=says):
        read_plan(file)


def test_nothing_to_plan_says_how():
    result = CliRunner().invoke(command, [])
    assert isinstance(result.exception, FathomError)
    assert "--model deepseek-v3" in str(result.exception)


def test_the_command_line_exits_with_two(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "fathom", "plan", str(tmp_path / "none.toml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_planning_loads_neither_torch_nor_scipy(tmp_path):
    code = (
        "import sys; from click.testing import CliRunner; from fathom.cli.plan import command;"
        "options = ['--model', 'deepseek-v3', '--tokens', '1e12', '--accelerator', 'h800', '--json'];"
        "r = CliRunner().invoke(command, options);"
        "assert r.exit_code == 0, r.output;"
        "print([m for m in ('torch', 'scipy', 'numpy', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_chart_is_drawn(tmp_path):
    chart = tmp_path / "plan.svg"
    options = ["--model", "llama-3-8b", "--tokens", "1e12", "--accelerator", "h100", "--chart", str(chart)]
    assert CliRunner().invoke(command, options).exit_code == 0
    assert "<svg" in chart.read_text()
    wrong = CliRunner().invoke(command, [*options[:-1], str(tmp_path / "plan.doc")])
    assert "must end in .svg" in str(wrong.exception)


def test_more_devices_than_any_run_had_is_said() -> None:
    few, many = (plan_from(changed(V3, "cluster", count=count)) for count in (2048, 1_000_000))
    assert not any("more than any run on file had" in note for note in Answer(few).notes)
    assert any("1,000,000 devices are more than any run on file had" in note for note in Answer(many).notes)
