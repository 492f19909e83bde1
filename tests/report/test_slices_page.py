"""Groups on the page: a dot each with its interval, threshold and reference models."""

from dataclasses import replace

import pytest
from outcomes import EMPTY, PASS

from harness.checks import Check, Threshold, Verdict
from harness.report.sections import group_dots, slices

EVIL = "<script>alert('x')</script>"


def group(name, value, status="pass", *, n=200, informational=""):
    threshold = Threshold(0.8, mean=0.9, std=0.01)
    check = Check(
        f"slice-camera-{value}",
        "slice",
        "group_accuracy",
        "at_least",
        panel=threshold,
        informational=informational,
        keys={"by": "camera", "group": name},
    )
    limit = None if informational else 0.8
    return Verdict(
        check, status, "group_accuracy", value=value, threshold=limit, n=n, interval=(value - 0.04, value + 0.03)
    )


WORST = Verdict(
    Check("worst-site", "slice", "worst_group_accuracy", keys={"by": "site", "least": 50}),
    "informational",
    "worst_group_accuracy",
    value=0.7,
    n=400,
    interval=(0.6, 0.8),
    detail="worst of 2 groups by site: Bonn, 200 images",
    about="the worst group",
)
FRONT, REAR = group("front", 0.91), group("rear", 0.75, "fail")
TINY = group(EVIL, 0.6, "informational", n=9, informational="9 images are too few")


def test_each_column_has_its_dots():
    section = slices(replace(EMPTY, verdicts=(PASS, FRONT, REAR, TINY, WORST)))
    assert section.body.count("data:image/svg+xml") == 1, "there is no group of a site"
    assert "1 of 3 checks by camera fail" in section.body
    assert "Lowest: &lt;script&gt;" in section.body
    assert EVIL not in section.body


def test_without_groups_there_is_no_section():
    assert slices(replace(EMPTY, verdicts=(PASS,))) is None


def test_a_dot_stands_at_its_value_in_the_color_of_its_status():
    axes = group_dots([TINY, REAR, FRONT], overall=0.88).axes[0]
    dots = [container.lines[0] for container in axes.containers if hasattr(container, "has_xerr")]
    assert [list(dot.get_xdata()) for dot in dots] == [pytest.approx([60, 91]), pytest.approx([75])]
    assert [dot.get_marker() for dot in dots] == ["o", "X"]
    assert dots[0].get_color() != dots[1].get_color()
    bars = [bar for container in axes.containers for bar in getattr(container, "patches", [])]
    assert [(bar.get_x(), bar.get_width()) for bar in bars] == [(pytest.approx(88.0), pytest.approx(4.0))] * 3
    ticks = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "|"]
    assert 80.0 in ticks
    assert [label.get_text() for label in axes.get_yticklabels()][1:] == ["rear (200)", "front (200)"]


def test_of_very_many_groups_the_lowest_are_drawn():
    many = tuple(replace(group(f"g{at}", 0.5 + at / 200)) for at in range(60))
    assert "The 40 lowest of 60." in slices(replace(EMPTY, verdicts=many)).body
