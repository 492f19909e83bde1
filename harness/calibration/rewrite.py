"""Writing of calibrated thresholds into a checks file; comments, order and thresholds by hand stay."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import tomlkit

from harness.calibration.thresholds import PROVISIONAL
from harness.checks.check import UNTIL_CALIBRATED
from harness.checks.toml_tables import with_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tomlkit.items import InlineTable, Table

    from harness.measures.panel.threshold import Calibrated

_NEW = ("id", "family", "metric", "direction")
"""Entries of a new row besides its threshold."""
_DIGITS = 12
"""Digits of a check's definition in the file, which identify the check of the calibration."""


def with_thresholds(content: str, calibrated: Sequence[Calibrated], *, recipe: Mapping[str, Any], date: str) -> str:
    """Return the text of a checks file with the panel's thresholds in its checks.

    A calibrated check without an entry is appended. A check that cannot use its threshold has the reason in
    `informational`. A check that was not calibrated loses the threshold of a former panel. A threshold by hand "until
    calibrated" is removed if the panel's counts. `recipe` replaces the file's `[recipe]`; each threshold has the
    `date`.
    """
    document = tomlkit.parse(with_table(content, "recipe", tomlkit.dumps({"recipe": recipe})))
    if "check" not in document:
        document.add("check", tomlkit.aot())
    checks: dict[str, Table] = {check["id"]: check for check in document["check"]}
    for unmeasured in set(checks) - {item.check.id for item in calibrated}:
        if checks[unmeasured].pop("panel", None) is not None:
            checks[unmeasured].pop("informational", None)
    for item in calibrated:
        if item.check.id not in checks:
            checks[item.check.id] = tomlkit.table()
            checks[item.check.id].update({name: getattr(item.check, name) for name in _NEW})
            document["check"].append(checks[item.check.id])
        check = checks[item.check.id]
        check.pop("panel", None)
        check.pop("informational", None)
        check["panel"] = _threshold(item, date)
        if "hand" in check and ends(item, str(check["hand"].get("reason", ""))):
            del check["hand"]
        if item.informational:
            check["informational"] = item.informational
    # One empty line before each check, appended ones included.
    return re.sub(r"\n+\[\[check\]\]", "\n\n[[check]]", tomlkit.dumps(document))


def ends(item: Calibrated, reason: str) -> bool:
    """Return whether a panel's threshold replaces one by hand with this reason; it needs at least three models."""
    return reason == UNTIL_CALIBRATED and not item.informational and item.reference_models >= PROVISIONAL


def _threshold(item: Calibrated, date: str) -> InlineTable:
    threshold = tomlkit.inline_table()
    threshold.update(
        {
            **item.written,
            **({"definition": item.check.definition[:_DIGITS]} if item.check.definition else {}),
            **({"conversions": item.check.conversions} if item.check.conversions else {}),
            "date": date,
        }
    )
    return threshold
