"""Clocks and joules of a run: counters where the machine has them, power over time, else a model that says so.

The parts are the host's processors (RAPL, else the model of `fathom.cost.energy`) and each GPU the process may use. A
background thread samples, since power must be integrated and a RAPL counter wraps within the hour.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

from fathom.cost.energy import DRAW_SHARE, modelled_joules
from fathom.ledger import gpu, machine, rapl
from fathom.ledger.events import Joules, Method, Odometer, Odometers

COUNTER_PERIOD_SECONDS = 30.0  # a 262 kJ RAPL counter at 1 kW wraps in 4 minutes
POWER_PERIOD_SECONDS = 0.5
# Share of its power limit that a GPU draws when nothing of it can be read: from idle (about a fifth) to the limit.
MODELLED_GPU_SHARE = (0.2, DRAW_SHARE.median, 1.0)


def wall_time() -> str:
    """Now, UTC, to the microsecond."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def read_odometers() -> Odometers:
    """Every counter of the machine as it stands now."""
    zones = [
        Odometer(device="rapl", id=zone.name, name=machine.processor()[0], joules=_joules(zone))
        for zone in rapl.open_zones()
    ]
    return Odometers(
        boot_id=machine.boot_id(),
        host_id=machine.host_id(),
        monotonic_seconds=time.monotonic(),
        wall_time=wall_time(),
        devices=[*zones, *(gpu.odometer(device) for device in gpu.open_devices())],
    )


def _joules(zone: rapl.Zone) -> float | None:
    value = rapl.read_number(zone.path / "energy_uj")
    return None if value is None else value / 1e6


class Meter:
    """Seconds and joules since `start`; both only ever grow."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._zones = rapl.open_zones()
        self._gpus = [
            gpu.GpuMeter(device, modelled_share=MODELLED_GPU_SHARE) for device in gpu.visible(gpu.open_devices())
        ]
        self._cpu, self._cores = machine.cpu_row(), machine.usable_cores()
        self._thread: threading.Thread | None = None
        self._started = 0.0

    def start(self, since: float | None = None) -> Meter:
        """Begin, or have begun `since` that time.monotonic(): those seconds count, and their joules where modelled."""
        self._started = time.monotonic() if since is None else since
        self._sample()
        if self._zones or self._gpus:
            self._thread = threading.Thread(target=self._watch, name="fathom-meter", daemon=True)
            self._thread.start()
        return self

    def _watch(self) -> None:
        integrating = any(meter.methods != {"counter"} for meter in self._gpus)
        while not self._stop.wait(POWER_PERIOD_SECONDS if integrating else COUNTER_PERIOD_SECONDS):
            self._sample()
            integrating = any(meter.methods != {"counter"} for meter in self._gpus)

    def _sample(self) -> None:
        with self._lock:
            now = time.monotonic()
            for zone in self._zones:
                zone.sample()
            for meter in self._gpus:
                meter.sample(now)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def read(self) -> Joules:
        """Joules since the start, all parts together. Modelled cores count as busy: the run keeps others off them."""
        self._sample()
        with self._lock:
            return _total([*self._cpu_parts(), *self._gpu_parts()])

    def _cpu_parts(self) -> list[Joules]:
        if self._zones:
            joules, lost = sum(zone.joules for zone in self._zones), sum(zone.lost_samples for zone in self._zones)
            return [Joules(low=joules, likely=joules, high=joules, method="counter", lost_samples=lost)]
        modelled = modelled_joules(self._cpu, self.seconds, count=self._cores)
        return [Joules(low=modelled.low, likely=modelled.median, high=modelled.high, method="modelled")]

    def _gpu_parts(self) -> list[Joules]:
        return [
            Joules(
                low=part.low,
                likely=part.likely,
                high=part.high,
                method=_method(part.methods),
                lost_samples=part.lost_samples,
            )
            for part in self._gpus
        ]

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=2)


def _method(methods: set[Method]) -> Method:
    if not methods:
        return "unknown"
    return next(iter(methods)) if len(methods) == 1 else "mixed"


def _total(parts: list[Joules]) -> Joules:
    return Joules(
        low=sum(part.low for part in parts),
        likely=sum(part.likely for part in parts),
        high=sum(part.high for part in parts),
        method=_method({part.method for part in parts}),
        lost_samples=sum(part.lost_samples for part in parts),
    )


def difference(now: Joules, before: Joules) -> Joules:
    """What passed between two readings of one meter, never below zero."""
    return Joules(
        low=max(now.low - before.low, 0.0),
        likely=max(now.likely - before.likely, 0.0),
        high=max(now.high - before.high, 0.0),
        method=now.method,
        lost_samples=now.lost_samples - before.lost_samples,
    )
