"""The promise: devices are found under the names people write, every row has its source, prices are a history."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from fathom.cost.hardware import accelerator, accelerators, canonical_precision, find
from fathom.cost.prices import history, price
from fathom.errors import FathomError


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("NVIDIA H100 SXM5 80GB (Blue Vela)", "h100"),
        ("NVIDIA A100 40GB (p4d)", "a100-40gb"),
        ("NVIDIA A100-40G", "a100-40gb"),
        ("A100 80GB", "a100"),
        ("Google TPU v4", "tpu-v4"),
        ("NVIDIA RTX 4090 (Vast.ai)", "rtx-4090"),
        ("h800", "h800"),
        ("GH200", "gh200"),
        ("AMD EPYC 9R14", "cpu-epyc-genoa"),
        ("Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", "cpu-xeon-sapphire-rapids"),
        ("H 100", "h100"),
        ("h_100", "h100"),
        ("MI-300 X", "mi300x"),
        ("TPU v 5p", "tpu-v5p"),
    ],
)
def test_devices_are_found_as_people_write_them(written, name):
    assert accelerator(written).name == name


@pytest.mark.parametrize(("written", "nearest"), [("h8000", "h800"), ("a1000", "a100"), ("tpu-v44", "tpu-v4")])
def test_an_unknown_device_names_the_nearest(written, nearest):
    with pytest.raises(FathomError, match=f"not on file; the nearest names are.*{nearest}"):
        accelerator(written)


def test_nothing_is_found_in_nothing():
    assert find("") is None
    assert find("abacus") is None


def test_the_table_is_wide_and_whole():
    rows = accelerators().values()
    assert len([row for row in rows if row.kind != "cpu"]) >= 20
    assert {"v100", "a100", "h100", "h800", "h20", "a800", "gb200", "mi250x", "mi300x", "tpu-v4", "tpu-v6e"} <= set(
        accelerators()
    )
    for row in rows:
        assert row.source_title, row.name
        assert row.source_url.startswith("https://"), row.name
        assert min(row.tflops.values()) > 0, row.name
        assert min(row.memory_gb, row.memory_gb_per_second, row.power_watts) > 0, row.name
        assert len(row.released) == 7, row.name


def test_a_row_says_whether_its_source_was_read():
    assert accelerator("mi300x").source == accelerator("mi300x").source_title
    assert "not read; seen in: a reseller's copy" in accelerator("h100").source
    assert accelerator("h100-64gb").source.endswith("not read; seen in: nothing, from memory")
    with pytest.raises(FathomError, match="seen_in goes with seen = false"):
        replace(accelerator("mi300x"), seen_in="a blog")


def test_rates_are_of_the_whole_device_and_dense():
    """Twice a core's for a Trainium; no 8-bit rate above twice the 16-bit one, as one with sparsity would be."""
    assert accelerator("trainium").tflops["bf16"] == 190
    for row in accelerators().values():
        half = row.peak_flops("bf16")
        assert row.tflops.get("fp8", 0) <= 2.05 * half, row.name
        assert row.tflops.get("tf32", 0) <= 1.01 * half, row.name


def test_names_and_aliases_are_unambiguous():
    seen: dict[str, str] = {}
    for row in accelerators().values():
        for alias in {row.name, row.title.lower(), *row.aliases}:
            assert seen.setdefault(alias, row.name) == row.name, alias


@pytest.mark.parametrize(
    ("lesser", "whole", "same", "cut"),
    [("h800", "h100", "bf16", "link_gb_per_second"), ("a800", "a100", "bf16", "link_gb_per_second")],
)
def test_export_versions_keep_their_rate_and_lose_their_link(lesser, whole, same, cut):
    one, other = accelerator(lesser), accelerator(whole)
    assert one.tflops[same] == other.tflops[same]
    assert getattr(one, cut) < getattr(other, cut)


def test_a_missing_precision_falls_back_to_the_next_wider():
    assert accelerator("v100").peak_flops("bf16") == 125e12
    assert accelerator("a100").peak_flops("fp8") == 312e12
    assert accelerator("h100").peak_flops("fp8") == 1978.9e12


@pytest.mark.parametrize(
    ("written", "means"), [("mixed (amp)", "bf16"), ("pure bf16", "bf16"), ("bfloat16", "bf16"), ("FP8", "fp8")]
)
def test_precision_as_people_write_it(written, means):
    assert canonical_precision(written) == means


def test_an_unknown_precision_suggests_one():
    with pytest.raises(FathomError, match="did you mean 'bf16'"):
        canonical_precision("bf17")


def test_every_price_has_its_date_and_source():
    for row in history():
        date.fromisoformat(row.date)
        assert row.source_title
        assert row.source_url.startswith("https://")
        assert row.accelerator in accelerators()
        assert row.kind in ("on-demand", "contract", "stated")
        assert 0 < row.usd_per_hour < 50
    assert [row.date for row in history()] == sorted(row.date for row in history())


def test_prices_of_a_day_and_of_today_differ():
    then, now = price("v100", "2024-06-30"), price("v100")
    assert then.usd_per_hour.median > now.usd_per_hour.median
    assert price("h800", "2024-12-27").usd_per_hour.median == 2.0


def test_a_device_without_a_price_says_from_which_it_was_scaled():
    found = price("gb300")
    assert "is not on file: scaled by 16-bit peak rate" in found.source
    assert "B200" in found.source
    ratio = accelerator("gb300").peak_flops() / accelerator("b200").peak_flops()
    assert found.usd_per_hour.median == pytest.approx(price("b200").usd_per_hour.median * ratio)
    assert (
        found.usd_per_hour.high / found.usd_per_hour.low
        > price("b200").usd_per_hour.high / price("b200").usd_per_hour.low
    )


def test_a_core_is_a_core():
    assert price("cpu-xeon-sapphire-rapids").usd_per_hour.median == price("cpu-server").usd_per_hour.median


def test_a_bad_date_is_named():
    with pytest.raises(FathomError, match="2024-12-27"):
        price("h100", "last year")
