"""Pictures of a test: made where the test ran, put into the page by the controller, which keeps the page small."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pytest

    from harness.gates import Verdict
    from harness.run.evidence import Evidence
    from harness.run.session import StressSession

PICTURES = "stress_pictures"
"""The name under which a test's pictures travel in its report's properties."""

MAX_BYTES = 3_200_000
"""What the pictures of all tests may take of a page of at most 5 MB; the rest is for figures and tables."""

_OF_PASSED = 0.45
"""Share of it that the pictures of tests that passed may fill, since those that follow may fail."""


def take_pictures(evidence: Evidence, session: StressSession) -> dict[str, Any]:
    """Return what to show of the running test, as HTML: its pictures, the most telling first, and its gallery."""
    from harness.report.case_pictures import as_html
    from harness.report.gallery import gallery_html, gallery_title
    from harness.report.html import not_made

    gallery, verdict = "", evidence.verdict
    try:
        tiles, count = evidence.gallery(session)
        if tiles and verdict is not None and verdict.gate.keys.get("pair"):
            gallery = gallery_html(gallery_title(verdict.gate.pair, verdict.gate.pose, tiles, count), tiles)
        pictures = [as_html(case) for case in evidence.cases(session)]
    except Exception as error:  # A user's model that answers may still not be one that can be looked into.
        pictures = [not_made(repr(error))]
    return {"pictures": pictures, "gallery": gallery}


class PictureBook:
    """Puts pictures into the entries of the page, as they arrive, until they would make it too large.

    Each failed test's first picture has room longer than its second, and that than its third, so that a run in which
    much fails shows something of everything. `command` and `reports` say how this run was started and where it reports
    to.
    """

    def __init__(self, command: Sequence[str], reports: Path) -> None:
        self.command = command
        self.reports = reports
        self.spent = 0

    def illustrate(self, report: pytest.TestReport, verdict: Verdict, made: Mapping[str, Any]) -> None:
        """Attach the test's explanation and pictures to its entry in the page."""
        from pytest_html import extras

        from harness.report.html import details

        entry = extras.html(details(verdict, self.affordable(verdict, made)))
        report.extras = [*getattr(report, "extras", []), entry]  # type: ignore[attr-defined]

    def affordable(self, verdict: Verdict, made: Mapping[str, Any]) -> list[str]:
        """Return the pictures that the page has room for, and a line that says what is left out and how to see it."""
        from harness.report.html import left_out

        budget = MAX_BYTES * (_OF_PASSED if verdict.passed else 1)
        pictures: list[str] = made["pictures"]
        shown: list[str] = []
        for rank, picture in enumerate(pictures):
            if not self._takes(picture, budget if verdict.passed else budget * (1 - rank / 4)):
                break
            shown.append(picture)
        missing = len(pictures) - len(shown)
        omitted = [f"{missing} picture{'s' if missing > 1 else ''}"] if missing else []
        if self._takes(made["gallery"], budget):
            shown.append(made["gallery"])
        else:
            omitted.append("the gallery")
        if omitted:
            name = verdict.gate.id
            command = shlex.join([*self.command, "-k", name, "--stress-reports", str(self.reports / name)])
            shown.append(left_out(" and ".join(omitted), command))
        return shown

    def _takes(self, content: str, budget: float) -> bool:
        if self.spent + len(content) > budget:
            return not content
        self.spent += len(content)
        return True
