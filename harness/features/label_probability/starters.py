"""First checks of the families of label probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.checks.first_checks import poses

if TYPE_CHECKING:
    from harness.checks.first_checks import Row, StarterData

_FLIPPED: dict[str, Any] = {"view": ["mirrored"]}


def label_probability(_: StarterData) -> list[Row]:
    """Return checks of clean and of flipped images; the family `confidence` has the log loss of clean ones."""
    return [
        ("label-probability-clean", "label_probability", {}),
        ("label-probability-flip", "label_probability", _FLIPPED),
        ("log-loss-flip", "log_loss", _FLIPPED),
    ]


def augmentation_gap(about: StarterData) -> list[Row]:
    """Return checks of the ends of the augmentation range, one perturbation at a time."""
    turned = [(name.removeprefix("gain-"), more) for name, _, more in poses("gain")(about)]
    shifted = [(name.removeprefix("shift-"), more) for name, _, more in poses("shift")(about)]
    rows: list[Row] = [
        (f"label-probability-change-{name}", "label_probability_change", more) for name, more in turned + shifted
    ]
    return [
        *rows,
        ("label-probability-change-flip", "label_probability_change", _FLIPPED),
        ("log-loss-change-flip", "log_loss_change", _FLIPPED),
    ]
