"""Figures show the numbers of the overview, name their axes, and become pictures."""

import base64
import html
import re
import xml.etree.ElementTree as ET
from dataclasses import asdict

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from overviews import model, overview, rate

from harness.checks import Check, Threshold
from harness.measures import Measurement
from harness.measures.accuracy import ACCURACY
from harness.measures.localisation import ATTENTION_LIFT
from harness.measures.metric import Curve
from harness.measures.worst_poses import BREAKING_SEVERITY
from harness.networks.training import Epoch
from harness.perturb import Pose
from harness.report import figures
from harness.report import plots as drawn
from harness.report.figures import as_svg
from harness.report.page import Illustration, figures_html
from harness.run.overview import Overview

PANEL = Threshold(0.85, mean=0.89, std=0.01, reference_models=20, k=3.9, n=300)


def measured(
    family: str, value: float, name: str, metric=ACCURACY, *, curve=None, counted=None, **facts
):
    check = Check(name, family, metric.name, panel=PANEL, **facts)
    near = (value - 0.02, value + 0.02)
    return check.judge(Measurement(metric, value, 300, near, curve=curve, counted=counted))


SURVIVAL = Curve("survival, rotation", (0.0, 1.0, 2.0), (1.0, 0.9, 0.5))
TURNED = {at: measured("rotation", 0.8, f"turned {at}", pose=Pose(at)) for at in (-10.0, 10.0)}
VERDICTS = (
    *TURNED.values(),
    *(measured("shift", 0.7, f"moved {at}", pose=Pose(0, at, 2.0)) for at in (-2.0, 2.0)),
    measured("search", 2.0, "break", BREAKING_SEVERITY, curve=SURVIVAL, counted=250),
    *(
        measured("attention", 1.2, f"lift {name}", ATTENTION_LIFT, class_name=name)
        for name in (None, "top", "shoe")
    ),
)
"""Verdicts of a run on the candidate."""


def rotation(some: Overview):
    return drawn.rotation_curves(
        {model.name: {-10: rate(0.8), 0: model.accuracy} for model in some.models}
    )


DRAWN = {
    "rotation": rotation,
    "classes": drawn.class_accuracies,
    "reliability": drawn.reliability_diagrams,
    "training": lambda some: drawn.training_curves(
        {model.name: model.history for model in some.models}
    ),
    "confusion": lambda some: drawn.confusion_maps(
        *(drawn.confusions(some, each) for each in some.models)
    ),
}


def change(ours, theirs):
    return drawn.confusion_maps(drawn.confusions(overview(ours, theirs), ours, theirs)).axes[0]


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_figures_name_axes_and_models_and_leave_matplotlib_unchanged(draw):
    before = dict(mpl.rcParams)
    figure = draw(overview())
    assert dict(mpl.rcParams) == before
    for axes in figure.axes:
        assert any(other.get_xlabel() for other in axes.get_shared_x_axes().get_siblings(axes))
        beside = axes.get_shared_y_axes().get_siblings(axes)
        assert any(other.get_ylabel() for other in beside) or any(map(str, axes.get_yticklabels()))
    words = " ".join(
        text.get_text() for text in figure.findobj(lambda item: hasattr(item, "get_text"))
    )
    assert "candidate" in words
    assert "baseline" in words


def test_the_rotation_curve_holds_values_and_intervals():
    candidate, baseline = rotation(overview()).axes[0].containers
    assert list(candidate.lines[0].get_xdata()) == [-10, 0]
    assert candidate.lines[0].get_ydata() == pytest.approx([80, 90])
    assert candidate.lines[2][0].get_segments()[0][:, 1] == pytest.approx([78, 82])
    assert baseline.lines[0].get_ydata() == pytest.approx([80, 80])
    for each in (candidate.lines[0], baseline.lines[0]):
        for meaning in (figures.GOOD, figures.BAD):
            assert np.abs(np.subtract(to_rgb(each.get_color()), to_rgb(meaning))).max() > 0.25
    assert contrast(candidate.lines[0].get_color(), "white") > 3
    assert as_svg(rotation(overview())) == as_svg(rotation(overview())), (
        "the same figure gives the same bytes"
    )


