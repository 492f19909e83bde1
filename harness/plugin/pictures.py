"""Pictures of a test: made where the test ran, chosen by the controller for a small page."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.base.records import as_json, read_json
from harness.run.margins import urgency
from harness.run.shown import Case, ExamplePictures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.checks import Verdict
    from harness.run.evidence import Evidence
    from harness.run.session import StressSession

PICTURES = "stress_pictures"
"""The name under which a test's pictures travel in its report's properties."""

MAX_BYTES = 1_250_000
"""Bytes for the pictures of all tests, in a page of at most 3 MB with figures and tables."""

_LEADING = 2
"""Pictures of the worst check of consensus-set errors that always have room, since they lead."""
_SHARE_OF_PASSED = 0.25
"""Share of these bytes for the pictures of passing tests: a page without failures stays small."""
_STYLE = (
    "<style>.picture > div, .gallery ol { display: flex; flex-wrap: wrap; gap: 1em; "
    "list-style: none }"
    ".picture img, .gallery img { display: block; width: 168px; image-rendering: pixelated }"
    ".picture .line span { margin-left: 1em }</style>"
)


def panels(sent: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pictures of `PictureMaker.take` as an extra of pytest-html's report (`--html`)."""
    from pytest_html import extras

    from harness.report.page import render
    from harness.report.pictures import sheet

    pictures = read_json(ExamplePictures, sent["pictures"], where="a test's pictures")
    parts = [render("picture", case=case) for case in pictures.cases]
    if pictures.faces:
        parts.append(sheet(pictures.title, pictures.faces))
    extra: dict[str, Any] = extras.html(_STYLE + "".join(parts))
    return extra


class PictureMaker:
    """Makes the pictures of tests in the process that runs them.

    It makes no more pictures of passing tests than the page can show. A page shows the first
    pictures of all that passed before the second of any, in the order of the tests. So once the
    first ones fill its room for these, those that follow in this process find none, whatever other
    processes made.
    """

    def __init__(self) -> None:
        self.first_bytes: Counter[str] = Counter()
        """Bytes of first pictures by status: the page puts passing before informational tests."""

    def take(
        self, evidence: Evidence, verdict: Verdict, session: StressSession, *, turn: int
    ) -> dict[str, Any]:
        """Return the pictures of the running test, the most telling first, and its gallery.

        `turn` is the test's place among all of the run.
        """
        # Consensus-set errors have their own section, which shows the worst row of any status.
        is_limited = verdict.passed and not verdict.leads
        if is_limited and self.first_bytes[verdict.status] >= int(_SHARE_OF_PASSED * MAX_BYTES):
            omitted = None if evidence.has_examples else 0
            pictures = ExamplePictures(omitted=omitted)
        else:
            pictures = _pictures_of(evidence, session)
            if pictures.cases:
                self.first_bytes[verdict.status] += len(as_json(pictures.cases[0]))
        return {"turn": turn, "pictures": as_json(pictures)}


def _pictures_of(evidence: Evidence, session: StressSession) -> ExamplePictures:
    from harness.report.pictures import case_of, gallery

    pictures = ExamplePictures()
    verdict = evidence.verdict
    try:
        tiles, count = evidence.gallery(session)
        if tiles and verdict is not None:
            check = verdict.check
            pictures = ExamplePictures((), *gallery(check.keys["pair"], check.pose, tiles, count))
        cases = tuple(map(case_of, evidence.examples(session)))
    except Exception as error:
        # A user's model that answers may still not be one that can be looked into.
        cases = (Case((), f"the pictures could not be made: {error!r}"),)
    return replace(pictures, cases=cases)


@dataclass(eq=False)
class _Entry:
    """A test's pictures, its gallery last, with their sizes; the first `shown` are shown."""

    verdict: Verdict
    turn: int
    pictures: ExamplePictures
    shown: int = 0

    def __post_init__(self) -> None:
        self.sizes = [len(as_json(case)) for case in self.pictures.cases]
        if self.pictures.faces:
            self.sizes.append(sum(len(as_json(face)) for face in self.pictures.faces))

    @property
    def fitting(self) -> ExamplePictures:
        """Return the pictures that are shown, and how many are left out."""
        missing = len(self.sizes) - self.shown
        faces = () if missing else self.pictures.faces
        omitted: int | None = missing
        # The number is not known where pictures of tests that passed were not made.
        if self.pictures.omitted is None or (missing and self.verdict.passed):
            omitted = None
        return replace(
            self.pictures,
            cases=self.pictures.cases[: self.shown],
            faces=faces,
            omitted=omitted,
        )


class PictureBook:
    """Chooses the pictures that the page has room for when all tests have reported.

    The worst failures come first. Each check that fails has one picture before any has two; tests
    that passed share what is left.
    """

    def __init__(self) -> None:
        self.entries: list[_Entry] = []

    def take(self, verdict: Verdict, sent: Mapping[str, Any]) -> None:
        """Keep a test's verdict and its pictures until `chosen`."""
        pictures = read_json(ExamplePictures, sent["pictures"], where="a worker's pictures")
        self.entries.append(_Entry(verdict, sent["turn"], pictures))

    def chosen(self) -> dict[str, ExamplePictures]:
        """Return the pictures that the page has room for, by the id of the check."""
        ranked = sorted(self.entries, key=lambda entry: (urgency(entry.verdict), entry.turn))
        leading = [entry for entry in ranked if entry.verdict.leads][:1]
        failing = [entry for entry in ranked if not entry.verdict.passed]
        passing = [entry for entry in ranked if entry.verdict.passed]

        spent = _share_out(leading, MAX_BYTES, ranks=_LEADING)
        spent += _share_out(failing, MAX_BYTES - spent)
        _share_out(passing, min(MAX_BYTES - spent, int(_SHARE_OF_PASSED * MAX_BYTES)))

        in_order = sorted(self.entries, key=lambda entry: entry.turn)
        return {entry.verdict.check.id: entry.fitting for entry in in_order}


def _share_out(entries: Sequence[_Entry], room: int, *, ranks: int | None = None) -> int:
    """Give each entry its first picture, then each its second, up to `ranks`.

    It ends at the first picture that finds no room. Returns the bytes that they take.
    Each process knows only its own pictures, so it may make more; these are dropped.
    """
    spent = 0
    longest = max((len(entry.sizes[:ranks]) for entry in entries), default=0)
    for rank in range(longest):
        for entry in entries:
            if not entry.shown <= rank < len(entry.sizes):
                continue
            if spent + entry.sizes[rank] > room:
                return spent
            spent += entry.sizes[rank]
            entry.shown += 1
    return spent
