"""Figures show the numbers of the overview, name their axes, and become pictures that carry them."""

import base64
import html
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from overviews import model, overview, rate

from harness.checks import Check, Threshold
from harness.measures import Measurement
from harness.measures.accuracy import ACCURACY
from harness.measures.localisation import ATTENTION_LIFT
from harness.measures.metric import Curve
from harness.measures.worst_poses import BREAKING_SEVERITY
from harness.perturb import Pose
from harness.report import figures, model_figures
from harness.report import plots as drawn
from harness.report.figures import as_svg
from harness.report.page import Illustration, figures_html
from harness.run.overview import Overview

PANEL = Threshold(0.85, mean=0.89, std=0.01, reference_models=20, k=3.9, n=300)


def measured(family: str, value: float, name: str, metric=ACCURACY, *, curve=None, counted=None, **facts):
    check = Check(name, family, metric.name, panel=PANEL, **facts)
    near = (value - 0.02, value + 0.02)
    return check.judge(Measurement(metric, value, 300, near, curve=curve, counted=counted))


SURVIVAL = Curve("survival, rotation", (0.0, 1.0, 2.0), (1.0, 0.9, 0.5))
VERDICTS = (
    *(measured("rotation", 0.8, f"turned {at}", pose=Pose(at)) for at in (-10.0, 10.0)),
    *(measured("shift", 0.7, f"moved {at}", pose=Pose(0, at, 2.0)) for at in (-2.0, 2.0)),
    measured("search", 2.0, "break", BREAKING_SEVERITY, curve=SURVIVAL, counted=250),
    *(measured("attention", 1.2, f"lift {name}", ATTENTION_LIFT, class_name=name) for name in (None, "top", "shoe")),
)
"""Verdicts of a run on the candidate."""


def rotation(some: Overview):
    return drawn.rotation_curves({model.name: {-10: rate(0.8), 0: model.accuracy} for model in some.models})


DRAWN = {
    "rotation": rotation,
    "classes": drawn.class_accuracies,
    "reliability": drawn.reliability_diagrams,
    "training": lambda some: drawn.training_curves({model.name: model.history for model in some.models}),
    "confusion": lambda some: drawn.confusion_maps(*(drawn.confusions(some, each) for each in some.models)),
}


def change(ours, theirs):
    return drawn.confusion_maps(drawn.confusions(overview(ours, theirs), ours, theirs)).axes[0]


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_every_figure_names_its_axes_and_its_models(draw):
    figure = draw(overview())
    for axes in figure.axes:
        assert any(other.get_xlabel() for other in axes.get_shared_x_axes().get_siblings(axes))
        beside = axes.get_shared_y_axes().get_siblings(axes)
        assert any(other.get_ylabel() for other in beside) or any(map(str, axes.get_yticklabels()))
    words = " ".join(text.get_text() for text in figure.findobj(lambda item: hasattr(item, "get_text")))
    assert "candidate" in words
    assert "baseline" in words


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_drawing_leaves_matplotlib_as_it_was(draw):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    draw(overview())
    assert dict(mpl.rcParams) == before


def test_the_rotation_curve_holds_values_and_intervals():
    candidate, baseline = rotation(overview()).axes[0].containers
    assert list(candidate.lines[0].get_xdata()) == [-10, 0]
    assert candidate.lines[0].get_ydata() == pytest.approx([80, 90])
    assert candidate.lines[2][0].get_segments()[0][:, 1] == pytest.approx([78, 82])
    assert baseline.lines[0].get_ydata() == pytest.approx([80, 80])


def test_the_shift_map_has_dy_down_and_dx_to_the_right_and_blanks():
    rates = {(0.0, 0.0): rate(0.9), (-2.0, 2.0): rate(0.7), (2.0, 2.0): rate(0.7)}
    axes = drawn.shift_maps({"candidate": rates}).axes[0]
    values = np.ma.filled(axes.collections[0].get_array().reshape(2, 3), -1)
    assert values.tolist() == [[-1, pytest.approx(90), -1], [pytest.approx(70), -1, pytest.approx(70)]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "+2"]
    assert axes.yaxis_inverted(), "the first row is on top"