def test_the_shift_map_has_dy_down_and_dx_to_the_right_and_blanks():
    rates = {(0.0, 0.0): rate(0.9), (-2.0, 2.0): rate(0.7), (2.0, 2.0): rate(0.7)}
    axes = drawn.shift_maps({"candidate": rates}).axes[0]
    values = np.ma.filled(axes.collections[0].get_array().reshape(2, 3), -1)
    assert values.tolist() == [
        [-1, pytest.approx(90), -1],
        [pytest.approx(70), -1, pytest.approx(70)],
    ]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "+2"]
    assert axes.yaxis_inverted(), "the first row is on top"


def test_confusions_are_shares_of_the_true_class_with_signed_difference():
    assert model(right=0.9).confusion_shares[0] == pytest.approx([90, 10, 0])
    axes = change(model(right=0.9), model("baseline", right=0.8))
    values = np.asarray(axes.collections[0].get_array()).reshape(3, 3)
    assert values[0] == pytest.approx([10, 10, 0]), "better: more right answers, fewer confusions"
    assert [text.get_text() for text in axes.texts][:2] == ["+10", "-10"]
    mesh = change(model(right=0.7), model("baseline", right=0.9)).collections[0]
    for worse in mesh.to_rgba(mesh.get_array()).reshape(3, 3, 4)[0, :2]:
        assert worse[0] > 2 * worse[2], "orange"
    small = change(model(right=0.9), model("baseline", right=0.89)).collections[0].norm
    assert (small.vmin, small.vmax) == (-5, 5), "small differences look small"
    shares = model(confusion=((0, 0, 0), (5, 5, 0), (0, 0, 9))).confusion_shares
    assert np.isnan(shares[0]).all(), "a class without images has none"
    assert shares[1] == pytest.approx([50, 50, 0])


def test_confusions_are_full_at_15_percent_and_the_diagonal_is_muted():
    axes = drawn.confusion_maps(drawn.confusions(overview(), model(right=0.9))).axes[0]
    mesh = axes.collections[0]
    assert (mesh.norm.vmin, mesh.norm.vmax) == (0, 15)
    assert (np.ma.getmaskarray(mesh.get_array()).reshape(3, 3) == np.eye(3, dtype=bool)).all()
    assert axes.texts[0].get_text() == "90", "it is still there to be read"


def contrast(one, other) -> float:
    def luminance(color) -> float:
        parts = (
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
            for part in to_rgb(color)
        )
        return sum(
            weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True)
        )

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("share", np.linspace(0, 1, 6).tolist())
def test_digits_on_heat_maps_reach_the_contrast_of_text(share):
    ours, theirs = model(), model("baseline", right=1 - 0.3 * share)
    some = overview(ours, theirs)
    rates = {(float(at), 0.0): rate(min(1.0, share + at / 100)) for at in range(20)}
    maps = drawn.confusion_maps(
        drawn.confusions(some, theirs), drawn.confusions(some, ours, theirs)
    )
    for axes in (*drawn.shift_maps({"candidate": rates}).axes, *maps.axes):
        mesh = axes.collections[0]
        behind = mesh.to_rgba(values := mesh.get_array()).reshape(-1, 4)
        behind[np.ma.getmaskarray(values).flatten()] = (*axes.get_facecolor()[:3], 1)
        for text, color in zip(axes.texts, behind, strict=True):
            assert not text.get_text() or contrast(text.get_color(), color[:3]) >= 4.5


def test_classes_are_dots_with_intervals_on_a_scale_that_shows_two_points():
    axes = drawn.class_accuracies(overview(model(right=0.93), model("baseline", right=0.91))).axes[
        0
    ]
    assert not axes.patches, "no bars"
    assert axes.get_xlim()[0] > 80
    first = axes.containers[0]
    assert list(first.lines[0].get_xdata()) == pytest.approx([93, 93, 93])
    assert first.lines[2][0].get_segments()[0][:, 0] == pytest.approx([91, 95])


