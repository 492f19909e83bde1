"""The outcome of an artifact beside its original: one sentence, and a page of what differs and where."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from harness.measures.changed_predictions import lost_and_gained, top_change
from harness.measures.equivalence import images_needed
from harness.report.page import Section, folded, inputs, paragraphs, render, table, whole_page
from harness.report.pictures import sheet, source_of
from harness.run.outcome import Differences
from harness.run.shown import Face

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.run.equality import Equality, EqualityCheck
    from harness.run.outcome import Outcome

_SHOWN, _MOST = 60, 20
"""Changed images that the page shows, and changes of class, classes and groups."""
_VERDICTS = {"equal": "Equal", "different": "Different", "inconclusive": "Cannot tell"}
_KINDS = {"equal": "pass", "different": "fail", "inconclusive": "error"}


def sentence(done: Equality) -> str:
    """Return the outcome in one sentence."""
    decides, more = deciding(done.checks, done.outcome)
    return f"{_VERDICTS[done.outcome]}: {_changes(done, share(done.checks[0]), decides)}{more}."


def deciding(checks: Sequence[EqualityCheck], outcome: str) -> tuple[str, str]:
    """Return what decided the outcome if the check of all predictions did not, and how many more images would tell."""
    first, *others = checks
    decides = more = ""
    decided = next((check for check in others if check.outcome == outcome), None)
    if outcome not in {"equal", first.outcome} and decided is not None:
        name = decided.quantity.group
        decides = f"; {decided.title}{f' ({name})' if name else ''}: {share(decided)}"
    if outcome == "inconclusive":
        undecided = [check for check in checks if check.outcome == "inconclusive" and not check.implied]
        needed = [images_needed(check.quantity, check.tolerance) for check in undecided]
        more = "; it lies too close to the tolerance for any number of images"
        if None not in needed:
            most = max(number - check.quantity.n for number, check in zip(needed, undecided, strict=True) if number)
            more = f"; about {most:,} more images would tell"
    return decides, more


def _changes(done: Equality, said: str, decides: str = "") -> str:
    """Say how many predictions change, with their share as text, how most often, and how many correct ones are lost."""
    subject = f"{done.order}; it" if done.order else "the artifact"
    most = top_change(*done.predictions, done.differ)
    count, n = int(done.differ.sum()), done.checks[0].measurement.n
    lost, gained = (int(each.sum()) for each in lost_and_gained(*done.predictions, done.differ))
    is_lost = "correct prediction is lost" if lost == 1 else "correct predictions are lost"
    decides = f"{f', most often {most}' if most else ''}{decides}"
    return f"{subject} changes {count:,} of {n:,} predictions ({said}){decides}; {lost:,} {is_lost}, {gained:,} gained"


def share(check: EqualityCheck) -> str:
    """Return a value beside its tolerance, and the bound that decided."""
    value, held = check.measurement.unit.told_apart(check.measurement.value, check.tolerance)
    lower, upper = _limits(check)
    limits = {"equal": f"at most {upper}", "inconclusive": f"between {lower} and {upper}"}.get(check.outcome)
    return f"{value}{f', {limits} with 99% confidence' if limits else ''}, tolerance {held}"


def _limits(check: EqualityCheck) -> tuple[str, str]:
    lower, upper = (check.measurement.unit.told_from(limit, check.tolerance) for limit in check.limits)
    return lower, upper


def differences_of(done: Equality) -> Differences:
    """Return the distance from the original, as the record of a run has it, and where it lies."""
    first = done.checks[0]
    value, held = first.measurement.unit.told_apart(first.measurement.value, first.tolerance)
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
        words = f"image {number}: the original predicts {was}, the artifact {is_now}; its label is {true}"
        image = source_of(done.images.pixels[position].permute(1, 2, 0).numpy())
        faces.append(Face(image, was, is_now, f"{shares}label {true} · image {number}", words, wrong=is_now != true))
    order = "" if sure is None else ", the most confident first"
    pairs = Counter(f"{was} → {is_now}" for was, is_now in zip(before[at], now[at], strict=True)).most_common(_MOST)
    lost, gained = lost_and_gained(*done.predictions, done.differ)
    columns = {"class predicted by the original": before}
    columns |= {f"group by {name}": values for name, values in original.images.groups.items()}
    groups = []
    for title, values in columns.items():
        found = [(int(done.differ[values == name].sum()), int((values == name).sum()), name) for name in set(values)]
        for count, n, name in sorted(found, key=lambda each: (-each[0] / each[1], str(each[2])))[:_MOST]:
            of = values == name
            groups.append((str(name), title, count, n, int(lost[of].sum()), int(gained[of].sum())))
    return Differences(
        said[0].upper() + said[1:],
        done.caution,
        f"{len(faces)} of {len(at):,} changed predictions, original → artifact{order}",
        tuple(faces),
        tuple(pairs),
        tuple(groups),
    )


def differences(outcome: Outcome) -> Section | None:
    """Return what differs from the original; None without one."""
    if (found := outcome.differences) is None:
        return None
    parts = [folded(part.title, part.body, opened=not at) for at, part in enumerate(_parts(found))]
    body = Markup().join([paragraphs(found.caution, found.sentence), *parts])
    return Section("original", "Differences from the original", body)


def _parts(found: Differences) -> list[Section]:
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


def equality_lines(done: Equality) -> list[str]:
    """Return what the terminal shows: a caution on the original, the sentence, a hint, and the layer if asked for."""
    layers = done.layers.sentence if done.layers else ""
    return [line for line in (done.caution, sentence(done), done.hint, layers) if line]


def equality_json(done: Equality) -> dict[str, object]:
    """Return the outcome and its checks in plain types."""
    said: dict[str, object] = {
        "outcome": done.outcome,
        "sentence": sentence(done),
        "caution": done.caution,
        "hint": done.hint,
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
    if (found := done.layers) is not None:
        distances = {name: distance if math.isfinite(distance) else None for name, distance, _ in found.layers}
        said["layers"] = {"sentence": found.sentence, "first": found.first, "distances": distances}
    return said


def equality_page(done: Equality, reproduce: str) -> str:
    """Return the page, with the command that makes it again."""
    banner = render(
        "banner",
        kind=_KINDS[done.outcome],
        sentence=done.caution or f"{_VERDICTS[done.outcome]}.",
        headline=" ".join(filter(None, [sentence(done), done.hint])),
        facts=(),
        run="",
        verdict=done.outcome,
    )
    titles = ("check", "measured", "99% bounds, one-sided", "tolerance", "n", "outcome", "detail")
    rows = []
    for check in done.checks:
        found, outcome = check.measurement, _VERDICTS.get(check.outcome, check.outcome).lower()
        value, held = found.unit.told_apart(found.value, check.tolerance)
        rows.append((check.title, value, " to ".join(_limits(check)), held, f"{found.n:,}", outcome, found.detail))
    sections = [Section("checks", "The checks", table(titles, rows))]
    if done.layers is not None:
        layers = [(name, f"{distance:.2g}", outcome) for name, distance, outcome in done.layers.layers]
        each = folded("All layers, in the order of execution", table(("layer", "distance", "outcome"), layers))
        sections.append(Section("layers", "Layers", paragraphs(done.layers.sentence) + each))
    models = ("artifact", done.artifact), ("original", done.original)
    facts = [(name, f"{model.path} ({model.sha256[:12]})") for name, model in models]
    data = f"{done.images.name}, {done.images.split} split, {len(done.images):,} images"
    sections += [*_parts(differences_of(done)), inputs([*facts, ("data", data), ("reproduce", reproduce)])]
    return whole_page(f"{done.artifact.path} against {done.original.path}", Markup(), sections, banner=banner)
