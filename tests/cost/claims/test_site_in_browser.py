"""The site in a real browser: the search and the order kept in the address work, on a phone nothing is cut off."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

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
    assert shown(dump(f"{index}#verdict=implausible", tmp_path)) == ["r1-648-h800"]


# A window cannot be made as narrow as a phone, a frame in it can; the frame's page is measured from outside.
FRAME = """<!DOCTYPE html><iframe id="phone" width="{width}" height="700" style="border:0"></iframe><script>
const phone = document.getElementById("phone");
phone.onload = () => {{
  const root = phone.contentDocument.documentElement;
  const button = phone.contentDocument.querySelector('button[data-key="cost"]');
  if (button) {{
    const box = button.getBoundingClientRect();
    button.click();
    const first = phone.contentDocument.querySelector("#docket tbody a").getAttribute("href");
    document.documentElement.dataset.sorted = Math.floor(box.left) + " " + Math.ceil(box.right) + " " + first;
  }}
  const letters = Array.from(phone.contentDocument.querySelectorAll("figure svg text"));
  const heights = letters.map((text) => text.getBoundingClientRect().height);
  document.documentElement.dataset.letters = Math.round(Math.min(...heights, 99));
  document.documentElement.dataset.widths = phone.contentWindow.innerWidth + " " + root.scrollWidth;
}};
phone.srcdoc = {page};
</script>"""


def widths(page: str, width: int, tmp_path: Path) -> tuple[int, int]:
    """Width of the window that `page` gets and the width that it needs."""
    found = re.search(r'data-widths="(\d+) (\d+)"', in_frame(page, width, tmp_path))
    assert found is not None
    return int(found[1]), int(found[2])


def in_frame(page: str, width: int, tmp_path: Path) -> str:
    """The document around a frame of `width` that shows `page`, after its scripts have run."""
    frame = tmp_path / "frame.html"
    source = json.dumps(page).replace("</", "<\\/")
    frame.write_text(FRAME.format(width=width, page=source), encoding="utf-8")
    return dump(frame.as_uri(), tmp_path / "profile")


@pytest.mark.parametrize("width", [320, 375, 1000])
@pytest.mark.parametrize("name", ["deepseek-v3", "export-controls", "gpt-3"])
def test_no_page_is_wider_than_a_phone_or_a_desk(name: str, width: int, tmp_path: Path) -> None:
    page = site.claim_page(try_claim(on_file(name)), linked=True)
    assert widths(page, width, tmp_path) == (width, width)


def test_charts_can_be_read_on_a_phone_and_are_scrolled_in_their_own_box(tmp_path: Path) -> None:
    """The box of a letter is a third higher than its type size: 15 for type of 11 pixels."""
    page = site.claim_page(try_claim(on_file("deepseek-v3")), linked=True)
    found = re.search(r'data-letters="(\d+)"', in_frame(page, 320, tmp_path))
    assert found is not None
    assert 15 <= int(found[1]) < 99
    assert widths(page, 320, tmp_path) == (320, 320)


@pytest.mark.parametrize("width", [320, 375])
def test_the_index_is_no_wider_than_a_phone(index: str, width: int, tmp_path: Path) -> None:
    page = Path(unquote(urlsplit(index).path)).read_text(encoding="utf-8")
    assert widths(page, width, tmp_path) == (width, width)


def test_a_phone_sorts_by_the_buttons_above_the_rows(index: str, tmp_path: Path) -> None:
    page = Path(unquote(urlsplit(index).path)).read_text(encoding="utf-8")
    found = re.search(r'data-sorted="(-?\d+) (-?\d+) ([^"]*)"', in_frame(page, 320, tmp_path))
    assert found is not None
    assert 0 <= int(found[1]) < int(found[2]) <= 320
    assert found[3] == "claims/gpt-3.html"  # the dearest; unsorted, the implausible one comes first