def test_survival_has_intervals_its_number_of_images_and_plain_units():
    curve = Curve("survival, joint", tuple(at / 20 for at in range(21)), (1.0,) * 20 + (0.5,))
    panel = drawn.survival_plot("joint", {"candidate": (curve, 100)}, title="100 images")
    (axes,) = figures.curves(panel).axes
    assert axes.get_xlabel() == "rotated and translated by up to, % of ±30° and ±3 px"
    assert (axes.get_title(), axes.get_ylabel()) == ("100 images", "predictions still correct, %")
    band = axes.collections[0].get_paths()[0].vertices
    at_end = band[band[:, 0] == 100][:, 1]
    assert [at_end.min(), at_end.max()] == pytest.approx([40.4, 59.6], abs=0.1), (
        "Wilson's of 50 of 100"
    )


def test_reference_bands_lie_behind_curves_and_class_dots():
    shirt = measured("class", 0.8, "of-shirt", class_name="shirt")
    some = overview(model(), model("baseline"), classes=("shirt", "shoe", "bag"))
    band = drawn.stated(TURNED)
    assert (band.at, band.low, band.high) == (
        [-10, 10],
        pytest.approx([87, 87]),
        pytest.approx([91, 91]),
    )
    behind = (
        drawn.rotation_curves({"candidate": {at: rate(0.8) for at in TURNED}}, band)
        .axes[0]
        .collections[0]
    )
    vertices = behind.get_paths()[0].vertices
    assert [vertices[:, 1].min(), vertices[:, 1].max()] == pytest.approx([87, 91])
    (patch,) = drawn.class_accuracies(some, {"shirt": shirt}).axes[0].patches
    assert [patch.get_x(), patch.get_width()] == pytest.approx([87, 4])


def test_training_curves_show_loss_and_accuracy_of_both_splits():
    history = [
        Epoch(1, 0.9, 0.6, 0.8, 0.7),
        Epoch(2, 0.5, 0.8, 0.6, 0.9),
        Epoch(3, 0.3, 0.9, 0.7, 0.8),
    ]
    loss, correct = drawn.training_curves(
        {"new": [asdict(epoch) for epoch in history]}, kept=2
    ).axes
    assert (loss.get_ylabel(), correct.get_ylabel(), correct.get_xlabel()) == (
        "loss",
        "accuracy, %",
        "epoch",
    )
    lines = {line.get_label(): line for line in correct.lines}
    assert set(lines) == {"new, training", "new, validation", "kept: epoch 2"}
    assert list(lines["new, validation"].get_ydata()) == pytest.approx([70, 90, 80])
    assert [list(line.get_ydata()) for line in loss.lines][:2] == [[0.9, 0.5, 0.3], [0.8, 0.6, 0.7]]
    for axes in drawn.training_curves({"new": [asdict(history[0])]}, kept=1).axes:
        shown = [line for line in axes.lines if line.get_label().startswith("new")]
        assert [line.get_marker() for line in shown] == ["o", "o"], (
            "one epoch is a point that can be seen"
        )


# The section of a page.


def titles(some: Overview, verdicts=VERDICTS) -> list[str]:
    return re.findall(r"<h3>(.*?)</h3>", drawn.figures(some, verdicts).body)


@pytest.fixture
def undrawn(monkeypatch):
    """Figures without what is drawn, which takes a second."""
    monkeypatch.setattr("harness.report.page._drawn", lambda _: ("data:", ""))


