"""A section is a function in a list, with its place in the contents."""

import importlib
import re
from dataclasses import replace
from pathlib import Path

import pytest
from outcomes import EMPTY, FAIL, PASS
from overviews import overview

from harness.report import html
from harness.report.html import SECTIONS
from harness.report.page import Section, render, table

ROOT = Path(__file__).parents[2]
EVIL = "</h2><script>alert(1)</script>"


def contents(page: str) -> list[tuple[str, str]]:
    nav = page[page.index("<nav") : page.index("</nav>")]
    return re.findall(r'<a href="#report-([a-z-]+)">(.*?)</a>', nav)


def headings(page: str) -> list[tuple[str, str]]:
    return re.findall(r'<h2 id="report-([a-z-]+)">(.*?)</h2>', page)


def test_the_contents_are_those_of_the_page_in_its_order():
    page = html.page_of(replace(EMPTY, overview=overview(n=60)))
    assert contents(page) == headings(page)
    assert [name for name, _ in contents(page)] == [
        "comparison",
        "failures",
        "covered",
        "figures",
        "checks",
        "words",
        "tests",
    ]


def test_a_section_more_stands_where_the_list_has_it(monkeypatch):
    def weather(outcome) -> Section:
        return Section("weather", f"Weather {EVIL}", table(["day", EVIL], [(outcome.profile, EVIL)]))

    monkeypatch.setattr(html, "SECTIONS", (weather, *SECTIONS))
    page = html.page_of(EMPTY)
    assert [name for name, _ in contents(page)] == ["weather", "covered", "checks", "words", "tests"]
    assert "<td>default</td><td>&lt;/h2&gt;&lt;script&gt;" in page
    assert "<script>alert" not in page


def test_a_section_with_nothing_to_say_is_not_there(monkeypatch):
    monkeypatch.setattr(html, "SECTIONS", (lambda _: None, html.tests))
    assert headings(html.page_of(EMPTY)) == [("tests", "Tests without a check")]


def test_a_value_that_a_template_lacks_is_an_error():
    with pytest.raises(Exception, match="'run' was not provided"):
        render("banner", kind="pass", sentence="All hold.", facts=())


def test_the_section_of_the_guide_stands_where_it_says(tmp_path, monkeypatch):
    text = (ROOT / "docs/add-section.md").read_text("utf-8")
    source = Path(html.__file__).read_text("utf-8")
    for name, before, code in re.findall(
        r"<!-- insert: (\S+) before ([^\n]*) -->\n```python\n(.*?)```\n", text, re.DOTALL
    ):
        assert name == "harness/report/html.py"
        start, end = source.split(f"\n{before}\n")
        source = f"{start}\n{code}{before}\n{end}"
    (tmp_path / "extended.py").write_text(source, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    page = importlib.import_module("extended").page_of(replace(EMPTY, verdicts=(PASS, FAIL)))
    assert ("lowest", "Lowest accuracies") in contents(page)
    assert page.index("80.0%</td>", page.index('id="report-lowest"')) > 0
