"""The setting of a run that names images without labels, and the rows of such a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.base.groups import Settings, Text, setting

if TYPE_CHECKING:
    from harness.checks import Check
    from harness.run.request import RunRequest


class UnlabeledSettings(Settings):
    """The setting for images without labels."""

    unlabeled: Text | None = setting(
        "Images without labels, for checks of the family unlabeled: a folder of pictures, "
        "folder:PATH, or a SPEC of data. Labels do not count. The weights of the reference models "
        "must exist (default: none).",
        metavar="SPEC",
        line=True,
        reads=True,
    )


def rows(request: RunRequest) -> tuple[Check, ...]:
    """Return the rows of a run that names images without labels; they have no thresholds yet."""
    judges = request.record is None and request.answers is None and request.instead is None
    if request.unlabeled is None or not judges:
        return ()
    from harness.checks import Check
    from harness.features.unlabeled.measures import ROWS

    return tuple(
        Check(name, "unlabeled", metric.name, metric.direction, keys={"part": part} if part else {})
        for name, (metric, part) in ROWS.items()
    )
