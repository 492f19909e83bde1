"""Pictures of a test: made where the test ran, put into the record by the controller, which keeps the page small."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.base.records import as_json, read_json
from harness.run.margins import urgency
from harness.run.shown import Case, Pictures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.checks import Verdict
    from harness.run.evidence import Evidence
    from harness.run.session import StressSession

PICTURES = "stress_pictures"
"""The name under which a test's pictures travel in its report's properties."""

MAX_BYTES = 1_250_000
"""Bytes for the pictures of all tests in a page of at most 3 MB; the rest is for figures and tables."""

_LEADING = 2
"""Pictures of the worst check of consensus-set errors, which lead the page, that no other check takes the room of."""
_OF_PASSED = 0.25
"""Share of these bytes for the pictures of passing tests: a page without failures stays small."""


_STYLE = (
    "<style>.picture > div, .gallery ol { display: flex; flex-wrap: wrap; gap: 1em; list-style: none }"
    ".picture img, .gallery img { display: block; width: 168px; image-rendering: pixelated }"
    ".picture .line span { margin-left: 1em }</style>"
)


def panels(sent: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `PictureMaker.take` made as an extra of pytest-html's own report, which `--html FILE` asks for."""
    from pytest_html import extras

    from harness.report.page import render
    from harness.report.pictures import sheet

    made = read_json(Pictures, sent["made"], where="a test's pictures")
    shown = [render("picture", case=case) for case in made.cases] + [
        sheet(made.title, made.faces)
    ] * bool(made.faces)
    extra: dict[str, Any] = extras.html(_STYLE + "".join(shown))
    return extra


class PictureMaker:
    """Makes the pictures of tests in the process that runs them; of tests that passed, no more than the page can show.

    A page shows the first pictures of all that passed before the second of any, in the order of the tests. So once the
    first ones fill its room for these, those that follow in this process find none, whatever other processes made.
    """

    def __init__(self) -> None:
        self.first: Counter[str] = Counter()
        """Bytes of first pictures, by the status of their tests: the page puts what passed before what has no
        threshold."""

    def take(
        self, evidence: Evidence, verdict: Verdict, session: StressSession, *, turn: int
    ) -> dict[str, Any]:
        """Return what to show of the running test: its pictures, the most telling first, and its gallery.

        `turn` is the test's place among all of the run.
        """
        # Consensus-set errors have a section of their own, which shows the worst row, whatever its status.
        limited = verdict.passed and not verdict.leads
        if limited and self.first[verdict.status] >= int(_OF_PASSED * MAX_BYTES):
            made = Pictures(omitted=None if evidence.has_examples else 0)
        else:
            made = _made(evidence, session)
            self.first[verdict.status] += sum(len(as_json(case)) for case in made.cases[:1])
        return {"turn": turn, "made": as_json(made)}


def _made(evidence: Evidence, session: StressSession) -> Pictures:
    from harness.report.pictures import case_of, gallery

    made, verdict = Pictures(), evidence.verdict
    try:
        tiles, count = evidence.gallery(session)
        if tiles and verdict is not None:
            made = Pictures(
                (), *gallery(verdict.check.keys["pair"], verdict.check.pose, tiles, count)
            )
        return replace(made, cases=tuple(map(case_of, evidence.examples(session))))
    except (
        Exception
    ) as error:  # A user's model that answers may still not be one that can be looked into.
        return replace(made, cases=(Case((), f"the pictures could not be made: {error!r}"),))


@dataclass(eq=False)
class _Entry:
    """A test's pictures, its gallery the last of them, with the size of each, and how many are shown, in this order."""

    verdict: Verdict
    turn: int
    made: Pictures
    shown: int = 0

    def __post_init__(self) -> None:
        self.sizes = [len(as_json(case)) for case in self.made.cases]
        self.sizes += [sum(len(as_json(face)) for face in self.made.faces)] * bool(self.made.faces)

    @property
    def fitting(self) -> Pictures:
        """Return the pictures that are shown, and how many are left out."""
        made, missing = self.made, len(self.sizes) - self.shown
        # The number is not known where pictures of tests that passed were not made.
        omitted = None if made.omitted is None or (missing and self.verdict.passed) else missing
        return replace(
            made,
            cases=made.cases[: self.shown],
            faces=made.faces if not missing else (),
            omitted=omitted,
        )


class PictureBook:
    """Chooses the pictures that the page has room for when all tests have reported, those of the worst failures first.

    Each check that fails has one picture before any has two; tests that passed share what is left.
    """

    def __init__(self) -> None:
        self.entries: list[_Entry] = []

    def take(self, verdict: Verdict, sent: Mapping[str, Any]) -> None:
        """Keep a test's verdict and its pictures until `shown`."""
        made = read_json(Pictures, sent["made"], where="a worker's pictures")
        self.entries.append(_Entry(verdict, sent["turn"], made))

    def shown(self) -> dict[str, Pictures]:
        """Return the pictures that the page has room for, by the id of the check."""
        ranked = sorted(self.entries, key=lambda entry: (urgency(entry.verdict), entry.turn))
        consensus = next((each for each in ranked if each.verdict.leads), None)
        spent = _share_out([consensus], MAX_BYTES, most=_LEADING) if consensus else 0
        spent += _share_out(
            [entry for entry in ranked if not entry.verdict.passed], MAX_BYTES - spent
        )
        rest = min(MAX_BYTES - spent, int(_OF_PASSED * MAX_BYTES))
        _share_out([entry for entry in ranked if entry.verdict.passed], rest)
        return {
            each.verdict.check.id: each.fitting
            for each in sorted(self.entries, key=lambda each: each.turn)
        }


def _share_out(entries: Sequence[_Entry], room: int, *, most: int | None = None) -> int:
    """Give each entry its first picture, then each its second, up to the first that finds no room, `most` at most.

    Returns the bytes that they take. Each process knows only its own pictures, so it may make more; these are dropped.
    """
    spent = 0
    for rank in range(max((len(entry.sizes[:most]) for entry in entries), default=0)):
        for entry in (entry for entry in entries if entry.shown <= rank < len(entry.sizes)):
            if spent + entry.sizes[rank] > room:
                return spent
            spent += entry.sizes[rank]
            entry.shown += 1
    return spent
