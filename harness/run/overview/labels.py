"""What a model comes to without the images whose labels are suspect."""

from __future__ import annotations

from harness.measures.panel.label_errors import WithoutSuspects, without
from harness.run.overview.part import Part, Subject
from harness.store.records import record


@record
class Labels:
    """How right a model is without the suspects among the labels; None where nobody knows of any."""

    without_suspects: WithoutSuspects | None = None


def _labels(subject: Subject) -> Labels:
    if subject.suspects is None or subject.knowledge is None or not subject.suspects.rows:
        return Labels()
    return Labels(without(subject.model.predict(subject.images), subject.knowledge, subject.suspects))


LABELS = Part(Labels, _labels)
