"""Samples of a checks file.

The images of each family with which a run of the gate fits into a time.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import CalibrationError, ChangedError
from harness.base.files import locked
from harness.base.outputs import CHECKS, Output
from harness.calibration.summary import planned_drop
from harness.checks import read_checks
from harness.checks.edits import uncalibrated, with_domain, with_samples
from harness.checks.file import PanelSample
from harness.checks.tables import hash_of_checks
from harness.measures.panel.threshold import PROVISIONAL
from harness.run.budget import Plan, duration, in_cores
from harness.run.inner import execute
from harness.run.request import RunRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.checks import ChecksFile


def choose_samples(
    budget: str,
    checks: ChecksFile,
    checkpoint: Path | str,
    *,
    models: int = 1,
    options: Sequence[str] = (),
    on_fit: Callable[[Plan], object] = lambda _: None,
    anew: bool = True,
) -> ChecksFile:
    """Write samples for a time limit into a checks file, and return the file.

    A limit is a time such as 30m, or `none` for all images. `models` is the number of reference
    models, see `samples_in_toml`. If `anew`, the plan is of an uncalibrated copy. It has no recipe
    and no golden set, since both name files that are not beside it. The golden set costs almost
    nothing. Else calibrated families keep their images. `on_fit` is called with the plan. Raises
    `InputError`, and writes nothing, if the file changes meanwhile.
    """
    lines: list[str] = []
    if budget != "none":
        with tempfile.TemporaryDirectory() as folder:
            path, quick, known = (
                checks.path,
                checks.data.sample is not None,
                dict(checks.data.samples),
            )
            if anew:
                path, known = Path(folder, path.name), {}
                content = with_domain(checks.path.read_bytes().decode(), checks.data.domain)
                path.write_text(uncalibrated(content), "utf-8")
            fit = fit_for(
                budget, path, checkpoint, tests=checks.path.parent, options=options, quick=quick
            )
        on_fit(fit)
        if not (anew or fit.samples):
            return checks
        lines = samples_in_toml({**known, **fit.samples}, fit, checks, models=models)
    new = with_samples(checks.path.read_bytes().decode(), lines).encode()
    with locked(checks.path):
        if hash_of_checks(checks.path) != checks.sha256:
            changed = "changed while its samples were chosen, nothing was written; run it again"
            raise ChangedError(f"{checks.path}: {changed}")
        Output(checks.path, CHECKS).write(new)
    return read_checks(checks.path)


def fit_for(
    budget: str,
    checks: Path,
    checkpoint: Path | str,
    *,
    tests: Path,
    options: Sequence[str] = (),
    quick: bool = False,
) -> Plan:
    """Return the plan of a gate run within a time such as 30m, from a process of its own.

    Raises `InputError` without a plan, with the last lines of that process.
    """
    with tempfile.TemporaryDirectory() as folder:
        request = RunRequest(
            roles={"candidate": checkpoint},
            checks=checks,
            profile="quick" if quick else "default",
            plan=True,
            budget=budget,
            reports=folder,
            tests=(str(tests),),
            options=("-q", "-p", "no:cacheprovider", *options),
        )
        result = execute(request)
    if result.plan is None:
        why = next(
            (line for line in result.printed if line.startswith(("there is no plan: ", "ERROR: "))),
            "",
        )
        said = why.partition(": ")[2] or f"pytest ended with exit status {result.status}"
        raise CalibrationError(
            f"{checkpoint}: there is no plan of a run: {said}", below=result.printed
        )
    return result.plan


def samples_in_toml(
    samples: Mapping[str, int | PanelSample], plan: Plan, checks: ChecksFile, *, models: int
) -> list[str]:
    """Return samples as lines of a checks file; none if all images fit.

    Families of weighted metrics have strata by the panel if it has at least three models. Fewer do
    not tell how far weighted values differ. Others are stratified by class, with the drop that
    checks then detect.
    """
    if not samples or plan.budget is None:
        return []
    width = max(map(len, samples))
    lines = [
        f"[data.samples]  # so that a run takes {duration(plan.budget)} on "
        f"{in_cores(plan.costs.cores)}"
    ]
    for name, size in samples.items():
        if isinstance(size, PanelSample) or (models >= PROVISIONAL and checks.weighted(name)):
            sample = size if isinstance(size, PanelSample) else PanelSample(size, "panel")
            seed = f", seed = {sample.seed}" if sample.seed else ""
            lines.append(f'{name:{width}} = {{ n = {sample.n}, by = "panel"{seed} }}')
            continue
        drop = planned_drop(name, plan.lines[name]) if name in plan.lines else None
        promise = (
            ""
            if drop is None
            else f"  # detectable drop: {100 * drop:.1f} points of 90%, 95% power"
        )
        lines.append(f"{name:{width}} = {size}{promise}")
    return lines
