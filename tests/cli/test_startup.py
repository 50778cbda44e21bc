"""`fathom --help` answers at once: it loads no heavy package. Its time is measured in `benchmarks/startup.py`."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"torch", "pydantic", "numpy", "rich", "scipy", "matplotlib", "transformers", "fathom.ledger", "fathom.cost"}


def modules_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint()\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["nonsense"]])
def test_help_loads_no_heavy_package(arguments):
    code = f"from fathom.cli import main; sys.argv = ['fathom', *{arguments!r}]\ntry: main()\nexcept SystemExit: pass"
    assert not HEAVY & modules_after(code)


def test_the_package_alone_loads_nothing_heavy():
    assert not HEAVY & modules_after("import fathom")


@pytest.mark.parametrize("module", ["fathom.ledger", "fathom.ledger.receipt", "fathom.cost", "fathom.cli.receipt"])
def test_ledgers_and_receipts_never_load_torch(module):
    assert "torch" not in modules_after(f"import {module}")


@pytest.mark.parametrize("arguments", [["chat", "smollm2", "--prompt", "x"], ["train", "notes"], ["eval", "run"]])
def test_a_verb_that_lacks_its_packages_says_which_command_adds_them(arguments):
    code = f"""
import sys
sys.modules["torch"] = None
sys.argv = ["fathom", *{arguments!r}]
from fathom.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 3
    assert "pip install 'fathom-lm[train]'" in done.stderr
    assert "Traceback" not in done.stderr
