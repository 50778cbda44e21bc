"""Export-control arithmetic against the numbers that are publicly reckoned for these devices."""

from __future__ import annotations

import pytest

from fathom.cost.hardware import accelerator
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
