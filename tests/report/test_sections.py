"""A section is a function in a list, with its place in the contents; what is measured for it is one module."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from outcomes import EMPTY
from overviews import overview

from harness.report import html
from harness.report.html import SECTIONS, of_models
from harness.report.page import Section, render, table

ROOT = Path(__file__).parents[2]
EVIL = "</h2><script>alert(1)</script>"


def contents(page: str) -> list[tuple[str, str]]:
    nav = page[page.index("<nav") : page.index("</nav>")]
    return re.findall(r'<a href="#report-([a-z-]+)">(.*?)</a>', nav)


def headings(page: str) -> list[tuple[str, str]]:
    return re.findall(r'<h2 id="report-([a-z-]+)">(.*?)</h2>', page)


def test_the_contents_are_those_of_the_page_in_its_order():
    page = html.scorecard(replace(EMPTY, overview=overview(sample=60)))
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
    page = html.scorecard(EMPTY)
    assert [name for name, _ in contents(page)] == ["weather", "covered", "checks", "words", "tests"]
    assert "<td>default</td><td>&lt;/h2&gt;&lt;script&gt;" in page
    assert "<script>alert" not in page


def test_a_section_with_nothing_to_say_is_not_there(monkeypatch):
    monkeypatch.setattr(html, "SECTIONS", (lambda _: None, html.tests))
    assert headings(html.scorecard(EMPTY)) == [("tests", "Tests without a check")]


def test_a_section_of_the_models_needs_their_comparison():
    shown = of_models(lambda some: Section("n", str(some.n)))
    assert shown(EMPTY) is None
    assert shown(replace(EMPTY, overview=overview())) == Section("n", "300")


def test_what_stands_beside_a_section_follows_it_in_the_contents(monkeypatch):
    both = Section("left", "Left", columns=True, beside=Section("right", "Right"))
    monkeypatch.setattr(html, "SECTIONS", (lambda _: both, lambda _: replace(both, name="alone", beside=None)))
    page = html.scorecard(EMPTY)
    assert [name for name, _ in headings(page)] == [name for name, _ in contents(page)] == ["left", "right", "alone"]
    assert page.count('<div class="columns">') == 2
    assert page.count('<div class="part alone">') == 1


def test_a_value_that_a_template_lacks_is_an_error():
    with pytest.raises(Exception, match="'run' was not provided"):
        render("banner", kind="pass", sentence="All hold.")


ADDED = """
from pathlib import Path
from zoo import images_of, network
from outcomes import EMPTY
from dataclasses import replace
from harness.inference import Classifier, RoleModel
from harness.report.html import scorecard
from harness.run.overview import Overview, measure_overview

images = images_of(100)
model = RoleModel("candidate", Path("m"), "file", "sha", "cnn", None, Classifier(network(jitter=0.5), workers=1))
measured = measure_overview({"candidate": model}, images, survival={}, robust={})
sent = Overview.from_wire(measured.as_wire())
assert sent == measured
print(sent.as_plain()["models"][0]["dimmed"])
Path("page.html").write_text(scorecard(replace(EMPTY, overview=replace(sent, sample=60))))
"""


def test_a_measured_section_is_one_module_and_one_function(tmp_path):
    shutil.copytree(ROOT / "harness", tmp_path / "harness", ignore=shutil.ignore_patterns("__pycache__", "*_files"))
    touched = set()
    text = (ROOT / "docs/add-section.md").read_text("utf-8")
    for how, name, before, code in re.findall(
        r"<!-- (file|insert): (\S+)(?: before ([^\n]*))? -->\n```python\n(.*?)```\n", text, re.DOTALL
    ):
        touched.add(name)
        path = tmp_path / name
        if how == "file":
            path.write_text(code)
        else:
            start, end = path.read_text("utf-8").split(f"\n{before}\n")
            path.write_text(f"{start}\n{code}{before}\n{end}", "utf-8")
    assert len(touched) == 2
    done = subprocess.run(
        [sys.executable, "-c", ADDED],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("'value'") == 3
    page = (tmp_path / "page.html").read_text("utf-8")
    assert ("dimmed", "In less light") in contents(page)
    assert '<th scope="row">25%</th>' in page[page.index('id="report-dimmed"') :]
