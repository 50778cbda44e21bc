"""Joules never fall, never go below zero, and are called by the name of how they were got."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.errors import FathomError
from fathom.ledger import gpu, meters, rapl


def zone(root: Path, name: str, label: str, energy_uj: int | str, range_uj: int | None = 262_143_328_850) -> Path:
    """A powercap zone as the kernel lays it out."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{label}\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    if range_uj is not None:
        (folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return folder


def test_a_wrap_is_corrected_where_the_range_is_known(tmp_path):
    folder = zone(tmp_path, "intel-rapl:0", "package-0", 4_000_000_000, range_uj=4_100_000_000)
    (opened,) = rapl.open_zones(tmp_path)
    opened.sample()
    (folder / "energy_uj").write_text("10000\n")
    opened.sample()
    assert opened.joules == pytest.approx(100.01)
    assert opened.lost_samples == 0


@pytest.mark.parametrize("range_text", [None, "", "0"])
def test_a_wrap_of_unknown_range_is_lost_and_said_never_negative(tmp_path, range_text):
    folder = zone(tmp_path, "intel-rapl:0", "package-0", 4_000_000_000, range_uj=None)
    if range_text is not None:
        (folder / "max_energy_range_uj").write_text(range_text)
    (opened,) = rapl.open_zones(tmp_path)
    for reading in (4_000_000_000, 10_000, 1_010_000):
        (folder / "energy_uj").write_text(f"{reading}\n")
        opened.sample()
    assert opened.joules == pytest.approx(1.0)
    assert opened.lost_samples == 1


@given(readings=st.lists(st.one_of(st.integers(0, 2**40), st.just("")), max_size=20), known=st.booleans())
def test_whatever_a_counter_says_its_joules_never_fall(tmp_path_factory, readings, known):
    root = tmp_path_factory.mktemp("powercap")
    folder = zone(root, "intel-rapl:0", "package-0", 0, range_uj=2**32 if known else None)
    (opened,) = rapl.open_zones(root)
    before = 0.0
    for reading in readings:
        (folder / "energy_uj").write_text(f"{reading}")
        opened.sample()
        assert opened.joules >= before >= 0
        before = opened.joules


def test_packages_and_memory_are_counted_once(tmp_path):
    zone(tmp_path, "intel-rapl:0", "package-0", 1)
    zone(tmp_path, "intel-rapl:0:0", "core", 1)
    zone(tmp_path, "intel-rapl:0:1", "dram", 1)
    zone(tmp_path, "intel-rapl:1", "psys", 1)
    assert [opened.name for opened in rapl.open_zones(tmp_path)] == ["intel-rapl:0 package-0", "intel-rapl:0:1 dram"]


def test_a_zone_that_only_root_may_read_is_not_opened(tmp_path):
    (zone(tmp_path, "intel-rapl:0", "package-0", 1) / "energy_uj").unlink()
    assert rapl.open_zones(tmp_path) == []


def test_a_meter_reads_the_host_counters_where_they_are(tmp_path, monkeypatch):
    folder = zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    monkeypatch.setenv("FATHOM_POWERCAP", str(tmp_path))
    meter = meters.Meter().start()
    (folder / "energy_uj").write_text("8000000\n")
    reading = meter.read()
    meter.stop()
    assert (reading.low, reading.likely, reading.high, reading.method) == (3.0, 3.0, 3.0, "counter")
    odometer = next(device for device in meters.read_odometers().devices if device.device == "rapl")
    assert odometer.joules == 8.0


def test_a_wrap_shows_in_the_reading(tmp_path, monkeypatch):
    folder = zone(tmp_path, "intel-rapl:0", "package-0", 4_000_000_000, range_uj=None)
    monkeypatch.setenv("FATHOM_POWERCAP", str(tmp_path))
    meter = meters.Meter().start()
    (folder / "energy_uj").write_text("10000\n")
    reading = meter.read()
    meter.stop()
    assert (reading.likely, reading.lost_samples) == (0.0, 1)


def test_without_a_counter_the_energy_is_modelled_with_an_interval(tmp_path, monkeypatch):
    monkeypatch.setenv("FATHOM_POWERCAP", str(tmp_path / "nothing"))
    meter = meters.Meter().start()
    first = meter.read()
    second = meter.read()
    meter.stop()
    assert second.method == "modelled"
    assert 0 < second.low < second.likely < second.high
    assert second.likely >= first.likely


class Nvml(types.ModuleType):
    """A stand-in for pynvml with one GPU; a value of None is a call that the device does not support."""

    def __init__(self, energy_mj: int | None, power_mw: int | None, limit_mw: int | None) -> None:
        super().__init__("pynvml")
        self.energy_mj, self.power_mw, self.limit_mw = energy_mj, power_mw, limit_mw

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetCount(self) -> int:
        return 1

    def nvmlSystemGetDriverVersion(self) -> str:
        return "575.57.08"

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return "GPU-1234"

    def nvmlDeviceGetName(self, handle: int) -> bytes:
        return b"NVIDIA A100-SXM4-80GB"

    def _answer(self, value: int | None) -> int:
        if value is None:
            raise RuntimeError("Not Supported")
        return value

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        return self._answer(self.energy_mj)

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return self._answer(self.power_mw)

    def nvmlDeviceGetPowerManagementLimit(self, handle: int) -> int:
        return self._answer(self.limit_mw)


@pytest.fixture
def nvml(monkeypatch):
    def install(energy_mj=None, power_mw=None, limit_mw=None) -> Nvml:
        module = Nvml(energy_mj, power_mw, limit_mw)
        monkeypatch.setitem(sys.modules, "pynvml", module)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        return module

    return install


def gpu_meter() -> gpu.GpuMeter:
    (device,) = gpu.open_devices()
    return gpu.GpuMeter(device, modelled_share=(0.2, 0.75, 1.0))


def test_a_gpu_with_a_counter_is_read_from_it(nvml):
    module = nvml(energy_mj=1_000_000, power_mw=300_000, limit_mw=400_000)
    meter = gpu_meter()
    meter.sample(0.0)
    module.energy_mj = 1_500_000
    meter.sample(2.0)
    assert (meter.low, meter.likely, meter.high, meter.methods) == (500, 500, 500, {"counter"})


def test_a_gpu_without_a_counter_has_its_power_integrated_never_zero(nvml):
    module = nvml(power_mw=300_000, limit_mw=400_000)
    meter = gpu_meter()
    meter.sample(0.0)
    module.power_mw = 100_000
    meter.sample(2.0)
    assert meter.likely == pytest.approx(400)
    assert meter.low < 400 < meter.high
    assert meter.methods == {"integrated power"}


def test_a_gpu_that_tells_neither_is_modelled_from_its_limit(nvml):
    nvml(limit_mw=400_000)
    meter = gpu_meter()
    meter.sample(0.0)
    meter.sample(2.0)
    assert (meter.low, meter.likely, meter.high) == pytest.approx((160, 600, 800))
    assert meter.methods == {"modelled"}


def test_a_gpu_that_tells_nothing_is_refused(nvml):
    nvml()
    meter = gpu_meter()
    meter.sample(0.0)
    with pytest.raises(FathomError, match="A100-SXM4-80GB tells neither its energy, its power nor its power limit"):
        meter.sample(1.0)


def test_a_gpu_counter_that_fell_back_is_a_lost_sample_and_not_less_energy(nvml):
    module = nvml(energy_mj=1_000_000, power_mw=300_000, limit_mw=400_000)
    meter = gpu_meter()
    for seconds, energy_mj in ((0.0, 1_000_000), (1.0, 2_000_000), (2.0, 5_000), (3.0, 6_000)):
        module.energy_mj = energy_mj
        meter.sample(seconds)
    assert meter.likely >= 1001
    assert meter.lost_samples == 1


def test_the_odometer_of_a_gpu_has_its_uuid_and_driver(nvml):
    nvml(energy_mj=1_000_000, limit_mw=400_000)
    (odometer,) = [device for device in meters.read_odometers().devices if device.device == "gpu"]
    assert (odometer.id, odometer.driver, odometer.joules) == ("GPU-1234", "575.57.08", 1000.0)


@pytest.mark.parametrize(("listed", "count"), [(None, 1), ("", 0), ("0", 1), ("1", 0), ("GPU-12", 1), ("GPU-9", 0)])
def test_only_the_gpus_that_the_process_may_use_are_charged(nvml, monkeypatch, listed, count):
    nvml(energy_mj=1, limit_mw=1)
    if listed is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    assert len(gpu.visible(gpu.open_devices())) == count


def test_a_run_on_a_gpu_with_power_only_is_billed_for_it(nvml, monkeypatch, tmp_path):
    from runs_made_here import finished_run

    from fathom.ledger.receipt import receipt

    nvml(power_mw=300_000, limit_mw=400_000)
    monkeypatch.setenv("FATHOM_POWERCAP", str(tmp_path / "nothing"))
    bill = receipt(finished_run(tmp_path / "run"))
    assert bill["joules"]["method"] == "mixed"
    assert bill["hardware"]["billed"] == [{"device": "a100", "count": 1}]
    assert bill["joules"]["likely"] > 300 * bill["seconds"] * 0.9
