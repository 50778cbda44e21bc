"""The host's energy counters (RAPL through Linux powercap), wraps and unreadable zones included.

Source: the kernel's Documentation/power/powercap: `energy_uj` counts up to `max_energy_range_uj` and starts again at 0.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


def powercap_root() -> Path:
    """Where the zones are; `FATHOM_POWERCAP` points elsewhere (a container's mount, a test's stand-in)."""
    return Path(os.environ.get("FATHOM_POWERCAP", POWERCAP))


@dataclass
class Zone:
    """One RAPL zone as a counter that never goes back: joules since the first sample."""

    path: Path
    name: str
    max_range_uj: int | None
    joules: float = 0.0
    lost_samples: int = 0
    _last_uj: int | None = field(default=None, repr=False)

    def sample(self) -> None:
        """Add what passed since the last sample. A fall is a wrap: corrected where the range is known, else lost."""
        now_uj = read_number(self.path / "energy_uj")
        if now_uj is None:
            self.lost_samples += self._last_uj is not None
            self._last_uj = None
            return
        if self._last_uj is not None:
            self._add(now_uj - self._last_uj)
        self._last_uj = now_uj

    def _add(self, difference_uj: int) -> None:
        if difference_uj < 0 and self.max_range_uj:
            difference_uj += self.max_range_uj
        if difference_uj < 0:
            self.lost_samples += 1
            return
        self.joules += difference_uj / 1e6


def open_zones(root: Path | None = None) -> list[Zone]:
    """The outermost readable zones: whole packages (which hold their cores), and memory where it is counted apart.

    `psys` (the whole board) is left out where packages are there, for it would count them twice.
    """
    root = powercap_root() if root is None else root
    zones = []
    for path in sorted(root.glob("intel-rapl:*")):
        name = _name(path)
        outermost = path.name.count(":") == 1
        if name is None or read_number(path / "energy_uj") is None or not (outermost or name == "dram"):
            continue
        zones.append(Zone(path, f"{path.name} {name}", read_number(path / "max_energy_range_uj") or None))
    packages = [zone for zone in zones if not zone.name.endswith(" psys")]
    return packages or zones


def _name(path: Path) -> str | None:
    try:
        return (path / "name").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None


def read_number(path: Path) -> int | None:
    """The non-negative integer in a file, or None where it cannot be read (RAPL is often root's alone)."""
    try:
        value = int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return value if value >= 0 else None
