"""Migration of checks files and golden lists of version 0.1 (schema 1), which called a check a gate."""

from __future__ import annotations

import re

_RENAMED = {
    '"kept"': '"prediction_consistency"',
    '"lost"': '"object_dependence"',
    '"lost_consensus"': '"consensus_set_errors"',
    '"lost_of_a_class"': '"worst_class_consensus_set_errors"',
    '"right_at_every_pose"': '"robust_accuracy"',
    '"promised"': '"augmentation-range"',
}
"""Values of the keys `metric` and `grid`, by their names in schema 1."""
_HAND = {"bound": "threshold", "retrains": "reference_models", "detects": "minimum_detectable_drop"}
_BUDGETS = {old.strip('"'): new.strip('"') for old, new in _RENAMED.items()}


def from_schema_1(text: str) -> str:
    """Return the text of a checks file of schema 2 for one of schema 1, or of a golden list.

    Thresholds by hand, samples, budgets and comments stay. Panel thresholds and the recipe are removed: version 0.1
    stored its panel in another format, so `stress-harness calibrate` computes them again.
    """
    tables = [table for table in re.split(r"(?m)^(?=\[)", text) if not re.match(r"\[recipe[\].]", table)]
    lines = "".join(tables).splitlines(keepends=True)
    return "".join(_line(line) for line in lines if not re.match(r"(panel|not_gated)\s*=", line))


def _line(line: str) -> str:
    line = re.sub(r"^\[\[gate\]\]", "[[check]]", line)
    line = re.sub(r"^schema = 1$", "schema = 2", line)
    if line.startswith("hand = "):
        for old, new in _HAND.items():
            line = re.sub(rf"\b{old} = ", f"{new} = ", line)
    line = re.sub(r"^healthy = ", "reference = ", line)
    line = re.sub(r'^((?:metric|grid) = )("\w+")', lambda found: found[1] + _RENAMED.get(found[2], found[2]), line)
    return re.sub(r"^(\w+)(?= = [\d.]+$)", lambda found: _BUDGETS.get(found[1], found[1]), line)
