"""Training of a model, as far as its record states it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.base.records import record
from harness.run.overview.part import Part, Subject


@record
class Training:
    """Loss and accuracy of training and validation images for each epoch, named as those of `Epoch`."""

    history: tuple[Mapping[str, float], ...] = ()


def _training(subject: Subject) -> Training:
    """Take the epochs that the checkpoint's record tells of, or the file beside it; none when they make no sense."""
    from harness.networks.training import CURVES

    model = subject.model
    epochs: Any = model.record.history if model.record else ()
    beside = Path(model.path).with_suffix(".history.json")
    try:
        epochs = epochs or json.loads(beside.read_bytes())
        return Training(tuple({name: float(epoch[name]) for name in CURVES} for epoch in epochs))
    except (OSError, ValueError, TypeError, KeyError):
        return Training()


TRAINING = Part(Training, _training)
