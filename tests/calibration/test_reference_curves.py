"""Curves of the reference models.

Calibration keeps them in the panel, and the report draws bands behind its own.
"""

import base64
import json
import re

import pytest
from overviews import overview
from zoo import SEARCH, GatedZoo

from harness.calibration.panel import read_panel, recorded_curves
from harness.checks import read_checks
from harness.cli import main
from harness.measures.confidence import RELIABILITY
from harness.measures.metric import Curve
from harness.report.plots import band_of, reliability_diagrams

ROWS = """
[[check]]
id = "clean"
family = "clean"
metric = "accuracy"

[[check]]
id = "calibration-error-clean"
family = "confidence"
metric = "calibration_error"
"""
SEARCHES = SEARCH + SEARCH.replace("median", "decile").replace("0.5", "0.1")


@pytest.fixture
def zoo(pytester, runs):
    zoo = GatedZoo(pytester, tests=("clean", "calibration", "breaking_pose"))
    zoo.bind(ROWS + SEARCHES)
    zoo.panel = zoo.root / "models/panel.json"
    zoo.seeds = [
        zoo.save(f"seed-{seed}.safetensors", seed=seed, jitter=0.05).name for seed in (1, 2, 3)
    ]
    return zoo


def calibrate(zoo, *arguments) -> None:
    assert main(["calibrate", *arguments, "--", "--stress-set", "data=npz:zoo.npz"]) == 0


def drawn_in(page: str) -> dict[str, tuple[str, str]]:
    """Return caption and drawing of figures that may have a band of curves.

    They are by the beginning of their titles.
    """
    found = {}
    for figure in re.findall(r"<figure.*?</figure>", page, re.DOTALL):
        title, drawing = (
            re.search("Survival|Reliability", figure),
            re.search(r'svg\+xml;base64,([^"]+)', figure),
        )
        if title and drawing:
            found[title[0]] = figure, base64.b64decode(drawing[1]).decode()
    return found


def test_calibrated_curves_are_bands_in_the_report_of_a_gate(zoo):
    calibrate(zoo, "--checkpoints", *zoo.seeds)
    curves = read_panel(zoo.panel).curves()
    assert {name: len(of_models) for name, of_models in curves.items()} == {
        "survival, shift": 3,
        "reliability": 3,
    }
    assert all(sum(curve.counts) == 400 for curve in curves["reliability"])
    assert all((curve.at[0], curve.values[0]) == (0, 1) for curve in curves["survival, shift"])
    zoo.run("--baseline", "none", page=True, figures=True)
    report, drawn = zoo.report(), drawn_in((zoo.root / "reports/stress.html").read_text())
    assert not report["errors"]
    assert (
        next(check["id"] for check in report["checks"] if check["curve"])
        == "calibration-error-clean"
    )
    assert set(drawn) == {"Survival", "Reliability"}
    assert all("reference models" in drawing for _, drawing in drawn.values())

    content = json.loads(zoo.panel.read_bytes())
    for reference_model in content["models"]:
        del reference_model["curves"]
    zoo.panel.write_text(json.dumps(content))
    assert recorded_curves(read_checks(zoo.checks), zoo.root) == {}, "a panel of an earlier version"
    calibrate(zoo, "--family", "confidence")
    assert read_panel(zoo.panel).curves() == {RELIABILITY: curves[RELIABILITY]}
    calibrate(zoo, "--check", "break-shift-decile")
    assert read_panel(zoo.panel).curves() == curves, "curves of other checks stay"


def rising(name: str, *rows, counts=()) -> dict[str, list[Curve]]:
    """Return curves of models over the places 0, 1, …, a row of values each."""
    return {
        name: [Curve(name, tuple(map(float, range(len(row)))), tuple(row), counts) for row in rows]
    }


def test_a_band_is_two_standard_deviations_of_three_or_more_curves():
    curves = rising("survival, shift", (1.0, 0.5), (1.0, 0.6), (1.0, 0.7))["survival, shift"]
    band = band_of(curves)
    assert band.at == [0, 1]
    assert [*band.low, *band.high] == pytest.approx([100, 40, 100, 80])
    assert band_of(curves[:2]) is None
    known = {
        RELIABILITY: [
            Curve(RELIABILITY, (None, 0.5, 0.9), (None, 0.4, at), (0, 9, 91))
            for at in (0.8, 0.9, 1.0)
        ]
    }
    upper = reliability_diagrams(overview(), known).axes[0]
    assert upper.collections[0].get_label() == "reference models"
    corners = upper.collections[0].get_paths()[0].vertices
    assert [corners[:, 0].min(), corners[:, 0].max()] == pytest.approx([90, 90])
    assert [corners[:, 1].min(), corners[:, 1].max()] == pytest.approx([70, 100])
    few = {RELIABILITY: [Curve(RELIABILITY, (0.5,), (0.4,), (9,))] * 3}
    assert not reliability_diagrams(overview(), few).axes[0].collections
