"""The outcome of an artifact beside its original: one sentence, and a page of what differs and where."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from harness.measures.changed_predictions import lost_and_gained, top_change
from harness.measures.equivalence import images_needed
from harness.report.figures import BAD, Panel, Series, curves
from harness.report.gallery import Face, sheet
from harness.report.page import (
    Illustration,
    Section,
    figures_html,
    folded,
    inputs,
    paragraphs,
    render,
    table,
    whole_page,
)
from harness.run.outcome import Differences

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from harness.run.equality import Equality, EqualityCheck
    from harness.run.outcome import Outcome

_SHOWN = 60
"""Changed images that the page shows."""
_PAIRS = 10
_MOST_CLASSES = 20
"""Classes up to which every pair has a cell."""
_VERDICTS = {
    "equal": "Equal",
    "different": "Different",
    "inconclusive": "Cannot tell",
    "informational": "Informational",
}
_KINDS = {"equal": "pass", "different": "fail", "inconclusive": "error"}


def sentence(done: Equality) -> str:
    """Return the outcome in one sentence."""
    changes = _changes(done, share(done.checks[0]))
    decides, more = deciding(done.checks, done.outcome)
    return f"{_VERDICTS[done.outcome]}: {changes}{decides}; {_lost(done)}{more}."


def deciding(checks: Sequence[EqualityCheck], outcome: str) -> tuple[str, str]:
    """Return what decided the outcome if the check of all predictions did not, and how many more images would tell."""
    first, *others = checks
    decides = more = ""
    if outcome not in {"equal", first.outcome}:
        for check in [check for check in others if check.outcome == outcome][:1]:
            name = getattr(check.quantity, "name", "")
            decides = f"; {check.title}{f' ({name})' if name else ''}: {share(check)}"
    if outcome == "inconclusive":
        undecided = [check for check in checks if check.outcome == "inconclusive" and not check.implied]
        needed = [(images_needed(check.quantity, check.tolerance), check.quantity.n) for check in undecided]
        numbers = [number - n for number, n in needed if number is not None]
        more = "; it lies too close to the tolerance for any number of images"
        if len(numbers) == len(undecided):
            more = f"; about {max(numbers):,} more images would tell"
    return decides, more


def _changes(done: Equality, said: str) -> str:
    """Say how many predictions change, with their share as text, and how most often."""
    subject = f"{done.order}; it" if done.order else "the artifact"
    most = top_change(*done.predictions, done.differ)
    count, n = int(done.differ.sum()), done.checks[0].measurement.n
    return f"{subject} changes {count:,} of {n:,} predictions ({said}){f', most often {most}' if most else ''}"


def share(check: EqualityCheck) -> str:
    """Return a value beside its tolerance, and the bound that decided."""
    unit = check.measurement.unit
    value, held = unit.told_apart(check.measurement.value, check.tolerance)
    lower, upper = _limits(check)
    limits = {"equal": f"at most {upper}", "inconclusive": f"between {lower} and {upper}"}
    said = limits.get(check.outcome, "")
    return ", ".join(filter(None, (value, f"{said} with 99% confidence" if said else "", f"tolerance {held}")))


def _limits(check: EqualityCheck) -> tuple[str, str]:
    lower, upper = (check.measurement.unit.told_from(limit, check.tolerance) for limit in check.limits)
    return lower, upper


def _lost(done: Equality) -> str:
    lost, gained = lost_and_gained(*done.predictions, done.differ)
    is_lost = "correct prediction is lost" if lost.sum() == 1 else "correct predictions are lost"
    return f"{int(lost.sum()):,} {is_lost}, {int(gained.sum()):,} gained"


def differences_of(done: Equality) -> Differences:
    """Return what the report of a run shows of the distance from its original."""
    first = done.checks[0]
    value, held = first.measurement.unit.told_apart(first.measurement.value, first.tolerance)
    said = f"{_changes(done, f'{value}, tolerance {held}')}; {_lost(done)}."
    parts = tuple((part.title, str(part.body)) for part in _parts(done))
    return Differences(said[0].upper() + said[1:], done.caution, parts)


def _parts(done: Equality) -> list[Section]:
    """Return what differs and where, part by part, without those that have nothing to show."""
    sure, parts = _confidences(done), [Section("changed", "Changed predictions", _changed_images(done))]
    parts.append(Section("pairs", "Changes from class to class", _pairs(done)))
    parts.append(Section("classes", "Classes and groups", _classes(done)))
    if sure is not None:
        scatter = Illustration(
            "Confidence of the original against that of the artifact",
            "A point for each image; orange ones are predictions that changed. On the diagonal nothing moves.",
            f"Scatter of {len(sure[0]):,} images; {int(done.differ.sum()):,} predictions changed.",
            partial(_confidence_scatter, *sure, done.differ),
        )
        parts.append(Section("confidence", "Confidence of original and artifact", figures_html([scatter])))
    return [part for part in parts if part.body]


def differences(outcome: Outcome) -> Section | None:
    """Return what differs from the original; None without one."""
    found = outcome.differences
    if found is None:
        return None
    parts = [
        folded(title, Markup(body), opened=not at)  # noqa: S704  Made here, by another process.
        for at, (title, body) in enumerate(found.parts)
    ]
    body = Markup().join([paragraphs(found.caution, found.sentence), *parts])
    return Section("original", "Differences from the original", body)


def equality_lines(done: Equality) -> list[str]:
    """Return what the terminal shows: a caution on the original, the sentence, a hint, and the layer if asked for."""
    layers = "" if done.layers is None else done.layers.sentence
    return [*filter(None, [done.caution, sentence(done), done.hint, layers])]


def equality_json(done: Equality) -> dict[str, object]:
    """Return the outcome and its checks in plain types."""
    return {
        "outcome": done.outcome,
        "sentence": sentence(done),
        "caution": done.caution,
        "hint": done.hint,
        "artifact": done.artifact.as_json(),
        "original": done.original.as_json(),
        "data": {"name": done.images.name, "sha256": done.images.sha256, "n": len(done.images)},
        "changed": done.images.positions.numpy()[done.differ].tolist(),
        "checks": [_as_plain(check) for check in done.checks],
        **({} if done.layers is None else {"layers": done.layers.as_json()}),
    }


def _as_plain(check: EqualityCheck) -> dict[str, object]:
    found = check.measurement
    measured = {"title": check.title, "metric": found.metric.name, "value": found.value, "n": found.n}
    judged = {"bounds": list(check.limits), "tolerance": check.tolerance, "outcome": check.outcome}
    return {**measured, **judged, "detail": found.detail}


def equality_page(done: Equality, facts: Mapping[str, str]) -> str:
    """Return the page; `facts` says what was compared and how, by title."""
    banner = render(
        "banner",
        kind=_KINDS[done.outcome],
        sentence=done.caution or f"{_VERDICTS[done.outcome]}.",
        headline=" ".join(filter(None, [sentence(done), done.hint])),
        facts=(),
        run="",
        verdict=done.outcome,
    )
    layers = None
    if done.layers is not None:  # In the order of execution, up to some beyond the first that differs.
        rows = [(layer.name, f"{layer.distance:.2g}", layer.outcome) for layer in done.layers.shown]
        body = paragraphs(done.layers.sentence) + table(("layer", "distance", "outcome"), rows)
        layers = Section("layers", "Layers", body)
    sections = [Section("checks", "The checks", _checks(done)), layers, *_parts(done), inputs(facts.items())]
    return whole_page(f"{done.artifact.path} against {done.original.path}", Markup(), sections, banner=banner)


def _checks(done: Equality) -> Markup:
    titles = ("check", "measured", "99% bounds, one-sided", "tolerance", "n", "outcome", "detail")
    rows = []
    for check in done.checks:
        measured, outcome = check.measurement, _VERDICTS[check.outcome].lower()
        value, held = measured.unit.told_apart(measured.value, check.tolerance)
        limits = " to ".join(_limits(check))
        rows.append((check.title, value, limits, held, f"{measured.n:,}", outcome, measured.detail))
    return table(titles, rows)


def _confidences(done: Equality) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the confidence of original and artifact, both (N,); None where a model gives labels only."""
    artifact, original = done.predictions
    if not (artifact.has_confidence and original.has_confidence):
        return None
    return original.confidence_as_answered, artifact.confidence_as_answered


