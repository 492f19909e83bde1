"""First check of the family `shortcut`, and the self-check that it can fail."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from harness.base.errors import NotApplicableError
from harness.data import sample_up_to
from harness.features.shortcut.metrics import SHORTCUT_PULL
from harness.perturb.marks import MARKS
from harness.run.mutants import finding_of_family, with_candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.checks import Check
    from harness.checks.first_checks import Row, StarterData
    from harness.run.mutants import Finding, Judge
    from harness.run.session import StressSession

FAMILY = "shortcut"
_IMAGES = 40
"""Images of the self-check. Each is predicted once a mark, which costs where a server predicts."""


def starter_checks(_: StarterData) -> list[Row]:
    """Return the one check of the family."""
    return [("shortcut", SHORTCUT_PULL.name, {})]


def a_shortcut_is_noticed(session: StressSession, judge: Judge) -> Callable[[], Finding] | None:
    """Return the self-check that a mutant with a shortcut fails.

    None if no check of the family has a threshold.
    """
    checks = [check for check in session.checks.family(FAMILY) if check.binding]
    return partial(_finding, session, judge, checks) if checks else None


def _finding(session: StressSession, judge: Judge, checks: Sequence[Check]) -> Finding:
    from harness.features.shortcut.mutant import with_shortcut

    candidate = session.roles["candidate"]
    if not candidate.provides.live:
        raise NotApplicableError("recorded predictions have none of a mutant with a shortcut")
    sample_session = session.on_images(sample_up_to(session.images, _IMAGES))
    mutant = with_candidate(sample_session, with_shortcut(candidate))
    harm = f"the model takes a {MARKS[0].in_words()}, for {session.images.classes[0]}:"
    return finding_of_family(
        FAMILY, checks, mutant, sample_session, judge, harm=harm, fault="a shortcut"
    )
