"""Takes the picture of a report that README.md shows.

    python -m docs.picture runs/report.html        # writes docs/report.png

Needs Chromium (Debian's package `chromium`, or the program that the variable CHROMIUM names).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PICTURE = Path(__file__).resolve().parent / "report.png"
WIDTH, HEIGHT = 1040, 1500  # pixels: the head of the report, down to the problems solved
OFFLINE = ("--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync")


def take(report: Path, picture: Path = PICTURE) -> None:
    """Render the head of a report as a browser shows it."""
    browser = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("no Chromium here: install it, or name it in the variable CHROMIUM")
    with tempfile.TemporaryDirectory() as profile:
        command = [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--hide-scrollbars",
            *OFFLINE,
        ]
        command += [f"--user-data-dir={profile}", f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={picture}"]
        subprocess.run([*command, report.resolve().as_uri()], check=True, capture_output=True, timeout=120)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m docs.picture REPORT.html")
    take(Path(sys.argv[1]))