def _changed_images(done: Equality) -> Markup:
    """Return the images whose predictions changed, those of the most confident answer of either model first."""
    artifact, original = done.predictions
    at, sure = np.flatnonzero(done.differ), _confidences(done)
    if sure is not None:
        at = at[np.argsort(-np.maximum(*sure)[at], kind="stable")]
    pixels = done.images.pixels
    faces = []
    for position in at[:_SHOWN].tolist():
        before, now = (original.classes[int(each.predicted[position])] for each in (original, artifact))
        number, true = int(done.images.positions[position]), original.classes[int(original.labels[position])]
        shares = "" if sure is None else f"{sure[0][position]:.0%} → {sure[1][position]:.0%} · "
        words = f"image {number}: the original predicts {before}, the artifact {now}; its label is {true}"
        about = f"{shares}label {true} · image {number}"
        image = pixels[position].permute(1, 2, 0).numpy()
        faces.append(Face(image, before, now, about, words, wrong=now != true))
    order = "" if sure is None else ", the most confident first"
    title = f"{min(len(at), _SHOWN)} of {len(at):,} changed predictions, original → artifact{order}"
    return sheet(title, faces)


def _pairs(done: Equality) -> Markup | str:
    artifact, original = done.predictions
    count = len(original.classes)
    pairs = (original.predicted * count + artifact.predicted)[done.differ]
    counts = np.bincount(pairs, minlength=count * count).reshape(count, count)
    if not counts.any():
        return ""
    if count <= _MOST_CLASSES:
        titles = ("original ↓ artifact →", *original.classes, "all")
        rows = [
            (name, *(int(number) or "" for number in row), int(row.sum()))
            for name, row in zip(original.classes, counts, strict=True)
        ]
        return table(titles, rows, numbers=True)
    order = np.argsort(-counts, axis=None, kind="stable")[:_PAIRS]
    found = [(*divmod(int(at), count), int(counts.flat[at])) for at in order if counts.flat[at]]
    rows = [(f"{original.classes[before]} → {original.classes[now]}", number) for before, now, number in found]
    return table(("change", "images"), rows, numbers=True)