def test_confusions_are_shares_of_the_true_class_with_signed_difference():
    ours, theirs = model(right=0.9), model("baseline", right=0.8)
    assert ours.confusion_shares[0] == pytest.approx([90, 10, 0])
    axes = change(ours, theirs)
    values = np.asarray(axes.collections[0].get_array()).reshape(3, 3)
    assert values[0] == pytest.approx([10, 10, 0]), "better: more right answers, fewer confusions"
    assert [text.get_text() for text in axes.texts][:2] == ["+10", "-10"]


def test_what_got_better_is_blue_and_what_got_worse_is_orange():
    mesh = change(model(right=0.7), model("baseline", right=0.9)).collections[0]
    red, _, blue, _ = mesh.to_rgba(mesh.get_array()).reshape(3, 3, 4)[0, 0]
    assert red > 2 * blue, "fewer right answers"
    red, _, blue, _ = mesh.to_rgba(mesh.get_array()).reshape(3, 3, 4)[0, 1]
    assert red > 2 * blue, "more confusions"


def test_confusions_are_full_at_15_percent_and_the_diagonal_is_muted():
    axes = drawn.confusion_maps(drawn.confusions(overview(), model(right=0.9))).axes[0]
    mesh = axes.collections[0]
    assert (mesh.norm.vmin, mesh.norm.vmax) == (0, 15)
    hidden = np.ma.getmaskarray(mesh.get_array()).reshape(3, 3)
    assert (hidden == np.eye(3, dtype=bool)).all()
    assert axes.texts[0].get_text() == "90", "it is still there to be read"


def contrast(one, other) -> float:
    from matplotlib.colors import to_rgb

    def luminance(colour) -> float:
        parts = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour))
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("share", np.linspace(0, 1, 21).tolist())
def test_digits_on_heat_maps_reach_the_contrast_of_text(share):
    ours, theirs = model(), model("baseline", right=1 - 0.3 * share)
    some = overview(ours, theirs)
    maps = (
        drawn.shift_maps({"candidate": {(0.0, 0.0): rate(share), (1.0, 1.0): rate(share)}}),
        drawn.confusion_maps(drawn.confusions(some, theirs), drawn.confusions(some, ours, theirs)),
    )
    for axes in (axes for figure in maps for axes in figure.axes):
        mesh = axes.collections[0]
        values = mesh.get_array()
        behind = mesh.to_rgba(values).reshape(-1, 4)
        behind[np.ma.getmaskarray(values).flatten()] = (*axes.get_facecolor()[:3], 1)
        for text, colour in zip(axes.texts, behind, strict=True):
            assert not text.get_text() or contrast(text.get_color(), colour[:3]) >= 4.5


def test_models_have_other_colours_than_good_and_bad():
    from matplotlib.colors import to_rgb

    line, other = (container.lines[0] for container in rotation(overview()).axes[0].containers)
    for each in (line, other):
        for meaning in (figures.GOOD, figures.BAD):
            assert np.abs(np.subtract(to_rgb(each.get_color()), to_rgb(meaning))).max() > 0.25
    assert contrast(line.get_color(), "white") > 3


def test_classes_are_dots_with_intervals_on_a_scale_that_shows_two_points():
    axes = drawn.class_accuracies(overview(model(right=0.93), model("baseline", right=0.91))).axes[0]
    assert not axes.patches, "no bars"
    assert axes.get_xlim()[0] > 80
    first = axes.containers[0]
    assert list(first.lines[0].get_xdata()) == pytest.approx([93, 93, 93])
    assert first.lines[2][0].get_segments()[0][:, 0] == pytest.approx([91, 95])


def test_survival_has_intervals_its_number_of_images_and_plain_units():
    curve = Curve("survival, joint", tuple(at / 20 for at in range(21)), (1.0,) * 20 + (0.5,))
    panel = drawn.survival_panel("joint", {"candidate": (curve, 100)}, title="100 images")
    (axes,) = figures.curves(panel).axes
    assert axes.get_xlabel() == "rotated and translated by up to, % of ±30° and ±3 px"
    assert (axes.get_title(), axes.get_ylabel()) == ("100 images", "predictions still correct, %")
    band = axes.collections[0].get_paths()[0].vertices
    at_end = band[band[:, 0] == 100][:, 1]
    assert [at_end.min(), at_end.max()] == pytest.approx([40.4, 59.6], abs=0.1), "Wilson's of 50 of 100"


