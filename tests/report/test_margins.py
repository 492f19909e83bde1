"""Margins by family, values of reference models behind figures, and the map of corruptions."""

import html
import re
from dataclasses import replace

import pytest
from outcomes import EMPTY
from overviews import model, overview, rate

from harness.checks import Check, Threshold
from harness.measures import Measurement
from harness.measures.accuracy import ACCURACY, PAIR_FAILURES
from harness.perturb import Pose
from harness.report.plots import class_accuracies, rotation_curves, stated
from harness.report.sections import corruption_heat_map, corruption_map, margins
from harness.run.history import History
from harness.run.outcome import line_of

PANEL = Threshold(0.85, mean=0.89, std=0.01, reference_models=20, k=3.9, n=10_000)


def accuracy(family: str, value: float, name: str = "", **facts):
    check = Check(name or family, family, "accuracy", **{"panel": PANEL, **facts})
    return check.judge(Measurement(ACCURACY, value, 10_000, (value - 0.01, value + 0.01)))


def pair(value: int):
    check = Check("pair", "pairs", "pair_failures", panel=Threshold(40, mean=30, std=5, reference_models=20, n=10_000))
    return check.judge(Measurement(PAIR_FAILURES, value, 10_000, (value - 9.0, value + 9.0)))


VERDICTS = (
    accuracy("clean", 0.87),
    accuracy("rotation", 0.88, "slight"),
    accuracy("rotation", 0.83, "worst"),
    accuracy("flip", 0.2),
    accuracy("shift", 0.9, panel=None, hand=Threshold(0.5)),
    accuracy("search", 0.9, informational="they differ"),
    pair(38),
)


def rows(section) -> dict[str, list[str]]:
    found = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", section.body)[1:]]
    return {html.unescape(re.sub("<[^>]*>", "", cells[-1])): cells for cells in found}


def test_each_family_has_its_smallest_margin_what_fails_first():
    found = rows(margins(replace(EMPTY, verdicts=VERDICTS)))
    assert list(found) == ["flip", "worst", "pair", "clean"]
    assert [re.sub("<[^>]*>", "", cells[1]) for cells in found.values()] == ["▼ −65.0", "▼ −2.0", "+0.4", "+2.0"]


def test_the_incumbent_has_its_margins_from_its_own_run():
    models = {**EMPTY.models, "incumbent": {"path": "i", "sha256": "a" * 64}}
    outcome = replace(EMPTY, verdicts=VERDICTS, models=models)
    before = replace(line_of(outcome), candidate="a" * 64, margins={"clean": 3.25, "flip": 1.0})
    found = rows(margins(replace(outcome, history=History((before, line_of(outcome)), ()))))
    assert found["clean"][2] == "+3.2"
    assert found["worst"][2] == "–"
    other = replace(before, checks="f" * 64)
    assert rows(margins(replace(outcome, history=History((other,), ()))))["clean"][2] == "–"


def test_one_family_makes_no_table_of_margins():
    assert margins(replace(EMPTY, verdicts=VERDICTS[1:3])) is None


def test_the_map_shows_differences_from_reference_models_failing_first():
    def at(name: str, severity: int, value: float, **facts):
        keys = {"corruption": name, "severity": severity}
        return accuracy("corruption", value, f"{name}-{severity}", keys=keys, **facts)

    verdicts = (at("fog", 1, 0.88), at("fog", 2, 0.86, informational="they differ"), at("blur", 1, 0.80))
    section = corruption_map(replace(EMPTY, verdicts=verdicts)).body
    assert "2 of 3 have a threshold" in section
    assert "under 2 corruptions at five severities; 1 checks fail." in section
    found = {"blur": {1: verdicts[2]}, "fog": {1: verdicts[0], 2: verdicts[1]}}
    axes = corruption_heat_map(found, compared=True).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["blur", "fog"]
    assert [text.get_text() for text in axes.texts if text.get_text()] == ["✗ −9.0", "−1.0", "(−3.0)"]
    alone = corruption_map(replace(EMPTY, verdicts=(*verdicts, at("jpeg", 1, 0.5, panel=None)))).body
    assert "Accuracy in percent" in alone, "accuracy itself where reference models are not known"


def test_reference_bands_lie_behind_curves_and_class_dots():
    turned = {at: accuracy("rotation", 0.8, f"turn{at}", pose=Pose(at)) for at in (-10.0, 10.0)}
    shirt = accuracy("class", 0.8, "of-shirt", class_name="shirt")
    some = overview(model(), model("baseline"), classes=("shirt", "shoe", "bag"))
    band = stated(turned)
    assert (band.at, band.low, band.high) == ([-10, 10], pytest.approx([87, 87]), pytest.approx([91, 91]))
    drawn = rotation_curves({"candidate": {at: rate(0.8) for at in turned}}, band).axes[0].collections[0]
    vertices = drawn.get_paths()[0].vertices
    assert [vertices[:, 1].min(), vertices[:, 1].max()] == pytest.approx([87, 91])
    (patch,) = class_accuracies(some, {"shirt": shirt}).axes[0].patches
    assert [patch.get_x(), patch.get_width()] == pytest.approx([87, 4])
