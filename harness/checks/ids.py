"""The ids of rows: keys of reports, parts of links and names of tests."""

from __future__ import annotations

import re

LONGEST = 200
"""Characters of the longest id."""


def is_id(name: str) -> bool:
    """Return whether a checks file takes this for the id of a row."""
    return len(name) <= LONGEST and re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name) is not None


def id_without_row(family: str, metric: str = "") -> str:
    """Return the id of a test of a family, and metric, without a row: `slight-tilt` of `slight_tilt`."""
    return "-".join(filter(None, (family, metric))).replace("_", "-").lower()
