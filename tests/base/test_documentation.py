"""Pages of the documentation, which an installed package prints; messages name pages that exist."""

import re
from pathlib import Path

import pytest

from harness.base.codes import Code, explained_at
from harness.base.documentation import page, pages
from harness.base.errors import InputError
from harness.checks.families import FAMILIES
from harness.cli import main

HARNESS = Path(__file__).parents[2] / "harness"
SOURCES = [path for kind in ("*.py", "*.html", "*.toml", "*.js") for path in HARNESS.rglob(kind)]


def test_without_a_page_all_are_listed_with_their_titles(capsys):
    assert main(["docs"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^troubleshooting +Troubleshooting$", printed, re.MULTILINE)
    assert re.search(r"^behaviours/clean +\w", printed, re.MULTILINE)


@pytest.mark.parametrize(
    "name", ["troubleshooting", "troubleshooting.md", "docs/troubleshooting.md"]
)
def test_a_page_is_printed(capsys, name):
    assert main(["docs", name]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# Troubleshooting\n")
    assert "### CLUSTER" in printed


def test_a_section_ends_at_the_next_heading_of_its_level(capsys):
    assert main(["docs", "troubleshooting#DATA"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("### DATA\n")
    assert "expected images of one size" in printed
    assert "### PIPELINE" not in printed
    assert "### USAGE" in page("troubleshooting#the-command-and-its-project"), (
        "lower levels belong to it"
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("troubleshoting", "no such page; did you mean troubleshooting?"),
        ("x", "no such page; `stress-harness docs` prints all"),
        ("troubleshooting#dat", "no such section; did you mean data?"),
        ("../README", "no such page; "),
    ],
)
def test_what_is_no_page_is_refused_with_the_nearest(capsys, name, said):
    assert main(["docs", name]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("code", [*Code, "FORMAT", "PICKLE_GLOBAL"])
def test_each_code_has_a_section_that_names_it(code):
    assert code in page(explained_at(code))


def test_messages_name_pages_that_an_installed_package_prints():
    named = {}
    for path in SOURCES:
        text = path.read_text("utf-8")
        assert not re.search(
            r"\bdocs/[\w/-]+\.md(?!\.)", re.sub(r'^""".*?"""', "", text, flags=re.DOTALL)
        ), path
        for found in re.findall(r"stress-harness docs ([\w/#-]+)", text):
            named[found] = path
    assert "troubleshooting" in named
    for name in named:
        assert page(name)
    for family in FAMILIES.values():
        assert family.page in pages()


def test_an_unknown_section_lists_those_there_are():
    with pytest.raises(InputError, match="expected one of troubleshooting, refused-files"):
        page("troubleshooting#zzzzzz")