def test_all_figures_become_pictures_with_captions_and_descriptions():
    page, again = (
        drawn.figures(overview(), VERDICTS, known).body
        for known in ({}, {SURVIVAL.name: [SURVIVAL] * 3})
    )
    pattern = r'<img alt="([^"]+)" src="data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)">'
    pictures = re.findall(pattern, page)
    assert len(pictures) == page.count("<h3>") == page.count("<figcaption>") == 9
    for alt, data in pictures:
        assert len(alt) > 20
        assert ET.fromstring(base64.b64decode(data)).tag.endswith("svg")
    assert len(page) < 1_000_000
    assert "Accuracy against rotation: 80% at -10°, 90% at +0°, 80% at +10°." in page
    changed = [
        at
        for at, pair in enumerate(zip(pictures, re.findall(pattern, again), strict=True))
        if len({*pair}) > 1
    ]
    assert changed == [2], "reference models have a band in the survival curves alone"


def test_a_sample_says_so_and_what_was_not_measured_is_not_drawn(undrawn):
    found = titles(overview(n=10_000))
    assert found[:4] == [
        "Accuracy against rotation (300 of 10,000 images)",
        "Accuracy by translation (300 of 10,000 images)",
        "Survival curves of the candidate",
        "Grad-CAM mass on the object (300 of 10,000 images)",
    ]
    assert "Reliability diagram (300 of 10,000 images)" in found
    few = ["Clean accuracy by class", "Confusions of the candidate", "Reliability diagram"]
    assert titles(overview(model(history=())), ()) == few
    page = drawn.figures(overview(n=60)).body
    assert page.startswith("<p>No curves or maps: 60 images are too few for them.</p>")
    assert "<figure" not in page


def test_captions_say_what_is_true_of_their_figure_alone(undrawn):
    high, low = (drawn.figures(overview(model(right=right))).body for right in (0.9, 0.03))
    begins = "The scale does not begin at 0."
    assert begins in high
    assert drawn.class_accuracies(overview(model(right=0.03))).axes[0].get_xlim()[0] == 0
    assert begins not in low

    band, gray = "A yellow band is", "Checks do not measure the gray cells."
    assert band in drawn.figures(overview(), VERDICTS).body
    assert band not in high, "no check states reference models"
    assert gray in drawn.figures(overview(), VERDICTS).body
    full = [measured("shift", 0.7, f"right {at}", pose=Pose(0, at, 0.0)) for at in (-2.0, 2.0)]
    assert gray not in drawn.figures(overview(), full).body


def test_a_figure_that_cannot_be_drawn_does_not_cost_the_report():
    def fail():
        raise ValueError("<nonsense>")

    page = figures_html([Illustration("title", "caption", "alt", fail)])
    assert "<nonsense>" not in page
    assert "It could not be drawn: ValueError('<nonsense>')" in html.unescape(page)


def test_any_class_name_can_be_drawn():
    names = ("$x$", "a$b", "帽子", "<b>", "_^{")
    many = {
        "per_class": (rate(0.9),) * 5,
        "confusion": tuple(map(tuple, (9 * np.eye(5, dtype=int)).tolist())),
    }
    page = drawn.figures(overview(model(**many), classes=names)).body
    assert "could not be drawn" not in page
    assert "<b>" not in page


def test_many_classes_with_long_names_make_figures_of_the_worst(undrawn):
    names = tuple(f"{at} {'long ' * 200}" for at in range(300))
    rates = tuple(rate(0.5 + at / 1_000) for at in range(300))
    many = {
        "per_class": rates[::-1],
        "confusion": tuple(map(tuple, np.eye(300, dtype=int).tolist())),
    }
    some = overview(model(**many), model("baseline", **many), classes=names)
    labels = [label.get_text() for label in drawn.class_accuracies(some).axes[0].get_yticklabels()]
    assert (len(labels), labels[0]) == (100, "200 long long long long long lo…")
    difference = drawn.confusions(some, *some.models)
    assert difference.values.size == 100 * 100
    assert {
        "Clean accuracy by class (the 100 worst of 300 classes)",
        "Change of the confusions (the 100 worst of 300 classes)",
    } <= {*titles(some, ())}
