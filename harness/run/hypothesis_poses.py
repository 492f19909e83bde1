"""Poses that Hypothesis found.

The smallest failing one as text, as a line to paste, and its extent.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING

from harness.perturb import Pose
from harness.run.evidence import Evidence

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.checks import Verdict
    from harness.run.session import StressSession

_STEP, _STEPS = 0.1, 50
"""Step and reach, in degrees or pixels, of the search around the smallest failing pose."""


def inner_test(test: Callable[..., object]) -> Callable[..., object] | None:
    """Return the test that Hypothesis runs many times, and shrinks where it fails.

    None for another test.
    """
    return getattr(getattr(test, "hypothesis", None), "inner_test", None)


def expect_answers_to_draws(test: Callable[..., object], session: StressSession) -> None:
    """Raise `NotApplicableError` for a Hypothesis test of recorded predictions.

    It draws poses that nobody recorded.
    """
    from harness.inference.search import expect_live

    if inner_test(test):
        for model in session.roles.values():
            expect_live(model.classifier)


def with_smallest_pose(
    test: Callable[..., object],
    fixtures: Mapping[str, object],
    verdict: Verdict,
    evidence: Evidence,
) -> Verdict:
    """Add the pose that a failed Hypothesis test shrank to, and its first failure, to its verdict.

    `fixtures` are the arguments of the `test` that Hypothesis does not draw. Other tests' verdicts
    stay unchanged.
    """
    inner, pose = inner_test(test), getattr(evidence.seen, "perturbation", None)
    if inner is None or verdict.status != "fail" or not isinstance(pose, Pose):
        return verdict

    from hypothesis.errors import InvalidArgument

    def fails(pose: Pose) -> bool:
        shown = Evidence()
        with suppress(
            AssertionError, InvalidArgument
        ):  # `target` minds being called outside of a Hypothesis test.
            inner(**{**fixtures, "evidence": shown, "pose": pose})
        return shown.verdict is not None and shown.verdict.status == "fail"

    # From where to where the test fails when the pose's largest component alone is varied.
    axis, ends = max(("degrees", "dx", "dy"), key=lambda name: abs(getattr(pose, name))), []
    middle = getattr(pose, axis)
    for step in (-_STEP, _STEP):
        values = [round(middle + number * step, 1) for number in range(1, _STEPS + 1)]
        failing = takewhile(lambda value: fails(replace(pose, **{axis: value})), values)
        ends.append([middle, *failing][-1])
    unit = "°" if axis == "degrees" else f" px of {axis}"
    reach = f"fails from {ends[0]:g} to {ends[1]:g}{unit}"
    axes = {axis: getattr(pose, axis) for axis in ("degrees", "dx", "dy")}
    named = ", ".join(f"{axis}={value:g}" for axis, value in axes.items() if value)
    found = f"smallest failing pose: {pose.in_words()}, @example(pose=Pose({named}))"
    return replace(verdict, detail="; ".join(filter(None, (found, reach, verdict.detail))))
