"""Energy of the GPUs: the device's own counter, else its power integrated over time, else its power limit as a model.

NVIDIA devices are read through `nvidia-ml-py`, AMD devices through `zeus`. NVML states power to within 5% (its
documentation of nvmlDeviceGetPowerUsage), which is the interval given to integrated power.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from fathom.errors import FathomError
from fathom.ledger.events import Method, Odometer

POWER_READING_ERROR = 0.05  # NVML, nvmlDeviceGetPowerUsage: "accurate to within +/- 5% of current power draw"
AMD_DRIVER = Path("/dev/kfd")


class Device(Protocol):
    """What a GPU can tell; a call may raise any exception of its library, which means that it cannot tell."""

    id: str
    name: str
    driver: str

    def energy_joules(self) -> float: ...
    def power_watts(self) -> float: ...
    def limit_watts(self) -> float: ...


class NvidiaDevice:
    def __init__(self, nvml, index: int, driver: str) -> None:
        self._nvml, self._handle, self.driver = nvml, nvml.nvmlDeviceGetHandleByIndex(index), driver
        self.id = _text(nvml.nvmlDeviceGetUUID(self._handle))
        self.name = _text(nvml.nvmlDeviceGetName(self._handle))

    def energy_joules(self) -> float:
        return self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1e3

    def power_watts(self) -> float:
        return self._nvml.nvmlDeviceGetPowerUsage(self._handle) / 1e3

    def limit_watts(self) -> float:
        return self._nvml.nvmlDeviceGetPowerManagementLimit(self._handle) / 1e3


class ZeusDevice:
    """A GPU behind zeus's common interface (AMD)."""

    driver = ""

    def __init__(self, gpu, index: int) -> None:
        self._gpu, self.name = gpu, gpu.get_name()
        self.id = f"amd-{index}"

    def energy_joules(self) -> float:
        if not self._gpu.supports_get_total_energy_consumption():
            raise OSError("no energy counter")
        return self._gpu.get_total_energy_consumption() / 1e3

    def power_watts(self) -> float:
        return self._gpu.get_instant_power_usage() / 1e3

    def limit_watts(self) -> float:
        return self._gpu.get_power_management_limit() / 1e3


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def open_devices() -> list[Device]:
    """Every GPU of this machine that its library tells of; none where there is no library or no GPU."""
    return [*_nvidia_devices(), *_amd_devices()]


def _nvidia_devices() -> list[Device]:
    try:
        nvml = importlib.import_module("pynvml")
        nvml.nvmlInit()
    except Exception:  # no library, no driver, no device: each means that there is nothing to read
        return []
    driver = _text(nvml.nvmlSystemGetDriverVersion())
    return [NvidiaDevice(nvml, index, driver) for index in range(nvml.nvmlDeviceGetCount())]


def _amd_devices() -> list[Device]:
    if not AMD_DRIVER.exists():
        return []
    try:
        gpus = importlib.import_module("zeus.device").get_gpus()
    except Exception:  # as above: the library's own errors say only that nothing can be read
        return []
    return [ZeusDevice(gpu, index) for index, gpu in enumerate(gpus.gpus)]


def visible(devices: list[Device]) -> list[Device]:
    """Those that CUDA_VISIBLE_DEVICES (numbers or UUIDs) leaves to this process."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return devices
    chosen = []
    for word in filter(None, (part.strip() for part in listed.split(","))):
        if word.isdigit() and int(word) < len(devices):
            chosen.append(devices[int(word)])
        else:
            chosen.extend(device for device in devices if not word.isdigit() and device.id.startswith(word))
    return chosen


def odometer(device: Device) -> Odometer:
    """The device's running total as it stands."""
    return Odometer(
        device="gpu", id=device.id, name=device.name, driver=device.driver,
        joules=_ask(device.energy_joules), power_limit_watts=_ask(device.limit_watts),
    )  # fmt: skip


def _ask(question) -> float | None:
    """A device's answer, or None where it has none. Libraries raise their own types, so every exception counts."""
    try:
        value = float(question())
    except Exception:
        return None
    return value if value >= 0 else None


@dataclass
class GpuMeter:
    """Joules of one GPU since the meter was made: a sum that never goes back."""

    device: Device
    modelled_share: tuple[float, float, float]  # (low, likely, high) share of the power limit, where nothing is read
    low: float = 0.0
    likely: float = 0.0
    high: float = 0.0
    lost_samples: int = 0
    methods: set[Method] = field(default_factory=set)
    _last_joules: float | None = None
    _last_watts: float | None = None
    _last_seconds: float | None = None

    def sample(self, seconds: float) -> None:
        """Account for the time since the last sample; `seconds` is a monotonic clock's."""
        passed = 0.0 if self._last_seconds is None else max(seconds - self._last_seconds, 0.0)
        joules = _ask(self.device.energy_joules)
        watts = None if joules is not None else _ask(self.device.power_watts)
        if self._last_seconds is not None:
            self._account(joules, watts, passed)
        self._last_joules, self._last_watts, self._last_seconds = joules, watts, seconds

    def _account(self, joules: float | None, watts: float | None, passed: float) -> None:
        if joules is not None and self._last_joules is not None and joules >= self._last_joules:
            self._add("counter", *[joules - self._last_joules] * 3)
            return
        # A counter that fell back (driver reloaded, device reset) or went away: that stretch is lost to the counter.
        self.lost_samples += self._last_joules is not None
        if watts is not None and self._last_watts is not None:
            mean = (watts + self._last_watts) / 2 * passed
            self._add("integrated power", mean * (1 - POWER_READING_ERROR), mean, mean * (1 + POWER_READING_ERROR))
            return
        limit = _ask(self.device.limit_watts)
        if limit is None:
            raise FathomError(
                f"the GPU {self.device.name} tells neither its energy, its power nor its power limit, so a run on it "
                "would have no bill; hide it with CUDA_VISIBLE_DEVICES, or mend the driver"
            )
        self._add("modelled", *(share * limit * passed for share in self.modelled_share))

    def _add(self, method: Method, low: float, likely: float, high: float) -> None:
        self.low, self.likely, self.high = self.low + low, self.likely + likely, self.high + high
        self.methods.add(method)
