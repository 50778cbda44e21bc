"""Export-control arithmetic against the numbers that are publicly reckoned for these devices."""

from __future__ import annotations

import dataclasses

import pytest

from fathom.cost import export_limits
from fathom.cost.claims import on_file
from fathom.cost.docket_text import as_markdown
from fathom.cost.export_limits import rule_of_2023
from fathom.cost.hardware import accelerator
from fathom.cost.verdict import trial_dict, try_claim
from fathom.cost.verdict_rule import performance, table


@pytest.mark.parametrize(
    ("name", "expected"),
    # dense TFLOP/s x bits: 989.4 x 16, 312 x 16, 148 x 16 (or 296 TOPS x 8)
    [("h100", 15_830), ("h800", 15_830), ("a100", 4_992), ("a800", 4_992), ("h20", 2_368), ("v100", 2_000)],
)
def test_total_processing_performance(name: str, expected: float) -> None:
    assert performance(accelerator(name)) == pytest.approx(expected, rel=0.002)


def test_what_the_slower_devices_lose() -> None:
    rows = {row.device.name: row for row in table()}
    assert rows["h800"].rate == pytest.approx(1.0)
    assert rows["h800"].link == pytest.approx(400 / 900)
    assert rows["h20"].rate == pytest.approx(148 / 989.4, rel=0.01)
    assert rows["h20"].bandwidth > 1


@pytest.mark.parametrize(
    ("name", "of_2022", "of_2023"),
    [
        ("h100", "over", "over: 3A090.a"),
        ("h100-pcie", "over", "over: 3A090.a"),  # by the bridge that joins pairs
        ("a100", "over", "over: 3A090.a"),
        ("h800", "under by its link of 400 GB/s", "over: 3A090.a"),  # made for the rule of 2022, caught by that of 2023
        ("a800", "under by its link of 400 GB/s", "over: 3A090.a"),
        ("h20", "under", "under"),  # 2368 over 814 mm2 is 2.91, below 3.2
        ("v100", "under", "under"),  # 2000 over 815 mm2 is 2.45
        ("a10", "under", "under"),  # 2000 over 628.4 mm2 is 3.18: just below 3.2
        ("t4", "under", "under"),
        ("tpu-v4", "under", "over: 3A090.a, by its density"),  # 4400 over less than 600 mm2
        ("tpu-v5e", "under", "cannot be told: density not on file"),
        ("rtx-3090", "under", "under: not made for datacenters"),
        ("rtx-4090", "under by its link of 64 GB/s", "over: 3A090.a"),
    ],
)
def test_each_accelerator_is_over_or_under_the_limits(name: str, of_2022: str, of_2023: str) -> None:
    row = next(row for row in table() if row.device.name == name)
    assert (row.rule_of_2022, row.rule_of_2023) == (of_2022, of_2023)


def test_notified_devices_are_told_by_both_limits_of_density() -> None:
    device = dataclasses.replace(accelerator("h20"), die_mm2=700)
    assert rule_of_2023(device, 2368) == "over: 3A090.b, after notice"  # 3.38
    assert rule_of_2023(device, 2500) == "over: 3A090.b, after notice"
    assert rule_of_2023(dataclasses.replace(device, die_mm2=1600), 2500) == "under"  # 1.56
    assert "only from below" in rule_of_2023(dataclasses.replace(device, die_is_most=True), 2368)


def test_the_limits_are_those_of_the_claim() -> None:
    figures = on_file("export-controls").figures
    assert tuple(figures[name].number for name in ("limit_tpp", "limit_tpp_dense", "limit_tpp_notified")) == (
        export_limits.TPP,
        export_limits.TPP_DENSE,
        export_limits.TPP_NOTIFIED,
    )
    assert figures["limit_density"].number == export_limits.DENSITY
    assert figures["limit_link"].number == export_limits.LINK_GB_PER_SECOND


def test_the_table_is_in_markdown_and_in_the_document() -> None:
    trial = try_claim(on_file("export-controls"))
    assert "| rule of 2022 | rule of 2023 |" in as_markdown(trial)
    rows = {row["accelerator"]: row for row in trial_dict(trial)["accelerators"]}
    assert rows["h20"]["performance_density"]["low"] == pytest.approx(2368 / 814)
    assert rows["tpu-v5e"]["performance_density"] == {"low": None, "high": None}
    assert rows["h800"]["rule_of_2022"].startswith("under")
