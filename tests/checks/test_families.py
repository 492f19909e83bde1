"""A family is one entry of a table: titles, explanations, first rows and self-checks follow from it."""

import tomllib
from dataclasses import replace

import pytest
import torch
from outcomes import EMPTY

from harness.checks import Check, read_checks
from harness.checks.damages import Damage
from harness.checks.families import FAMILIES, Family, damages, family_title, starter, starter_checks
from harness.checks.shipped import shipped_tests
from harness.data import LabelledImages
from harness.measures import METRICS, Measurement
from harness.measures.accuracy import ACCURACY
from harness.report.html import scorecard

DIM = Family(
    "dim",
    title="Poor light",
    measures="Accuracy in poor light.",
    failure="The training data lack poor light.",
    page="behaviours/dim",
    metrics=("accuracy",),
    starter_checks=lambda _: [("dim-030", "accuracy", {"strength": 0.3})],
    damage=Damage("lights-out", logits=lambda _, logits: logits),
)


def test_one_entry_adds_a_family_everywhere(monkeypatch, tmp_path):
    monkeypatch.setitem(FAMILIES, "dim", DIM)
    pixels = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    images = LabelledImages(pixels, torch.tensor([0, 1]), ("a", "b"), "shop", "test")
    (tmp_path / "checks.toml").write_text(starter(images, starter_checks(images, ["dim"])))
    checks = read_checks(tmp_path / "checks.toml")
    assert [check.id for check in checks.family("dim")] == ["dim-030"]
    assert damages(checks)["dim"].name == "lights-out"
    verdict = Check("dim-030", "dim", "accuracy").judge(Measurement(ACCURACY, 0.5, 100, (0.4, 0.6)))
    page = scorecard(replace(EMPTY, verdicts=(verdict,)))
    for text in ("Poor light", DIM.measures, DIM.failure, "docs/behaviours/dim.md", 'id="about-dim"'):
        assert text in page


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_the_metrics_of_a_family_are_those_of_its_tests(family):
    assert [name for name in family.metrics if name not in METRICS] == []
    taken = [test for test in shipped_tests() if any(test.takes_check(family.name, name) for name in family.metrics)]
    assert taken
    assert [name for name in family.metrics if not any(test.takes_check(family.name, name) for test in taken)] == []


def test_the_rows_that_ship_have_metrics_of_their_family(request):
    with (request.config.rootpath / "stress_tests/checks.toml").open("rb") as file:
        rows = tomllib.load(file)["check"]
    assert [row["id"] for row in rows if row["metric"] not in FAMILIES[row["family"]].metrics] == []


def test_a_family_of_another_repository_goes_by_its_name():
    assert family_title("poor-light") == "Poor light"
