"""The figures of a report, each with a sentence that says how to read it, as elements of a page."""

from __future__ import annotations

import base64
import io
import warnings
from typing import TYPE_CHECKING, NamedTuple

from harness.checks.roles import role_title
from harness.measures import Unit
from harness.report.page import Section, folded, paragraphs, render
from harness.report.reference_values import NO_VALUES, ReferenceValues
from harness.report.tables import classes, left_out
from harness.run.overview import TELLING, Clean, Looking, Shifted, Surviving, Training, Turned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from markupsafe import Markup
    from matplotlib.figure import Figure

    from harness.run.overview import ModelOverview, Overview


class Illustration(NamedTuple):
    """A figure to draw: `caption` says how to read it, `alt` what it shows, to those who cannot see it.

    The colors of a map mean something, so they stay the same on a dark page.
    """

    title: str
    caption: str
    alt: str
    draw: Callable[[], Figure]
    is_map: bool = False


def as_svg(figure: Figure) -> bytes:
    """Return a figure as SVG; the same figure gives the same bytes."""
    import matplotlib as mpl

    from harness.report.figures import STYLE

    content = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue()


def figure_html(illustration: Illustration) -> Markup:
    """Return the figure with its title and caption, as an element that carries its data."""
    error = source = ""
    try:
        with warnings.catch_warnings():
            # A letter that the font lacks is the browser's to draw.
            warnings.simplefilter("ignore")
            source = f"data:image/svg+xml;base64,{base64.b64encode(as_svg(illustration.draw())).decode()}"
    except Exception as failed:  # Names from files may be anything; a figure is not worth the report.
        error = repr(failed)
    title, caption, alt, _, is_map = illustration
    return render(
        "figure", title=title, caption=caption, alt=alt, is_map=is_map and not error, source=source, error=error
    )


def figures_html(several: Iterable[Illustration]) -> Markup:
    """Return figures in as many columns as the page has room for; empty without any."""
    return render("figures", drawn=[figure_html(each) for each in several])


def figures(overview: Overview, known: ReferenceValues = NO_VALUES) -> Section:
    """Return all figures that the overview has numbers for, before the values that are `known` of reference models."""
    if overview.sample < TELLING:
        body = paragraphs(f"No curves or maps: {overview.sample} images are too few for them.")
    else:
        body = paragraphs(left_out(overview)) + figures_html(illustrations(overview, known))
    return Section("figures", "Figures", body + folded("Accuracy of each class, as a table", classes(overview)))


