"""A family is one entry of a table.

Titles, explanations, first rows and self-checks follow from it.
"""

import torch
from outcomes import EMPTY, outcome_with

from harness.checks import Check, read_checks
from harness.checks.damages import DAMAGES, Damage
from harness.checks.families import FAMILIES, Family, damages, family_title, starter, starter_checks
from harness.data import LabelledImages
from harness.measures import Measurement
from harness.measures.accuracy import ACCURACY
from harness.report.html import page_of

DIM = Family(
    "dim",
    title="Poor light",
    measures="Accuracy in poor light.",
    failure="The training data lack poor light.",
    page="behaviours/dim",
    starter_checks=lambda _: [("dim-030", "accuracy", {"strength": 0.3})],
)
DAMAGE = Damage("lights-out", logits=lambda _, logits: logits)


def test_one_entry_adds_a_family_everywhere(monkeypatch, tmp_path):
    monkeypatch.setitem(FAMILIES.own, "dim", DIM)
    monkeypatch.setitem(DAMAGES, "dim", DAMAGE)
    pixels = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    images = LabelledImages(pixels, torch.tensor([0, 1]), ("a", "b"), "shop", "test")
    (tmp_path / "checks.toml").write_text(starter(images, starter_checks(images, ["dim"])))
    checks = read_checks(tmp_path / "checks.toml")
    assert [check.id for check in checks.family("dim")] == ["dim-030"]
    assert damages(checks)["dim"].name == "lights-out"
    verdict = Check("dim-030", "dim", "accuracy").judge(Measurement(ACCURACY, 0.5, 100, (0.4, 0.6)))
    page = page_of(outcome_with(EMPTY, verdicts=(verdict,)))
    for text in (
        "Poor light",
        DIM.measures,
        DIM.failure,
        "stress-harness docs behaviours/dim",
        'id="about-dim"',
    ):
        assert text in page
    assert family_title("poor-light") == "Poor light"
