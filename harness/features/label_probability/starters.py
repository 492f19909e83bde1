"""First checks of the families of label probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.checks.first_checks import poses

if TYPE_CHECKING:
    from harness.checks.first_checks import Row, StarterData

_FLIPPED: dict[str, Any] = {"view": ["mirrored"]}


def label_probability(about: StarterData) -> list[Row]:
    """Return checks of clean images, and of flipped ones if the project declares flips.

    The family `confidence` has the log loss of clean images.
    """
    clean: list[Row] = [("label-probability-clean", "label_probability", {})]
    if about.declared is None or not about.declared.flip:
        return clean
    return [
        *clean,
        ("label-probability-flip", "label_probability", _FLIPPED),
        ("log-loss-flip", "log_loss", _FLIPPED),
    ]


def augmentation_gap(about: StarterData) -> list[Row]:
    """Return checks of the ends of the augmentation range, one perturbation at a time."""
    rotations = [(name.removeprefix("gain-"), more) for name, _, more in poses("gain")(about)]
    shifts = [(name.removeprefix("shift-"), more) for name, _, more in poses("shift")(about)]
    rows: list[Row] = [
        (f"label-probability-change-{name}", "label_probability_change", more)
        for name, more in rotations + shifts
    ]
    if about.augmentation.flip:
        rows.append(("label-probability-change-flip", "label_probability_change", _FLIPPED))
        rows.append(("log-loss-change-flip", "log_loss_change", _FLIPPED))
    return rows
