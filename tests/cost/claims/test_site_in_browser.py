"""The site in a real browser: the search and the order kept in the address work, on a phone nothing is cut off."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fathom.cost import site
from fathom.cost.claims import on_file
from fathom.cost.docket_charts import Chart
from fathom.cost.verdict import try_claim

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--virtual-time-budget=2000",
]  # fmt: skip
NAMES = ("deepseek-v3", "deepseek-r1", "gpt-3", "grok-1", "v4-5.2m-leak", "r1-648-h800")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


def dump(url: str, profile: Path, *flags: str) -> str:
    """The document after its script has run."""
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", *flags, "--dump-dom", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> str:
    patch = pytest.MonkeyPatch()
    patch.setattr(site, "among_runs", lambda trial: None)
    patch.setattr(site, "left_out", lambda trial: None)
    patch.setattr(site, "cost_over_size", lambda rows: Chart("<svg></svg>", "none"))
    folder = tmp_path_factory.mktemp("browser")
    site.write_site([try_claim(on_file(name)) for name in NAMES], folder)
    patch.undo()
    return (folder / "index.html").as_uri()


def shown(document: str) -> list[str]:
    """Claims whose rows are visible, in order."""
    rows = re.findall(r"<tr (data-verdict=.*?)>\s*<td><a href=\"claims/(.*?)\.html", document, re.DOTALL)
    return [name for attributes, name in rows if "hidden" not in attributes]


def test_search_and_order_come_from_the_address(index: str, tmp_path: Path) -> None:
    document = dump(f"{index}#q=h800&sort=-cost", tmp_path)
    assert shown(document)[:2] == ["deepseek-v3", "v4-5.2m-leak"]
    assert "gpt-3" not in shown(document)
    assert f"{len(shown(document))} of {len(NAMES)} claims shown" in document
    assert 'aria-sort="descending"' in document


def test_a_filter_by_verdict(index: str, tmp_path: Path) -> None:
    assert shown(dump(f"{index}#verdict=impossible", tmp_path)) == ["r1-648-h800"]


# Written into a copy of the page, whose own policy forbids scripts.
MEASURE = """<script>
const root = document.documentElement;
root.dataset.widths = innerWidth + " " + root.scrollWidth;
</script></body>"""


@pytest.mark.parametrize("name", ["deepseek-v3", "export-controls"])
def test_no_page_is_wider_than_a_phone(name: str, tmp_path: Path) -> None:
    page = site.claim_page(try_claim(on_file(name)), linked=True)
    copy = tmp_path / "page.html"
    copy.write_text(re.sub("script-src .*?; img", "script-src 'unsafe-inline'; img", page).replace("</body>", MEASURE))
    document = dump(copy.as_uri(), tmp_path / "profile", "--window-size=390,800")
    found = re.search(r'data-widths="(\d+) (\d+)"', document)
    assert found is not None
    window, needed = int(found[1]), int(found[2])
    assert window <= 500
    assert needed <= window
