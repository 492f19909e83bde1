"""The self-check: a copy of the candidate that is lost in the dark fails a check of the family."""

from dataclasses import replace
from functools import partial

from harness.checks.damages import Redirected
from harness.run.mutants import finding_of_family, with_candidate


def darkness_is_noticed(session, judge):
    """Return the function that runs the self-check; None for a run without such checks."""
    checks = [check for check in session.checks.family("darkness") if check.binding]
    return partial(_noticed, session, judge, checks) if checks else None


def _noticed(session, judge, checks):
    candidate = session.roles["candidate"]
    brightness = float(session.images.pixels[:].float().mean()) / 255
    # Between the clean images and the brightest darkened ones.
    limit = brightness * (1 + max(check.keys["light"] for check in checks)) / 2
    is_dark = partial(_is_dark, limit)
    mutant = Redirected(candidate.classifier.model, is_dark, _next_class)
    lost = replace(candidate, classifier=candidate.classifier.like(mutant))
    return finding_of_family(
        "darkness",
        checks,
        with_candidate(session, lost),
        session,
        judge,
        harm="the model predicts the next class in the dark:",
        fault="a model that is lost in the dark",
    )


def _is_dark(limit, pixels):
    return pixels.mean(dim=(1, 2, 3)) < limit


def _next_class(logits, is_dark):
    return logits.where(~is_dark[:, None], logits.roll(1, dims=1))
