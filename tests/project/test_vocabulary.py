"""One word for one thing.

Public names stand on pages of reference, and replaced words stand in no name.
"""

import io
import re
import tokenize
from dataclasses import fields
from pathlib import Path

import pytest
from _pytest.fixtures import FixtureFunctionDefinition
from outcomes import BROKEN, EMPTY, outcome_with

from harness.checks import Threshold
from harness.checks.families import FAMILIES
from harness.checks.file import DataFingerprint
from harness.checks.roles import ROLES
from harness.checks.rows import COMMON_KEYS
from harness.measures import METRICS
from harness.plugin import fixtures
from harness.run.settings import SETTINGS
from harness.run.stress_json import stress_json

pytestmark = pytest.mark.lint

ROOT = Path(__file__).parents[2]
PAGES = [
    (ROOT / "docs" / name).read_text("utf-8")
    for name in (
        "exit-status.md",
        "reference/options.md",
        "reference/checks.md",
        "reference/measures.md",
    )
]
SPANS = [span for page in PAGES for span in re.findall(r"`([^`\n]+)`", page)]
LISTED = {name for span in SPANS for name in re.findall(r"[\w-]+", span)}
LISTED |= {name.lstrip("-").removeprefix("stress-").replace("-", "_") for name in LISTED}
REPORT = stress_json(outcome_with(EMPTY, verdicts=(BROKEN,)))
REPLACED = re.compile(
    r"(?:^|_)(gates|gated|not_gated|bounds?|ceilings?|retrains|knowledge|promised|detects|suspects?)(?:_|$)"
    r"|Gates|Bound|Healthy|Knowledge|Suspect"
)
LIBRARIES = {"bound", "bounded", "Unbounded", "upper_bound"}
"""Names of libraries and of statistics: `TypeVar(bound=…)`, an upper bound, a number without
bounds.
"""
PUBLIC = {
    "settings": SETTINGS,
    "fixtures": {
        item.name for item in vars(fixtures).values() if isinstance(item, FixtureFunctionDefinition)
    },
    "keys of a check": COMMON_KEYS,
    "keys of a threshold": {item.name for item in fields(Threshold)},
    "keys of the data": {item.name for item in fields(DataFingerprint)},
    "roles": ROLES,
    "families": FAMILIES,
    "metrics": METRICS,
    "keys of stress.json": REPORT,
    "keys of its checks": REPORT["checks"][0],
}


def names_in(path: Path) -> set[str]:
    """Return the names in a module's code."""
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline)
    return {token.string for token in tokens if token.type == tokenize.NAME}


@pytest.mark.parametrize(("of", "names"), PUBLIC.items(), ids=PUBLIC)
def test_a_page_of_reference_lists_the_public_names(of, names):
    assert set(names) - LISTED == set()


@pytest.mark.parametrize("names", [PUBLIC[of] for of in PUBLIC if of != "families"])
def test_no_public_name_has_a_replaced_word(names):
    assert [name for name in names if REPLACED.search(name.replace("-", "_"))] == []


def test_no_name_in_the_code_has_a_replaced_word():
    modules = [*(ROOT / "harness").rglob("*.py"), *(ROOT / "stress_tests").glob("*.py")]
    found = {
        path.relative_to(ROOT).as_posix(): wrong
        for path in modules
        if (wrong := {name for name in names_in(path) if REPLACED.search(name)} - LIBRARIES)
    }
    assert found == {}


@pytest.mark.parametrize("name", ["gates_file", "bound", "retrains_mean", "Knowledge", "not_gated"])
def test_a_replaced_word_is_found(name):
    assert REPLACED.search(name)


@pytest.mark.parametrize("name", ["gate", "GateRun", "rebound", "aggregates", "threshold"])
def test_other_words_are_left_alone(name):
    assert not REPLACED.search(name)