def _classes(done: Equality) -> Markup:
    """Return how many predictions of each class, and of each group, changed; those that changed most come first."""
    _, original = done.predictions
    lost, gained = lost_and_gained(*done.predictions, done.differ)
    columns = {"class predicted by the original": np.asarray(original.classes)[original.predicted]}
    columns |= {f"group by {name}": values for name, values in original.images.groups.items()}
    rows = []
    for title, values in columns.items():
        own = [(str(name), values == name) for name in np.unique(values)]
        found = [(name, int(done.differ[of].sum()), int(of.sum()), of) for name, of in own]
        for name, count, n, of in sorted(found, key=lambda item: -item[1] / item[2])[:_MOST_CLASSES]:
            rows.append((name, title, count, f"{n:,}", f"{count / n:.1%}", int(lost[of].sum()), int(gained[of].sum())))
    return table(("name", "of", "changed", "n", "share", "correct lost", "gained"), rows, numbers=True)


def _confidence_scatter(original: np.ndarray, artifact: np.ndarray, differ: np.ndarray) -> Figure:
    same = np.flatnonzero(~differ)
    some = same[:: max(len(same) // 1_000, 1)]  # A page holds a thousand points of the unchanged.
    dot = {"color": "0.5", "marker": ".", "linestyle": "none", "markersize": 2, "rasterized": True}
    cross = {**dot, "color": BAD, "marker": "x", "markersize": 4}
    line = {"color": "0.6", "linewidth": 1, "marker": "", "linestyle": "-"}
    series = [
        Series("same prediction", original[some].tolist(), artifact[some].tolist(), look=dot),
        Series("changed", original[differ].tolist(), artifact[differ].tolist(), look=cross),
        Series("equal confidence", (0, 1), (0, 1), look=line),
    ]
    shown = Panel("confidence of the original", "confidence of the artifact", series, limits=(0, 1))
    return curves(shown, height=4.6)
