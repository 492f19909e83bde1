"""Images without labels in the report of a run.

Disagreements, the worst images first, and drift from the test set.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import NotApplicableError
from harness.base.records import record
from harness.checks.roles import INCUMBENT
from harness.data.sources import OF_NO_CLASS
from harness.features.unlabeled.measures import against
from harness.report.page import Section, folded, paragraphs, table
from harness.report.pictures import sheet, source_of
from harness.run.feature_records import PicturedRecord
from harness.run.shown import Face

if TYPE_CHECKING:
    from harness.inference import Predictions
    from harness.run.outcome import Outcome
    from harness.run.request import RunRequest
    from harness.run.session import StressSession

FAMILY = "unlabeled"

_SHOWN, _MOST = 60, 20
"""Images that the page shows, and pairs of classes, classes and groups."""
UNSEEN = (
    "These checks cannot see a shift that misleads all reference models alike: they still agree, "
    "and the candidate agrees with them. They cannot see errors on images where the reference "
    "models differ. A check that passes is no measurement of accuracy."
)


@record
class Disagreements(PicturedRecord):
    """Disagreements on images without labels, as the record of a run has them.

    `caution` says what these checks cannot see. `faces` are the images with disagreements, and
    `pairs` lead from the class of the reference models to that of the candidate. The counts of a
    group are disagreements with the unanimous models, their images, predictions other than the
    incumbent's, and all images. `facts` say how these images differ from the test images.
    """


def differences(session: StressSession, request: RunRequest) -> Disagreements | None:  # noqa: ARG001
    """Return what the report shows of a candidate's disagreements on images without labels."""
    if (images := session.other_images.of_rows.get(FAMILY)) is None:
        return None
    found = session.roles["candidate"].predict(images)
    both, agreed = (found.labels, found.predicted), found.labels != OF_NO_CLASS
    differ = against(found.predicted, found.labels)
    try:
        changed = found.predicted != session.role(INCUMBENT).predict(images).predicted
    except NotApplicableError:
        changed = np.zeros_like(differ)
    names, at, sure = np.asarray(found.classes), np.flatnonzero(differ), found.has_confidence
    if sure:
        at = at[np.argsort(-found.confidence_as_answered[at], kind="stable")]
    faces = []
    for position in at[:_SHOWN].tolist():
        number, was, now = (
            int(images.positions[position]),
            *(str(names[of[position]]) for of in both),
        )
        name = Path(images.origin.where(number)).name if images.origin else f"image {number}"
        share = f"{found.confidence_as_answered[position]:.0%} · " if sure else ""
        picture = source_of(images.pixels[position].permute(1, 2, 0).numpy())
        words = f"{name}: the reference models predict {was}, the candidate {now}"
        faces.append(Face(picture, was, now, f"{share}{name}", words))
    pairs = Counter(" → ".join(str(names[of[each]]) for of in both) for each in at).most_common(
        _MOST
    )
    groups = []
    by_class = names[np.where(agreed, found.labels, found.predicted)]
    columns = {
        "predicted class": by_class,
        **{f"group by {name}": each for name, each in images.groups.items()},
    }
    for title, values in columns.items():
        rows: list[tuple[str, str, int, int, int, int]] = []
        for name in np.unique(values).tolist():
            of = values == name
            others, unanimous, churn = (int(each[of].sum()) for each in (differ, agreed, changed))
            rows.append((str(name), title, others, unanimous, churn, int(of.sum())))
        groups += sorted(rows, key=lambda row: -row[2] / max(row[3], 1))[:_MOST]
    sentence = (
        f"On {len(images):,} images without labels ({images.name}), the candidate disagrees with "
        f"the unanimous reference models on {int(differ.sum()):,} of {int(agreed.sum()):,}."
    )
    order = ", the most confident first" if sure else ""
    title = f"{len(faces)} of {len(at):,} disagreements, reference models → candidate{order}"
    drift = _drift(session, found)
    return Disagreements(sentence, UNSEEN, title, tuple(faces), tuple(pairs), tuple(groups), drift)


def _drift(session: StressSession, found: Predictions) -> tuple[str, ...]:
    """Return how these images differ from the test images, as far as predictions tell."""
    known, said = session.roles["candidate"].predict(session.images), []
    agreed = (
        f"the reference models agree on {(found.labels != OF_NO_CLASS).mean():.1%} of these images"
    )
    with suppress(NotApplicableError):
        if session.panel_predictions is not None:
            correct = (session.panel_predictions.clean(session.images).wrong == 0).mean()
            agreed += f"; on {correct:.1%} of the test images, they agree and are correct"
    said.append(agreed)
    if found.has_confidence:
        here, there = (each.confidence_as_answered.mean() for each in (found, known))
        said.append(f"mean confidence of the candidate: {here:.1%}, on the test images {there:.1%}")
    shares = [
        np.bincount(each.predicted, minlength=len(each.classes)) / len(each.labels)
        for each in (found, known)
    ]
    most = int(np.abs(shares[0] - shares[1]).argmax())
    moved = np.abs(shares[0] - shares[1]).sum() / 2
    name, here, there = found.classes[most], shares[0][most], shares[1][most]
    said.append(
        f"balance of predicted classes: {moved:.1%} of the images would change class to match the "
        f"test images; most differs {name}, {here:.1%} here and {there:.1%} there"
    )
    return tuple(said)


def section(outcome: Outcome) -> Section | None:
    """Return what the candidate predicts otherwise on images without labels; None without any."""
    if (found := outcome.part(Disagreements)) is None:
        return None
    titles = (
        "name",
        "of",
        "disagreements",
        "of unanimous images",
        "other than the incumbent's",
        "of images",
    )
    rows = [(name, of, *(f"{each:,}" for each in counts)) for name, of, *counts in found.groups]
    body = paragraphs(found.sentence, found.caution) + sheet(found.title, found.faces)
    body += folded(
        "Drift from the test set, for information", paragraphs(*found.facts), opened=True
    )
    if found.pairs:
        body += folded(
            "Disagreements from class to class",
            table(("change", "images"), found.pairs, numbers=True),
        )
    body += folded("Classes and groups", table(titles, rows, numbers=True))
    return Section(FAMILY, "Images without labels", body, before="slices")
