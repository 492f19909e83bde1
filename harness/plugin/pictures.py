"""Pictures of a test: made where the test ran, put into the page by the controller, which keeps the page small."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.measures.panel.consensus import CONSENSUS_SET_ERRORS
from harness.run.outcome import urgency

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.checks import Verdict
    from harness.run.evidence import Evidence
    from harness.run.session import StressSession

PICTURES = "stress_pictures"
"""The name under which a test's pictures travel in its report's properties."""

MAX_BYTES = 1_250_000
"""Bytes for the pictures of all tests in a page of at most 3 MB; the rest is for figures and tables."""

_OF_PASSED = 0.25
"""Share of these bytes for the pictures of passing tests: a page without failures stays small."""


class PictureMaker:
    """Makes the pictures of tests in the process that runs them; of tests that passed, no more than the page can show.

    A page shows the first pictures of all that passed before the second of any, in the order of the tests. So once the
    first ones fill its room for these, those that follow in this process find none, whatever other processes made.
    """

    def __init__(self) -> None:
        self.first: Counter[str] = Counter()
        """Bytes of first pictures, by the status of their tests: the page puts what passed before what has no
        threshold."""

    def take(self, evidence: Evidence, verdict: Verdict, session: StressSession, *, turn: int) -> dict[str, Any]:
        """Return what to show of the running test, as HTML: its pictures, the most telling first, and its gallery.

        `turn` is the test's place among all of the run. `unmade` says whether pictures may be missing for want of room.
        """
        # Consensus-set errors have a section of their own, which shows the worst row, whatever its status.
        limited = verdict.passed and verdict.metric != CONSENSUS_SET_ERRORS.name
        if limited and self.first[verdict.status] >= int(_OF_PASSED * MAX_BYTES):
            return {"turn": turn, "pictures": [], "gallery": "", "unmade": evidence.has_examples}
        pictures, gallery = _made(evidence, session)
        self.first[verdict.status] += sum(map(len, pictures[:1]))
        return {"turn": turn, "pictures": pictures, "gallery": gallery, "unmade": False}


def _made(evidence: Evidence, session: StressSession) -> tuple[list[str], str]:
    """Return the pictures of the running test, and its gallery."""
    from harness.report.page import paragraphs
    from harness.report.pictures import as_html, gallery_html, gallery_title

    gallery, verdict = "", evidence.verdict
    try:
        tiles, count = evidence.gallery(session)
        if tiles and verdict is not None and verdict.check.keys.get("pair"):
            gallery = gallery_html(gallery_title(verdict.check.keys["pair"], verdict.check.pose, tiles, count), tiles)
        return [as_html(case) for case in evidence.examples(session)], gallery
    except Exception as error:  # A user's model that answers may still not be one that can be looked into.
        return [str(paragraphs(f"the pictures could not be made: {error!r}"))], gallery


@dataclass(eq=False)
class _Entry:
    """A test's entry in the page: its pictures, the most telling first, its gallery, and those of them that it shows.

    An `unmade` entry has no pictures.
    """

    verdict: Verdict
    turn: int
    pictures: list[str]
    gallery: str
    unmade: bool
    shown: list[str] = field(default_factory=list)


class PictureBook:
    """Puts pictures into the entries of the page when all tests have reported, those of the worst failures first.

    Each gate that fails has one picture before any has two, and galleries come last; tests that passed share what is
    left. `command` says how this run was started.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.command = command
        self.entries: list[_Entry] = []

    def take(self, verdict: Verdict, made: Mapping[str, Any]) -> None:
        """Keep a test's verdict and its pictures until `entries_shown`."""
        self.entries.append(_Entry(verdict, **made))

    def entries_shown(self) -> dict[str, str]:
        """Return, by the id of the check, its explanation with the pictures that the page has room for, as HTML."""
        from harness.report.html import details

        ranked = sorted(self.entries, key=lambda entry: (urgency(entry.verdict), entry.turn))
        spent = _share_out([entry for entry in ranked if not entry.verdict.passed], MAX_BYTES)
        rest = min(MAX_BYTES - spent, int(_OF_PASSED * MAX_BYTES))
        _share_out([entry for entry in ranked if entry.verdict.passed], rest)
        return {
            entry.verdict.check.id: details(entry.verdict, [*entry.shown, *self._left_out(entry)])
            for entry in self.entries
        }

    def _left_out(self, entry: _Entry) -> list[str]:
        """Return a line that says what an entry does not show and how to see it, if there is anything.

        Of a test that passed it gives no number, which is not known where pictures were not made.
        """
        from harness.report.page import render
        from harness.run.request import rerun_command

        missing = len(entry.pictures) + bool(entry.gallery) - len(entry.shown)
        if not (missing or entry.unmade):
            return []
        what = "pictures" if entry.verdict.passed else f"{missing} picture{'s' if missing > 1 else ''}"
        return [str(render("omitted", omitted=what, command=rerun_command(self.command, entry.verdict.check.id)))]


def _share_out(entries: Sequence[_Entry], room: int) -> int:
    """Give each entry its first picture, then each its second, and galleries last, up to the first that finds no room.

    Returns the bytes that they take. Each process knows only its own pictures, so it may make more; these are dropped.
    """
    spent = 0
    rounds = max((len(entry.pictures) for entry in entries), default=0)
    for rank in [*range(rounds), None]:
        for entry in entries:
            if rank is None:
                picture = entry.gallery
            elif rank < len(entry.pictures):
                picture = entry.pictures[rank]
            else:
                continue
            if spent + len(picture) > room:
                return spent
            if picture:
                entry.shown.append(picture)
                spent += len(picture)
    return spent
