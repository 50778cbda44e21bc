"""The static site: every link leads somewhere, nothing is fetched, foreign text stays text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest

from fathom.cost import site
from fathom.cost.claims import names, on_file
from fathom.cost.docket import trials
from fathom.cost.docket_charts import Chart, among_runs, cost_over_size, left_out
from fathom.cost.efficiency import published_runs
from fathom.cost.verdict import try_claim
from fathom.cost.verdict_physics import published


class Page(HTMLParser):
    """Identifiers, links and everything that a browser would fetch by itself."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        if "id" in values:
            self.ids.append(values["id"])
        if tag == "a":
            self.links.append(values.get("href", ""))
        if tag in ("img", "script", "iframe", "link", "source", "object", "embed"):
            self.fetched.append(values.get("src", "") or values.get("href", "") or values.get("data", ""))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The whole site, charts left out: drawing a hundred takes half a minute, and they are tried below."""
    patch = pytest.MonkeyPatch()
    patch.setattr(site, "among_runs", lambda trial: None)
    patch.setattr(site, "left_out", lambda trial: None)
    patch.setattr(site, "cost_over_size", lambda rows: Chart("<svg></svg>", "none"))
    made = tmp_path_factory.mktemp("docket") / "site"
    assert site.write_site(trials(), made) == len(names()) + 2
    yield made
    patch.undo()


def pages(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.html"))


def test_every_link_inside_the_site_works(folder: Path) -> None:
    read = {path: Page(path.read_text(encoding="utf-8")) for path in pages(folder)}
    inside = 0
    for path, page in read.items():
        for link in page.links:
            if link.startswith("https://"):
                continue
            target, _, anchor = unquote(link).partition("#")
            file = (path.parent / target).resolve() if target else path
            assert file.is_file(), f"{path.name}: {link}"
            assert not anchor or anchor in read[file].ids, f"{path.name}: {link}"
            inside += 1
    assert inside > 10 * len(names())


def test_every_page_is_reached_from_the_index(folder: Path) -> None:
    index = Page((folder / "index.html").read_text(encoding="utf-8"))
    assert {f"claims/{name}.html" for name in names()} <= set(index.links)
    assert "about.html" in index.links


def test_nothing_is_fetched_and_scripts_run_only_on_the_index(folder: Path) -> None:
    for path in pages(folder):
        text = path.read_text(encoding="utf-8")
        page = Page(text)
        assert [source for source in page.fetched if source] == [], path.name
        assert "default-src 'none'" in text
        assert page.tags.count("script") == (1 if path.name == "index.html" else 0)
        assert "@import" not in text
        assert "url(http" not in text


def test_pages_are_made_for_phones_and_for_readers_of_screens(folder: Path) -> None:
    for path in pages(folder):
        text = path.read_text(encoding="utf-8")
        page = Page(text)
        assert 'name="viewport" content="width=device-width' in text
        assert '<html lang="en">' in text
        assert page.tags.count("h1") == 1
        assert len(page.ids) == len(set(page.ids)), path.name


def test_each_claim_lies_beside_its_page_as_json_and_markdown(folder: Path) -> None:
    document = json.loads((folder / "claims" / "deepseek-v3.json").read_text(encoding="utf-8"))
    assert document["verdict"] == "consistent"
    assert (folder / "claims" / "deepseek-v3.md").read_text(encoding="utf-8").startswith("# DeepSeek-V3")


def test_text_of_a_claim_stays_text() -> None:
    hostile = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    claim = replace(on_file("grok-1"), title=hostile, statement=hostile, made_by=hostile, context=hostile)
    page = Page(text := site.claim_page(try_claim(claim)))
    assert "<script>" not in text
    assert "img" not in page.tags


@pytest.mark.parametrize("name", ["deepseek-v3", "bloom-176b"])
def test_charts_are_whole_svg_with_words(name: str) -> None:
    trial = try_claim(on_file(name))
    for chart in (among_runs(trial), left_out(trial)):
        assert chart is not None
        tree = ElementTree.fromstring(chart.svg)
        assert tree.attrib["role"] == "img"
        assert tree.attrib["aria-label"].startswith(name)
        assert len(chart.caption) > 40
        assert "this claim" in chart.svg or "price itself" in chart.svg


def test_charts_are_the_same_each_time_and_their_identifiers_do_not_clash() -> None:
    trial = try_claim(on_file("deepseek-v3"))
    first, second = among_runs(trial), left_out(trial)
    assert first is not None
    assert second is not None
    assert among_runs(trial) == first
    page = Page(site.claim_page(trial))
    assert len(page.ids) == len(set(page.ids))


def test_a_claim_without_hours_has_no_chart() -> None:
    trial = try_claim(on_file("grok-1"))
    assert among_runs(trial) is None
    assert left_out(trial) is None


def test_cost_over_size_shows_every_priced_run() -> None:
    from fathom.cost.docket import row

    rows = [row(try_claim(on_file(name))) for name in ("deepseek-v3", "gpt-3", "grok-1")]
    assert cost_over_size(rows).caption.startswith("2 training claims")


def test_a_file_in_place_of_the_folder_is_said(tmp_path: Path) -> None:
    from fathom.errors import FathomError

    path = tmp_path / "taken"
    path.write_text("x", encoding="utf-8")
    with pytest.raises(FathomError, match="is a file"):
        site.write_site([], path)


def test_a_claim_is_found_by_every_name_of_its_accelerators_and_their_makers() -> None:
    searched = {
        name: site._searched(try_claim(on_file(name))) for name in ("export-controls", "deepseek-v3", "palm-540b")
    }
    for word in ("h800", "h20", "huawei", "ascend"):
        assert word in searched["export-controls"], word
    for word in ("nvidia", "h800", "fp8", "reference"):
        assert word in searched["deepseek-v3"], word
    assert "google" in searched["palm-540b"]


def test_how_to_cite_leads_to_the_full_address() -> None:
    page = site.claim_page(try_claim(on_file("deepseek-v3")), linked=True)
    assert "the address that the browser shows" in page
    assert '<a href="deepseek-v3.html">copy this link</a>' in page


def test_which_runs_are_counted_is_said_where_their_number_is_shown(folder: Path) -> None:
    judged, learned = len(published().values), len(published_runs())
    about = (folder / "about.html").read_text(encoding="utf-8")
    assert f"predicted from more runs, {learned}" in about
    assert f"those\n{judged} and others on file" in about
    assert 'href="about.html#rulers"' in (folder / "index.html").read_text(encoding="utf-8")
    assert set(published().claims) <= {run["claim"] for run in published_runs()}


def test_what_stands_between_backticks_is_code_and_nothing_else_is_let_through() -> None:
    assert str(site._code("as `fathom plan` <b> says")) == "as <code>fathom plan</code> &lt;b&gt; says"
    page = site.claim_page(try_claim(on_file("deepseek-v3")))
    assert "<code>fathom plan</code>" in page
    assert "`" not in re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", page, flags=re.DOTALL)


def test_what_may_cost_nothing_runs_out_of_the_axis_with_its_label() -> None:
    chart = left_out(try_claim(on_file("deepseek-v3")))
    assert chart is not None
    assert "(from $0)" in chart.svg
    assert "from $0" in chart.caption
    assert "\\$" not in chart.svg
