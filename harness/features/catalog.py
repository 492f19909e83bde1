"""Families of the features that ship: their names stay known where a folder is removed."""

from __future__ import annotations

FEATURE_OF_FAMILY = {
    "augmentation_gap": "label_probability",
    "batch_norm": "batch_norm",
    "consensus": "consensus",
    "equivalence": "equivalence",
    "fingerprint": "fingerprint",
    "golden": "golden",
    "label_probability": "label_probability",
    "shortcut": "shortcut",
    "skew": "skew",
    "slices": "slices",
    "soft_confusion": "consensus",
    "trigger": "trigger",
    "unlabeled": "unlabeled",
}
"""The name of the feature that adds each family."""