def illustrations(overview: Overview, known: ReferenceValues = NO_VALUES) -> Iterator[Illustration]:
    """Yield the figures that the overview has numbers for."""
    from harness.report import figures as curves
    from harness.report import matrices

    models, names, reference = overview.models, overview.classes, overview.reference
    first, count = models[0], len(overview.classes)
    worst = f" (the {curves.CLASSES_SHOWN} worst of {count:,} classes)" if count > curves.CLASSES_SHOWN else ""
    if rates := first[Turned].rotation:
        sizes = {model.name: min(rate.n for rate in model[Turned].rotation) for model in models}
        images = ", ".join(f"{name} {size:,} images" for name, size in sizes.items())
        if len({*sizes.values()}) == 1:
            images = f"{sizes[first.name]:,} images each"
        yield Illustration(
            f"Accuracy against rotation{_of(max(overview.sample, min(rate.n for rate in rates)), overview)}",
            f"Higher and flatter is better. Bars are 95% intervals: {images}.{_band(known.by_degrees)}",
            "Accuracy against rotation. " + _spoken(models, lambda model: _at_turns(model, overview)),
            lambda: curves.rotation_curves(overview, known.by_degrees),
        )
    if shifts := first[Shifted].shift:
        yield Illustration(
            f"Accuracy by translation{_of(shifts[0][0].n, overview)}",
            "Each cell is the accuracy, in percent, shifted right (columns) and down (rows). The middle is clean.",
            "Accuracy for shifts of up to 4 pixels. "
            + _spoken(
                models,
                lambda each: f"{min(rate.value for row in each[Shifted].shift for rate in row):.0%} at the worst",
            ),
            lambda: matrices.shift_maps(overview),
            is_map=True,
        )
    if curves_of := [curve for model in models for curve in model[Surviving].survival]:
        # Curves leave out images with a wrong clean prediction, so they have fewer images even without a sample.
        sampled = max(curve.n for curve in curves_of) < int(overview.n * first[Clean].accuracy.low)
        yield Illustration(
            f"Survival curves{', on a sample' if sampled else ''}",
            "Share of the correct clean predictions that are still correct at every pose up to this size."
            + _band(known.survival),
            "Share of predictions still correct against the size of rotation and shift.",
            lambda: curves.survival_by_model(overview, known.survival),
        )
    yield Illustration(
        f"Clean accuracy by class{worst}",
        "Further right is better; the bars are 95% intervals. The scale does not begin at 0." + _band(known.by_class),
        "Clean accuracy by class. " + _spoken(models, lambda model: _worst_class(model, overview)),
        lambda: curves.class_accuracies(overview, known.by_class),
    )
    for model in filter(None, (first, reference)):
        title = role_title(model.name)
        yield Illustration(
            f"Confusions of the {title}{worst}",
            "Each row is a true class. A colored cell is a confusion, in full color from 15% on. Correct predictions "
            "are gray.",
            f"Confusion matrix of {title}. {_worst_class(model, overview)}",
            lambda model=model: matrices.confusion_matrix(model, names),  # type: ignore[misc]
            is_map=True,
        )
    if reference is not None:
        title = role_title(reference.name)
        yield Illustration(
            f"Change of the confusions{worst}",
            f"In orange cells, the {first.name} is worse than the {title}: more confusions, or fewer correct "
            "predictions on the diagonal. In blue cells, it is better.",
            f"Difference of the confusion matrices of {first.name} and {title}, in points.",
            lambda: matrices.confusion_difference(first, reference, names),
            is_map=True,
        )
    if calibrated := tuple(model for model in models if model[Clean].calibration_error is not None):
        sure = max(sum(item.count for item in model[Clean].reliability) for model in calibrated)
        error = "expected calibration error"
        said = _spoken(calibrated, lambda each: f"{error} {Unit.SHARE.format(each[Clean].calibration_error or 0.0)}")
        yield Illustration(
            f"Reliability diagram{_of(sure, overview)}",
            "On the gray line, predictions with 80% confidence are correct 80% of the time. Below it, the model is "
            "overconfident." + _band(known.reliability),
            f"Reliability diagram. {said}",
            lambda: curves.reliability_diagrams(overview, known),
        )
    if any(any(model[Looking].on_object) for model in models):
        said = _spoken(models, _lift)
        yield Illustration(
            f"Grad-CAM mass on the object{_of(overview.sample, overview)}{worst}",
            "Left of the dashed line, less of the Grad-CAM mass is on the object than with a uniform map.",
            f"Grad-CAM lift by class. {said}",
            lambda: curves.attention_by_class(overview),
        )
    if any(model[Training].history for model in models):
        yield Illustration(
            "Training curves",
            "Thick lines are validation images, thin lines training images. Where the two part, the model overfits.",
            "Loss and accuracy by epoch of training.",
            lambda: curves.training_curves({model.name: model[Training].history for model in models}),
        )


def _band(values: object) -> str:
    """Return the sentence on the band of these values; empty without any."""
    return " The band is the mean of the reference models ± 2 standard deviations." if values else ""


def _of(n: int, overview: Overview) -> str:
    """Return the note behind a title that a figure is of a sample, whose values differ from those of all images."""
    return f" ({n:,} of {overview.n:,} images)" if n < overview.n else ""


def _spoken(models: tuple[ModelOverview, ...], say: Callable[[ModelOverview], str]) -> str:
    return "; ".join(f"{role_title(model.name)}: {say(model)}" for model in models)


def _at_turns(model: ModelOverview, overview: Overview) -> str:
    pairs = zip(overview.degrees, model[Turned].rotation, strict=True)
    return ", ".join(f"{rate.value:.0%} at {degrees:+g}°" for degrees, rate in pairs)


def _worst_class(model: ModelOverview, overview: Overview) -> str:
    value, name = min(
        (rate.value, name) for rate, name in zip(model[Clean].per_class, overview.classes, strict=True) if rate
    )
    return f"worst class {name}, {value:.0%}"


def _lift(model: ModelOverview) -> str:
    found = model[Looking].on_object_overall
    return f"lift {found.lift:.2f}" if found else "not measured"
