"""Names and paths that hold markup stay text in the report, wherever they come from."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from zoo import ARGUMENTS, ROWS, Zoo, checks_text, drawn_again, hypothesis_as_it_starts, network

from harness.base.markdown import plain
from harness.cli import main
from harness.data import load_images
from harness.networks.checkpoints import Record, save_checkpoint
from harness.report.exports import csv_text

SCRIPT = "<script>alert(1)</script>"
CLASSES = (
    SCRIPT,
    "\"><img src=x onerror='alert(2)'>",
    "' onmouseover='alert(3)' x='",
    "javascript:alert(4)&lt;b&gt;",
)
ROWS_OF_MARKUP = ROWS.replace('class = "bee"', f"class = {json.dumps(CLASSES[1])}")
FOLDER = '"><script>alert(1)<'
"""With the slash of a path after it, a script."""


SPACE = "&#8203;"


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("@torvalds and a@b.de", f"@{SPACE}torvalds and a@{SPACE}b.de"),
        ("https://evil.example", f"https:{SPACE}//evil.example"),
        ("www.evil.example #12 GH-7", f"www{SPACE}.evil.example #{SPACE}12 GH-{SPACE}7"),
        (r"a\| b", r"a\\\| b"),
        (r"a \` b", r"a \\\` b"),
        ("![x](y) <b> &#64;me", r"![x]\(y) &lt;b> &amp;#" + f"{SPACE}64;me"),
        ("$\\Huge{PASS}$", r"\$\\Huge{PASS}\$"),
        ("C: 5 of 7, rotate-ccw-010 < 0.5 & more", "C: 5 of 7, rotate-ccw-010 < 0.5 & more"),
    ],
)
def test_markdown_shows_text_unchanged_and_nothing_of_its_own(text, escaped):
    assert plain(text) == escaped


def test_a_table_holds_no_formula():
    rows = [("=1+1", -0.5, "+x"), ("@a", 3, "-b"), ("a=b", None, "\tc")]
    assert csv_text(("=t", "n", "x"), rows) == "'=t,n,x\n'=1+1,-0.5,'+x\n'@a,3,'-b\na=b,,'\tc\n"


class Live(HTMLParser):
    """Collects what a browser would run of the markup above, and the text that a reader sees."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.found, self.within, self.text = [], "", ""
        self.feed(markup)

    def handle_starttag(self, tag, attributes):
        self.within = tag
        for name, value in attributes:
            runs = name.startswith("on") or (value or "").strip().startswith("javascript:")
            self.found += [f"{tag} {name}={value}"] if runs and "alert" in value else []

    def handle_endtag(self, tag):
        self.within = ""

    def handle_data(self, data):
        self.text += data
        self.found += [data[:200]] if self.within == "script" and "alert(1)" in data else []


def live(markup: str) -> list[str]:
    return Live(markup).found


@pytest.fixture
def zoo(pytester, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    zoo = Zoo(pytester.path)
    arrays = dict(np.load(zoo.root / "zoo.npz"))
    np.savez(zoo.root / "zoo.npz", **{**arrays, "classes": np.array(CLASSES)})
    zoo.images = load_images(zoo.data)
    zoo.checks.write_text(
        checks_text(zoo.images, ROWS_OF_MARKUP) + f"\n[recipe]\nabout = {json.dumps(SCRIPT)}\n"
    )
    zoo.candidate = zoo.root / FOLDER / "script>.safetensors"
    model = network(jitter=3.0)
    record = Record(
        "fashion-cnn",
        ARGUMENTS,
        CLASSES,
        training={SCRIPT: SCRIPT, "seed": SCRIPT},
        versions={SCRIPT: CLASSES[1]},
    )
    save_checkpoint(zoo.candidate, model, record)
    with hypothesis_as_it_starts():
        yield zoo


def test_parser_of_this_test_sees_what_would_run():
    assert live(f"<p>{SCRIPT}</p>") == ["alert(1)"]
    assert live(CLASSES[1]) == ["img onerror=alert(2)"]
    assert live(f"<p title='{CLASSES[2]}'>") == ["p onmouseover=alert(3)"]
    assert live("<a href='javascript:alert(4)'>") == ["a href=javascript:alert(4)"]


def test_markup_in_names_paths_and_records_is_text_in_the_report(zoo, pytester):
    models = ("--candidate", str(zoo.candidate), "--baseline", str(zoo.candidate))
    assert (
        pytester.runpytest_inprocess(
            "stress_tests", "--stress-set", f"data={zoo.data}", *models
        ).ret
        == 1
    )
    page = (zoo.root / "reports/stress.html").read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert live(page) == []
    assert drawn_again(zoo.root / "reports") == []


HOSTILE = """
import pytest

@pytest.mark.parametrize("name", [
    "a\\n::error title=mine::b", "\\x1b[31mred",
    "<img src=x onerror=alert(2)>", "`<script>alert(1)</script>`",
    "](http://example.org)", "![x](http://example.org/x.png)", "|", "\\u202e", "x" * 10_000,
], ids=lambda name: name)
def test_fails(name):
    assert not name
"""


def test_names_of_tests_and_their_files_are_text_wherever_they_are_shown(
    zoo, pytester, monkeypatch
):
    """A name that is a line, a color, a command, an element, a link, or that never ends."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    for name in (
        "test_hostile_names.py",
        "test_\n::error title=file::x<img src=x onerror=alert(2)>.py",
    ):
        (zoo.tests / name).write_text(HOSTILE)
    result = pytester.runpytest_inprocess("stress_tests", "--stress-set", f"data={zoo.data}")
    assert result.ret == 1
    said = (
        result.stdout.str()
        .partition(" model quality gate ")[2]
        .partition(" short test summary ")[0]
    )
    commands = [line for line in said.splitlines() if line.startswith("::")]
    assert len(commands) == 10
    assert [line for line in commands if not re.fullmatch("::error title=[^:,]*::.*", line)] == []
    assert [each for each in said if not (each.isprintable() or each == "\n")] == []
    markdown = (zoo.root / "reports/stress.md").read_text()
    assert [each for each in markdown if not (each.isprintable() or each == "\n")] == []
    assert [line for line in markdown.splitlines() if line.startswith(("::", "<", "!"))] == []
    assert (
        max(len(line) for line in markdown.splitlines() if line.startswith("- **failed**: ")) < 500
    )
    outside = re.sub(
        r"(`+).*?\1", "", "\n".join(line for line in markdown.splitlines() if "worse:" not in line)
    )
    assert live(outside) == []
    headline = markdown.splitlines()[0]
    assert live(headline) == []
    assert "](" not in headline
    page = (zoo.root / "reports/stress.html").read_text()
    assert live(page) == []


def test_markup_is_text_in_a_comparison(zoo, capsys):
    other = zoo.save("other.safetensors")
    arguments = ["--data", zoo.data]
    status = main(["compare", str(zoo.candidate), str(other), *arguments])
    assert status == 0, capsys.readouterr().err
    page = (zoo.root / "reports/compare.html").read_text()
    assert [name for name in CLASSES if name not in Live(page).text] == []
    assert live(page) == []
