"""What a run ran on and what code it was: written into the start event, before anything can change it."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

import fathom
from fathom.cost.hardware import find
from fathom.ledger import gpu
from fathom.ledger.chain import digest

# The packages whose version can change a result or a figure.
_TELLING_PACKAGES = (
    "torch", "numpy", "safetensors", "tokenizers", "transformers", "gguf", "datasets", "rensa", "ftfy", "pyarrow",
    "reasoning-gym", "rfc8785", "pydantic", "zeus", "nvidia-ml-py",
)  # fmt: skip
_TELLING_VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "WORLD_SIZE", "RANK", "PYTORCH_CUDA_ALLOC_CONF",
)  # fmt: skip
_MAX_DIRTY_FILES = 10


def environment() -> dict[str, Any]:
    """Interpreter, operating system, package versions and the variables that decide threads and devices."""
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": f"{platform.system()} {platform.release()}",
        "libc": " ".join(platform.libc_ver()).strip(),
        "packages": {name: version for name in _TELLING_PACKAGES if (version := _version(name))},
        "variables": {name: os.environ[name] for name in _TELLING_VARIABLES if name in os.environ},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def hardware() -> dict[str, Any]:
    """Processor, cores that this process may use, instruction sets that decide speed, memory."""
    cpu, flags = processor()
    return {
        "processor": cpu,
        "architecture": platform.machine(),
        "cores": usable_cores(),
        "cores_of_machine": psutil.cpu_count(logical=True),
        "bf16": "amx" if "amx_bf16" in flags else "avx512" if "avx512_bf16" in flags else "none",
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": [{"name": device.name, "id": device.id} for device in gpu.visible(gpu.open_devices())],
        "billed": billed_devices(),
    }


def billed_devices() -> list[dict[str, Any]]:
    """What is paid for by the hour, under the names of the cost room's tables.

    A rented GPU comes with its host, so where a run has GPUs only they are billed. A GPU that no table knows keeps the
    name its driver gives it, and has no price.
    """
    gpus = Counter(device.name for device in gpu.visible(gpu.open_devices()))
    if gpus:
        return [{"device": row.name if (row := find(name)) else name, "count": n} for name, n in sorted(gpus.items())]
    return [{"device": cpu_row(), "count": usable_cores()}]


def cpu_row() -> str:
    """The row of the hardware table that this processor's cores are taken for."""
    row = find(processor()[0])
    if row is not None and row.kind == "cpu":
        return row.name
    return "cpu-laptop" if Path("/sys/class/power_supply/BAT0").exists() else "cpu-server"


def usable_cores() -> int:
    """Logical cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def processor() -> tuple[str, frozenset[str]]:
    """Name and instruction-set flags of the processor, as the kernel tells them."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine(), frozenset()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
    return fields.get("model name", platform.machine()), frozenset(fields.get("flags", "").split())


def boot_id() -> str:
    """Which boot of this machine: a counter that went back to zero did so with a new one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return f"booted-at-{psutil.boot_time():.0f}"


def host_id() -> str:
    """A hash that tells two machines apart and names neither."""
    try:
        name = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except OSError:
        name = ""
    return digest((name or platform.node()).encode())[:23]


def code_version() -> dict[str, Any]:
    """Version, digest of all source files of the package; in a git checkout the commit and what differs from it."""
    root = Path(fathom.__file__).parent
    commit = _git(root, "rev-parse", "HEAD")
    status = _git(root, "status", "--porcelain", "--", ".") if commit else None
    return {
        "version": fathom.__version__,
        "source_sha256": code_digest(root),
        "commit": commit,
        "dirty": None if status is None else bool(status),
        "dirty_files": [line[3:] for line in (status or "").splitlines()[:_MAX_DIRTY_FILES]],
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def code_digest(root: Path) -> str:
    """`sha256:<hex>` over the names and contents of the package's source and data files, in order of name."""
    total = hashlib.sha256()
    files = [path for path in root.rglob("*") if path.suffix in {".py", ".toml", ".jinja", ".cpp", ".html", ".css"}]
    for path in sorted(files, key=lambda path: path.relative_to(root).as_posix()):
        total.update(f"{path.relative_to(root).as_posix()}\0{digest(path.read_bytes())}\n".encode())
    return f"sha256:{total.hexdigest()}"


def _git(root: Path, *arguments: str) -> str | None:
    """What git says of the package's folder, or None outside a checkout or without git."""
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.rstrip("\n") if done.returncode == 0 else None
