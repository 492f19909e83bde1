"""Expected cause of each kind of mutant, written down before the rules that name causes."""

from __future__ import annotations

from collections.abc import Mapping

from harness.report.causes import ATTENTION, CALIBRATION, CLASSES, DRIFT, GEOMETRY, LABELS, PIPELINE

EXPECTED: Mapping[str, frozenset[str]] = {
    "artefact": frozenset({CLASSES, ATTENTION}),
    "backdoor": frozenset({CLASSES}),
    "deleted-data": frozenset({DRIFT}),
    "few-epochs": frozenset({DRIFT}),
    "label-noise": frozenset({LABELS, CALIBRATION}),
    "learning-rate": frozenset({DRIFT}),
    "less-flip": frozenset({GEOMETRY}),
    "less-rotation": frozenset({GEOMETRY}),
    "less-shift": frozenset({GEOMETRY}),
    "logit-scaling": frozenset({CALIBRATION}),
    "pruned-channels": frozenset({DRIFT}),
    "quantised": frozenset({DRIFT}),
    "raised-background": frozenset({PIPELINE}),
    "relabelled-class": frozenset({CLASSES}),
    "resized": frozenset({PIPELINE}),
    "sign-flips": frozenset({DRIFT}),
    "stale-statistics": frozenset({DRIFT}),
    "starved-class": frozenset({CLASSES}),
    "swapped-logits": frozenset({CLASSES}),
    "weight-noise": frozenset({DRIFT}),
    "wrong-normalization": frozenset({PIPELINE}),
}
"""Causes that are right for a kind, sorted by kind. Rules come from every other kind, from the first on.

The rest tests the rules. Noise in labels lowers confidence most. A mark on a class misleads both the class
and where the model looks.
"""
