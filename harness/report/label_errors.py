"""The suspected label errors as a part of the page, as a file, and as text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from harness.measures import Unit
from harness.report.exports import csv_text
from harness.report.gallery import thumbnails
from harness.report.page import Section, folded, paragraphs, table

if TYPE_CHECKING:
    from harness.inference import Predictions
    from harness.measures.panel.label_errors import LabelErrors, WithoutLabelErrors
    from harness.run.outcome import Outcome

_PICTURED, _LISTED = 24, 100
"""Suspected label errors with a picture on the page, and those that it lists."""


def label_errors_rows(found: LabelErrors) -> list[list[object]]:
    """Return titles and rows of the suspected label errors, the most suspect first."""
    rows: list[list[object]] = [["image", "label", "reference models say", "confidence", "of the label", "against it"]]
    for row in found.rows:
        shares = f"{row.probability:.1%}", f"{row.label_probability:.2%}"
        rows.append([row.index, row.label, row.answer, *shares, f"{row.wrong} of {found.reference_models}"])
    return rows


def label_errors_csv(found: LabelErrors, predictions: Predictions) -> str:
    """Return a line for each suspected label error, with the predictions of the reference models and of the model."""
    at = np.searchsorted(predictions.images.positions.numpy(), found.indices)
    answers = [predictions.classes[label] for label in predictions.predicted[at]]
    titles = ("image", "label", "reference answer", "reference probability", "probability of the label", "suspicion")
    rows = []
    for row, answer in zip(found.rows, answers, strict=True):
        shares = (f"{share:.6f}" for share in (row.probability, row.label_probability, row.suspicion))
        rows.append((row.index, row.label, row.answer, *shares, row.wrong, found.reference_models, answer))
    return csv_text((*titles, "against it", "reference_models", "predicted"), rows)


def without_in_words(rest: WithoutLabelErrors) -> str:
    """Return the accuracy of a model without the suspected label errors, as text."""
    said = f"without them: accuracy {rest.accuracy:.4f} of {rest.n} images ({rest.lost} of its errors are on them)"
    if rest.reference_mean is not None and rest.reference_std is not None:
        said += f"; reference models {rest.reference_mean:.4f} ± {rest.reference_std:.4f} on the same"
    return said


def label_error_section(outcome: Outcome) -> Section | None:
    """Return the suspected label errors with pictures, and the verdict on clean accuracy without them.

    If the reference models cannot name them, the section says why.
    """
    overview, title = outcome.overview, "Suspected label errors"
    if overview is not None and overview.label_errors_missing:
        return Section("label-errors", title, paragraphs(overview.label_errors_missing))
    if overview is None or overview.label_errors is None or not overview.label_errors.rows:
        return None
    found = overview.label_errors
    shown = [
        (outcome.thumbnails[row.index], f"{row.index}", f"{row.label}?", f"{row.answer} {row.probability:.0%}")
        for row in found.rows[:_PICTURED]
        if row.index in outcome.thumbnails
    ]
    titles, *rows = label_errors_rows(found)
    lead = (
        f"Nearly all of {found.reference_models} reference models agree against the labels of {len(found.rows)} of "
        f"{found.n:,} images. Some labels are wrong, and some images could be either. Each check counts all of them."
    )
    listed = f"{min(len(rows), _LISTED)} of {len(rows)} suspected label errors, the most suspect first"
    pictures = folded(f"Pictures of the first {len(shown)}: label, and reference models", thumbnails("", shown))
    body = paragraphs(lead, _both_verdicts(outcome)) + pictures + folded(listed, table(titles, rows[:_LISTED]))
    return Section("label-errors", title, body)


def _both_verdicts(outcome: Outcome) -> str:
    """Return the check on clean accuracy with all images, which counts, and without suspected label errors, as text.

    The threshold of the rest lies as many standard deviations of prediction below the mean of the reference models as
    the check's own. Mean and deviation are those on the rest.
    """
    of_candidate = (one for one in outcome.verdicts if (one.check.family, one.check.role) == ("clean", "candidate"))
    clean = next(of_candidate, None)
    rest = outcome.overview.models[0].without_label_errors if outcome.overview else None
    if clean is None or clean.value is None or rest is None:
        return ""
    said = f"Clean accuracy with all images {_held(clean.value, clean.threshold)}; without the suspected label errors "
    threshold, panel, mean, std = None, clean.check.panel, rest.reference_mean, rest.reference_std
    if panel and panel.k and panel.reference_models and mean is not None and std is not None:
        # Few reference models may be close by chance: the check's deviation is moderated, and so is its multiplier.
        least = max(std, panel.std or 0, 1 / rest.n)
        threshold = mean - panel.k * least * math.sqrt(1 + 1 / panel.reference_models)
    same = "" if threshold is None else ", the threshold on the same images"
    return f"{said}{_held(rest.accuracy, threshold)}{same}. {rest.lost} of its errors are on suspected label errors."


def _held(value: float, threshold: float | None) -> str:
    percent = Unit.SHARE.format
    if threshold is None:
        return percent(value)
    return f"{percent(value)}, which {'passes' if value >= threshold else 'fails'}: at least {percent(threshold)}"
