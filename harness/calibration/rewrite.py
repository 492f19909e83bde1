"""Writing of calibrated thresholds and of samples into a checks file; comments, order and thresholds by hand stay."""

from __future__ import annotations

import re
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomlkit

from harness.base import locked
from harness.base.errors import CalibrationError, ChangedError
from harness.base.outputs import CHECKS, Output
from harness.calibration.summary import planned_drop
from harness.calibration.thresholds import PROVISIONAL
from harness.checks import read_checks
from harness.checks.check import UNTIL_CALIBRATED
from harness.checks.tables import hash_of_checks, with_table
from harness.run.budget import Plan, duration, in_cores
from harness.run.execute import execute
from harness.run.request import RunRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tomlkit.items import Table

    from harness.checks import ChecksFile
    from harness.measures.panel.threshold import Calibrated


def choose_samples(
    budget: str,
    checks: ChecksFile,
    checkpoint: Path | str,
    *,
    options: Sequence[str] = (),
    on_fit: Callable[[Plan], object] = lambda _: None,
) -> ChecksFile:
    """Write samples for a time limit such as 30m, or `none` for all images, into a checks file, and return the file.

    The plan is of an uncalibrated copy. It has no recipe and no golden set, since both name files that are not beside
    it. The golden set costs almost nothing. `on_fit` is called with the plan. Raises `InputError`, and writes nothing,
    if the file changes meanwhile.
    """
    lines: list[str] = []
    if budget != "none":
        document = tomlkit.parse(with_samples(checks.path.read_text("utf-8"), ()))
        for name in ("recipe", "golden"):
            document.pop(name, None)
        for check in document.get("check", ()):
            check.pop("panel", None)
        with tempfile.TemporaryDirectory() as folder:
            copy, quick = Path(folder, checks.path.name), checks.data.sample is not None
            copy.write_text(tomlkit.dumps(document), "utf-8")
            fit = fit_for(budget, copy, checkpoint, tests=checks.path.parent, options=options, quick=quick)
        on_fit(fit)
        lines = samples_in_toml(fit.samples, fit)
    content = with_samples(checks.path.read_text("utf-8"), lines).encode()
    with locked(checks.path):
        if hash_of_checks(checks.path) != checks.sha256:
            changed = "changed while its samples were chosen, nothing was written; run it again"
            raise ChangedError(f"{checks.path}: {changed}")
        Output(checks.path, CHECKS).write(content)
    return read_checks(checks.path)


def fit_for(
    budget: str, checks: Path, checkpoint: Path | str, *, tests: Path, options: Sequence[str] = (), quick: bool = False
) -> Plan:
    """Return the plan of a gate run of a checkpoint within a time such as 30m, from a process of its own.

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
        why = next((line for line in result.printed if line.startswith(("there is no plan: ", "ERROR: "))), "")
        said = why.partition(": ")[2] or f"pytest ended with exit status {result.status}"
        raise CalibrationError(f"{checkpoint}: there is no plan of a run: {said}", below=result.printed)
    return result.plan


def samples_in_toml(samples: Mapping[str, int], plan: Plan) -> list[str]:
    """Return samples as lines of a checks file, each with the drop that checks then detect; none if all images fit."""
    if not samples or plan.budget is None:
        return []
    width = max(map(len, samples))
    lines = [f"[data.samples]  # so that a run takes {duration(plan.budget)} on {in_cores(plan.costs.cores)}"]
    for name, size in samples.items():
        drop = planned_drop(name, plan.lines[name]) if name in plan.lines else None
        promise = "" if drop is None else f"  # detectable drop: {100 * drop:.1f} points of 90%, 95% power"
        lines.append(f"{name:{width}} = {size}{promise}")
    return lines


def with_samples(content: str, lines: Sequence[str]) -> str:
    """Return the text of a checks file with these lines as its `[data.samples]`; no lines for no samples.

    All else, including comments, does not change. Raises `InputError` for samples in another form.
    """
    made = with_table(content, "data.samples", "\n".join(lines), behind="data")
    one = len(re.findall(r"(?m)^\[data\]", content)) == 1
    if not one or _samples_in(made) != (_samples_in("\n".join(lines)) if lines else {}):
        raise CalibrationError("the checks file's [data.samples] cannot be rewritten; write it as a table of its own")
    return made


def _samples_in(text: str) -> object:
    try:
        return tomllib.loads(text)["data"].get("samples", {})
    except (ValueError, LookupError, AttributeError):
        return None


_NEW = ("id", "family", "metric", "direction")
"""Entries of a new row besides its threshold."""
_DIGITS = 12
"""Digits of a check's definition in the file, which identify the check of the calibration."""


def with_thresholds(content: str, calibrated: Sequence[Calibrated], *, recipe: Mapping[str, Any], date: str) -> str:
    """Return the text of a checks file with the panel's thresholds in its checks.

    A calibrated check without an entry is appended. A check that cannot use its threshold has the reason in
    `informational`. A check that was not calibrated loses the threshold of a former panel. A threshold by hand "until
    calibrated" is removed if the panel's counts. `recipe` replaces the file's `[recipe]`; each threshold has the
    `date`.
    """
    document = tomlkit.parse(with_table(content, "recipe", tomlkit.dumps({"recipe": recipe})))
    if "check" not in document:
        document.add("check", tomlkit.aot())
    checks: dict[str, Table] = {check["id"]: check for check in document["check"]}
    for unmeasured in set(checks) - {item.check.id for item in calibrated}:
        if checks[unmeasured].pop("panel", None) is not None:
            checks[unmeasured].pop("informational", None)
    for item in calibrated:
        if item.check.id not in checks:
            checks[item.check.id] = tomlkit.table()
            checks[item.check.id].update({name: getattr(item.check, name) for name in _NEW})
            document["check"].append(checks[item.check.id])
        check, threshold = checks[item.check.id], tomlkit.inline_table()
        check.pop("panel", None)
        check.pop("informational", None)
        definition, conversions = item.check.definition[:_DIGITS], item.check.conversions
        named = {"definition": definition, "conversions": conversions}
        threshold.update({**item.written, **{name: each for name, each in named.items() if each}, "date": date})
        check["panel"] = threshold
        if "hand" in check and ends(item, str(check["hand"].get("reason", ""))):
            del check["hand"]
        if item.informational:
            check["informational"] = item.informational
    # One empty line before each check, appended ones included.
    return re.sub(r"\n+\[\[check\]\]", "\n\n[[check]]", tomlkit.dumps(document))


def ends(item: Calibrated, reason: str) -> bool:
    """Return whether a panel's threshold replaces one by hand with this reason; it needs at least three models."""
    return reason == UNTIL_CALIBRATED and not item.informational and item.reference_models >= PROVISIONAL
