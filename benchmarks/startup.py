"""How long `fathom --help` takes, beside the bare interpreter and beside an import of torch, in the same run.

`python -m benchmarks.startup` starts each in turn, twenty times over, and prints the medians.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.machine import machine

ROUNDS = 20
RESULT = Path(__file__).parent / "results" / "startup.json"


def commands() -> dict[str, list[str]]:
    """What is started, by name."""
    fathom = str(Path(sys.executable).with_name("fathom"))
    return {
        "fathom --help": [fathom, "--help"],
        "fathom --version": [fathom, "--version"],
        "bare interpreter": [sys.executable, "-c", "pass"],
        "import torch": [sys.executable, "-c", "import torch"],
    }


def seconds_of(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in commands()}
    for name, command in commands().items():
        seconds_of(command)  # the first start reads files from the disk
        times[name] = []
    for _ in range(ROUNDS):
        for name, command in commands().items():
            times[name].append(seconds_of(command))
    rows = [
        {
            "command": name,
            "median_seconds": statistics.median(taken),
            "least_seconds": min(taken),
            "most_seconds": max(taken),
        }
        for name, taken in times.items()
    ]
    for row in rows:
        least, median, most = (row[f"{end}_seconds"] for end in ("least", "median", "most"))
        print(f"{row['command']:18} {median:.3f} s ({least:.3f} to {most:.3f})")
    document = {
        "machine": machine(),
        "rounds": ROUNDS,
        "ours": rows[0]["median_seconds"],
        "peer": rows[3]["median_seconds"],
        "ratio": rows[0]["median_seconds"] / rows[3]["median_seconds"],
        "starts": rows,
    }
    RESULT.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
