"""An artifact beside its original: one sentence, and a page of what differs and where."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from harness.base.records import record
from harness.checks.tolerance import EQUIVALENCE, what_decides
from harness.measures.changed_predictions import lost_and_gained, top_change
from harness.report.page import Section, folded, inputs, paragraphs, render, table, whole_page
from harness.report.pictures import sheet, source_of
from harness.run.feature_records import PicturedRecord
from harness.run.shown import Face

if TYPE_CHECKING:
    from harness.features.equivalence.equality import Equality
    from harness.features.equivalence.normalization import Normalization
    from harness.run.outcome import Outcome
    from harness.run.request import RunRequest
    from harness.run.session import StressSession

_SHOWN, _MOST = 60, 20
"""Changed images that the page shows, and changes of class, classes and groups."""
_VERDICTS = {"equal": "Equal", "different": "Different", "inconclusive": "Cannot tell"}
_KINDS = {"equal": "pass", "different": "fail", "inconclusive": "error"}


@record
class OriginalDifferences(PicturedRecord):
    """Differences of a candidate from its original, as the record of a run has them.

    `sentence` says how many predictions changed. `caution` says why equality to this original is
    worth little, or is empty. `faces` are changed images. The counts of a group are changed images,
    all images, correct predictions lost, and gained. `facts` are empty.
    """

    @property
    def headline_caution(self) -> str:
        """Return why equality to this original is worth little."""
        return self.caution


def sentence(done: Equality) -> str:
    """Return the outcome in one sentence."""
    decides, more = what_decides(done.checks, done.outcome)
    changes = _changes(done, done.checks[0].in_brief, decides)
    return "; ".join([f"{_VERDICTS[done.outcome]}: {changes}{more}", *done.batches]) + "."


def _changes(done: Equality, share: str, decides: str = "") -> str:
    """Say how many predictions change, how most often, and how many correct ones are lost.

    The share stands as text.
    """
    subject = f"{done.order}; it" if done.order else "the artifact"
    often = ", ".join(["", *filter(None, [top_change(*done.predictions, done.differ)])])
    lost, gained = (int(each.sum()) for each in lost_and_gained(*done.predictions, done.differ))
    is_lost = "correct prediction is lost" if lost == 1 else "correct predictions are lost"
    count, n = int(done.differ.sum()), len(done.differ)
    said = f"{subject} changes {count:,} of {n:,} predictions ({share}){often}{decides}"
    return f"{said}; {lost:,} {is_lost}, {gained:,} gained"


def differences(session: StressSession, request: RunRequest) -> OriginalDifferences | None:
    """Return the distance of a candidate from its original for the report of a run.

    None without an original.
    """
    if "original" not in session.roles or not session.checks.family(EQUIVALENCE):
        return None
    from harness.features.equivalence.equality import (
        equality_in,
    )  # It needs PyTorch, and a report does not.

    return _differences(equality_in(session, request.history_path))


def section(outcome: Outcome) -> Section | None:
    """Return what differs from the original; None without one."""
    if (found := outcome.part(OriginalDifferences)) is None:
        return None
    parts = [folded(part.title, part.body, opened=not at) for at, part in enumerate(_parts(found))]
    body = Markup().join([paragraphs(found.caution, found.sentence), *parts])
    return Section("original", "Differences from the original", body, before="slices")


def equality_lines(done: Equality) -> list[str]:
    """Return what the terminal shows.

    A caution, the sentence, a normalization that explains it, and a hint.
    """
    return [
        line for line in (done.caution, sentence(done), _normalization(done), done.hint) if line
    ]


def equality_json(done: Equality) -> dict[str, object]:
    """Return the outcome and its checks in plain types."""
    return {
        "outcome": done.outcome,
        "sentence": sentence(done),
        "caution": done.caution,
        "hint": done.hint,
        "normalization": done.normalization and _normalization_record(done.normalization),
        "artifact": done.artifact.as_json(),
        "original": done.original.as_json(),
        "data": {"name": done.images.name, "sha256": done.images.sha256, "n": len(done.images)},
        "changed": done.images.positions.numpy()[done.differ].tolist(),
        "checks": [
            {
                "title": check.title,
                "metric": check.measurement.metric.name,
                "value": check.measurement.value,
                "n": check.measurement.n,
                "bounds": list(check.limits),
                "tolerance": check.tolerance,
                "outcome": check.outcome,
                "detail": check.measurement.detail,
            }
            for check in done.checks
        ],
    }


def _normalization(done: Equality) -> str:
    return "" if done.normalization is None else done.normalization.sentence


def _normalization_record(found: Normalization) -> dict[str, object]:
    return {
        "kind": found.kind,
        "mean": found.mean,
        "std": found.std,
        "explained": found.explained,
        "changed": found.changed,
        "n": found.n,
        "sentence": found.sentence,
    }


def equality_page(done: Equality, reproduce: str) -> str:
    """Return the page, with the command that makes it again."""
    banner = render(
        "banner",
        kind=_KINDS[done.outcome],
        sentence=done.caution or f"{_VERDICTS[done.outcome]}.",
        headline=" ".join(filter(None, [sentence(done), _normalization(done), done.hint])),
        facts=(),
        run="",
        verdict=done.outcome,
    )
    rows = []
    for check in done.checks:
        found, outcome = check.measurement, _VERDICTS.get(check.outcome, check.outcome).lower()
        value, held = found.unit.told_apart(found.value, check.tolerance)
        limits = " to ".join(map(check.written, check.limits))
        rows.append((check.title, value, limits, held, f"{found.n:,}", outcome, found.detail))
    titles = ("check", "measured", "99% bounds, one-sided", "tolerance", "n", "outcome", "detail")
    models = ("artifact", done.artifact), ("original", done.original)
    facts = [(name, f"{model.path} ({model.sha256[:12]})") for name, model in models]
    data = f"{done.images.name}, {done.images.split} split, {len(done.images):,} images"
    last = inputs([*facts, ("data", data), ("reproduce", reproduce)])
    sections = [
        Section("checks", "The checks", table(titles, rows)),
        *_parts(_differences(done)),
        last,
    ]
    return whole_page(
        f"{done.artifact.path} against {done.original.path}", Markup(), sections, banner=banner
    )


def _differences(done: Equality) -> OriginalDifferences:
    """Return the distance from the original, as the record of a run has it, and where it lies."""
    measurement, tolerance = done.checks[0].measurement, done.checks[0].tolerance
    value, held = measurement.unit.told_apart(measurement.value, tolerance)
    said = f"{_changes(done, f'{value}, tolerance {held}')}."
    artifact, original = done.predictions
    names = np.asarray(original.classes)
    before, now = names[original.predicted], names[artifact.predicted]
    at, sure = np.flatnonzero(done.differ), None
    if artifact.has_confidence and original.has_confidence:
        sure = original.confidence_as_answered, artifact.confidence_as_answered
        at = at[np.argsort(-np.maximum(*sure)[at], kind="stable")]
    faces = []
    for position in at[:_SHOWN].tolist():
        number, true = int(done.images.positions[position]), str(names[original.labels[position]])
        was, is_now = str(before[position]), str(now[position])
        shares = "" if sure is None else f"{sure[0][position]:.0%} → {sure[1][position]:.0%} · "
        words = (
            f"image {number}: the original predicts {was}, the artifact {is_now}; its label is "
            f"{true}"
        )
        image = source_of(done.images.pixels[position].permute(1, 2, 0).numpy())
        faces.append(
            Face(
                image,
                was,
                is_now,
                f"{shares}label {true} · image {number}",
                words,
                wrong=is_now != true,
            )
        )
    order = "" if sure is None else ", the most confident first"
    pairs = Counter(
        f"{was} → {is_now}" for was, is_now in zip(before[at], now[at], strict=True)
    ).most_common(_MOST)
    lost, gained = lost_and_gained(*done.predictions, done.differ)
    groups = []
    columns = {f"group by {name}": values for name, values in original.images.groups.items()}
    for title, values in {"class predicted by the original": before, **columns}.items():
        parts = [(name, values == name) for name in sorted(set(values), key=str)]
        for name, of in sorted(parts, key=lambda each: -done.differ[each[1]].mean())[:_MOST]:
            count, n = int(done.differ[of].sum()), int(of.sum())
            groups.append((str(name), title, count, n, int(lost[of].sum()), int(gained[of].sum())))
    return OriginalDifferences(
        said[0].upper() + said[1:],
        done.caution,
        f"{len(faces)} of {len(at):,} changed predictions, original → artifact{order}",
        tuple(faces),
        tuple(pairs),
        tuple(groups),
    )


def _parts(found: OriginalDifferences) -> list[Section]:
    """Return what differs and where, part by part, without those that have nothing to show."""
    rows = [
        (name, column, count, f"{n:,}", f"{count / n:.1%}", lost, gained)
        for name, column, count, n, lost, gained in found.groups
    ]
    titles = ("name", "of", "changed", "n", "share", "correct lost", "gained")
    by_pair = table(("change", "images"), found.pairs, numbers=True) if found.pairs else ""
    parts = [
        Section("changed", "Changed predictions", sheet(found.title, found.faces)),
        Section("pairs", "Changes from class to class", by_pair),
        Section("classes", "Classes and groups", table(titles, rows, numbers=True)),
    ]
    return [part for part in parts if part.body]
