"""The gate in Python: `from harness import gate`, in a notebook or at the end of a training script."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.checks.roles import ROLES
from harness.report.files import forget, write_refusal
from harness.run.execute import RunResult, execute, without_verdict
from harness.run.outcome import REPORTS
from harness.run.reported import refusal_of
from harness.run.request import RunRequest, command_line, value_in
from harness.run.settings import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_PIXELS = frozenset({"size", "resize", "crop"})
"""Settings that are texts, such as 224x320, and may be numbers in Python."""


def gate(
    candidate: str | Path | None = None,
    *,
    tests: str | Path = "stress_tests",
    baseline: str | Path | None = None,
    incumbent: str | Path | None = None,
    checks: str | Path | None = None,
    model: str | None = None,
    model_arg: Sequence[str] = (),
    model_outputs: str | None = None,
    normalisation: str | None = None,
    checkpoint_key: str | None = None,
    strip_prefix: str | None = None,
    predictor_batch: int = 32,
    predictor_timeout: float = 120.0,
    classes: str | None = None,
    data: str = "fashion-mnist",
    size: str | int | None = None,
    channels: int | None = None,
    resize: str | int | None = None,
    crop: str | int | None = None,
    interpolation: str | None = None,
    antialias: str = "yes",
    transform: str | None = None,
    layer: str | None = None,
    profile: str = "default",
    samples: int | None = None,
    device: str = "auto",
    no_cache: bool = False,
    budget: str | None = None,
    timeout: float | None = None,
    backend: str = "process",
    ray_address: str | None = None,
    ray_workers: int | None = None,
    ray_gpus: float = 0.0,
    ray_logs: bool = False,
    no_overview: bool = False,
    reports: str | Path = "reports",
    history: str | Path | None = None,
    mlflow: str | None = None,
    options: Sequence[str] = (),
    progress: bool = True,
    **others: str | Path,
) -> RunResult:
    r"""Run the gate on a candidate in a process of its own, and return its verdict with every value measured.

    Arguments are the settings of `pytest stress_tests` by their names, with the same defaults, and `tests` is the
    folder of the stress tests; `options` are further options of pytest. With `progress` the run's own lines are printed
    as they come. `others` are checkpoints of further roles. A candidate that cannot be judged is no exception: the
    verdict is then `error`, and `errors` say why. Raises `InputError` for a setting that is none.

        from harness import gate

        result = gate("runs/new.pth", data="folder:photos/test")
        if not result.passed:
            print(result.headline, *result.failed, sep="\\n")
    """
    given = {**locals(), **others}
    if unknown := others.keys() - ROLES.keys():
        raise TypeError(f"gate() got an unexpected keyword argument {min(unknown)!r}")
    settings = {name: given[setting.argument] for name, setting in SETTINGS.items() if setting.argument in given}
    settings |= {name: str(value) for name, value in settings.items() if name in _PIXELS and isinstance(value, int)}
    request = RunRequest.of(settings, tests=(str(tests),), options=tuple(options), root=Path.cwd())
    request.expect_sound()
    return judged(request, on_line=print if progress else None)


def judged(request: RunRequest, *, shown: bool = False, on_line: Callable[[str], None] | None = None) -> RunResult:
    """Run the gate as `execute` does, and see to it that reports say what came of it.

    Reports of an earlier run are removed. A run that crashes, even after it wrote its reports, leaves reports with the
    verdict `error`, and so does one that ends before the plugin is loaded.
    """
    arguments = command_line(request)
    forget(request.root / (value_in(arguments, "reports") or request.reports))
    result = execute(request, shown=shown, on_line=on_line)
    there = all((result.reports / name).exists() for name in REPORTS)
    if not result.concluded and not (there and result.report and result.report["verdict"] == "error"):
        reason = without_verdict(result.status)
        write_refusal(refusal_of(None, [reason], command=["pytest", *arguments]), result.reports)
    return result