def test_a_class_without_images_has_no_shares():
    shares = model(confusion=((0, 0, 0), (5, 5, 0), (0, 0, 9))).confusion_shares
    assert np.isnan(shares[0]).all()
    assert shares[1] == pytest.approx([50, 50, 0])


def test_small_differences_look_small():
    axes = change(model(right=0.9), model("baseline", right=0.89))
    assert (axes.collections[0].norm.vmin, axes.collections[0].norm.vmax) == (-5, 5)


def test_the_same_figure_gives_the_same_bytes():
    one, other = (as_svg(rotation(overview())) for _ in range(2))
    assert one == other


def titles(some: Overview, verdicts=VERDICTS) -> list[str]:
    return re.findall(r"<h3>(.*?)</h3>", model_figures.figures(some, verdicts).body)


def test_all_figures_become_pictures_with_captions_and_descriptions():
    some = overview()
    page = model_figures.figures(some, VERDICTS).body
    pictures = re.findall(r'<img tabindex="0" alt="([^"]+)" src="data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)">', page)
    assert len(pictures) == len(titles(some)) == page.count("<figcaption>") == 9
    for alt, data in pictures:
        assert len(alt) > 20
        assert ET.fromstring(base64.b64decode(data)).tag.endswith("svg")
    assert len(page) < 1_000_000
    assert "Accuracy against rotation: 80% at -10°, 90% at +0°, 80% at +10°." in page


def test_curves_of_reference_models_stand_in_their_own_figures_alone():
    drawn_by = [
        re.findall(r'base64,([^"]+)"', model_figures.figures(overview(), VERDICTS, known).body)
        for known in ({}, {"survival, rotation": [SURVIVAL] * 3})
    ]
    changed = [at for at, (one, other) in enumerate(zip(*drawn_by, strict=True)) if one != other]
    assert changed == [2], "the survival curves"


def test_what_was_not_measured_is_not_drawn():
    assert titles(overview(model(history=())), ()) == [
        "Clean accuracy by class",
        "Confusions of the candidate",
        "Reliability diagram",
    ]


def test_a_figure_of_a_sample_says_so_in_its_title():
    assert titles(overview(n=10_000))[:4] == [
        "Accuracy against rotation (300 of 10,000 images)",
        "Accuracy by translation (300 of 10,000 images)",
        "Survival curves of the candidate",
        "Grad-CAM mass on the object (300 of 10,000 images)",
    ]
    assert "Reliability diagram (300 of 10,000 images)" in titles(overview(n=10_000))


def test_too_few_images_are_not_drawn():
    page = model_figures.figures(overview(n=60)).body
    assert page.startswith("<p>No curves or maps: 60 images are too few for them.</p>")
    assert "<figure" not in page


def test_a_figure_that_cannot_be_drawn_does_not_cost_the_report():
    def fail():
        raise ValueError("<nonsense>")

    page = figures_html([Illustration("title", "caption", "alt", fail)])
    assert "<nonsense>" not in page
    assert "It could not be drawn: ValueError('<nonsense>')" in html.unescape(page)


@pytest.mark.parametrize("name", ["$x$", "a$b", "帽子", "<b>", "_^{"], ids=["math", "money", "glyphs", "tag", "tex"])
def test_any_class_name_can_be_drawn(name):
    some = overview(classes=(name, "shirt", "shoe"))
    page = model_figures.figures(some).body
    assert "could not be drawn" not in page
    assert "<b>" not in page


def test_many_classes_with_long_names_make_figures_of_the_worst():
    names = tuple(f"{at} {'long ' * 200}" for at in range(300))
    rates = tuple(rate(0.5 + at / 1_000) for at in range(300))
    confusion = tuple(tuple(map(int, row)) for row in np.eye(300, dtype=int))
    many = {"per_class": rates[::-1], "confusion": confusion}
    some = overview(model(**many), model("baseline", **many), classes=names)
    axes = drawn.class_accuracies(some).axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(labels) == 100
    assert labels[0] == "200 long long long long long lo…"
    difference = drawn.confusions(some, *some.models)
    assert difference.values.size == 100 * 100
    assert {
        "Clean accuracy by class (the 100 worst of 300 classes)",
        "Change of the confusions (the 100 worst of 300 classes)",
    } <= {*titles(some, ())}
    assert len(as_svg(drawn.confusion_maps(difference))) < 10_000_000
