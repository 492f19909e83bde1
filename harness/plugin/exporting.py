"""The images of a run exported, in place of the run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from harness.base.errors import InputError, printable, some_of
from harness.plugin.run import selected_checks
from harness.run.budget import duration
from harness.run.export.start import SAID

if TYPE_CHECKING:
    import pytest

    from harness.plugin.run import GateRun


def export(run: GateRun, session: pytest.Session) -> None:
    """Write the images that the collected tests ask about; raises `InputError` where that cannot be done."""
    from harness.run.export.asking import fitting, questions_of
    from harness.run.export.request import scope_of
    from harness.run.export.write import write_export

    order, stress, request = run.request.export, run.prepare(), run.request
    assert order is not None
    checks = selected_checks(session)
    known = sorted({check.family for check in checks})
    if missing := [family for family in order.families if family not in known]:
        raise InputError(f"--families {','.join(missing)}: no check is of this family; there are {', '.join(known)}")
    checks = [check for check in checks if not order.families or check.family in order.families]
    samples: dict[str, int] = {}
    if (seconds := request.budget_seconds) is not None:
        plan = fitting(stress, checks, run.judge, seconds=seconds, images_per_second=order.images_per_second)
        samples = plan.samples
        sizes = [f"{name} {line.images:,} of {line.out_of:,}" for name, line in plan.lines.items() if name in samples]
        fits = "" if plan.fits else ", and even the fewest images do not fit"
        taken = f"{duration(plan.total.seconds)} of {duration(seconds)}"
        _say(f"at {order.images_per_second:g} images/s, {taken}{fits}: {some_of(sizes, shown=20) or 'all images'}")
    failed: dict[str, Exception] = {}
    fitted = replace(stress, fitted=samples)
    questions = questions_of(fitted, checks, run.judge, overview=order.overview, on_failure=failed.__setitem__)
    for name, error in failed.items():
        _say(f"{name}: its test failed without a model, so the export may lack images ({printable(repr(error))})")
    scope = scope_of(stress.checks, checks, pixels=order.pixels, profile=request.profile, measured=request.samples)
    scope = replace(scope, families=order.families, samples=samples)
    done = write_export(questions, stress, scope, order, say=_say, doing=SAID.rstrip(": "))
    resumed = f", {done.resumed} of them from an earlier run" if done.resumed else ""
    _say(f"{done.manifest['images']:,} images in {len(done.manifest['files']):,} files{resumed}")


def _say(line: str) -> None:
    print(f"{SAID}{line}", flush=True)
