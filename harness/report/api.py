"""The gate in Python: `from harness import gate`, in a notebook or after a training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.errors import InputError
from harness.base.groups import unknown
from harness.checks.roles import ROLES
from harness.report.owner import judge
from harness.run.inner import Launch, execute
from harness.run.request import RunRequest, own_settings, with_options_read
from harness.run.settings import ON_LINE, SETTINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.run.result import RunResult


def gate(
    candidate: str | Path | None = None,
    *,
    tests: str | Path = "stress_tests",
    baseline: str | Path | None = None,
    incumbent: str | Path | None = None,
    original: str | Path | None = None,
    checks: str | Path | None = None,
    profile: str | None = None,
    samples: int | None = None,
    budget: str | None = None,
    reports: str | Path | None = None,
    device: str | None = None,
    no_cache: bool | None = None,
    options: Sequence[str] = (),
    progress: bool = True,
    **settings: Any,
) -> RunResult:
    r"""Run the gate on a candidate in a process of its own.

    Arguments are the settings of `pytest stress_tests` by their names, with the same defaults. The
    reports go to the folder `reports`, whatever `addopts` of pytest's configuration says.

    `settings` replace those of the table `[gate]` in `stress_tests/checks.toml`, or are checkpoints
    of further roles. `tests` is the folder of the stress tests, and `options` are further options
    of pytest. With `progress`, the lines of the run are printed meanwhile.

    Returns:
        The verdict with every measured value. An inconclusive run raises nothing: its verdict is
        `error`, and `errors` has the reasons.

    Raises:
        InputError: For a wrong setting.

    Example:
        from harness import gate

        result = gate("runs/new.pth", data="folder:photos/test")
        if not result.passed:
            print(result.headline, *result.failed, sep="\\n")
    """
    settings |= {
        name: value
        for name, value in locals().items()
        if name in {*ROLES, *ON_LINE} and value is not None
    }
    if not isinstance(tests, str | Path) or isinstance(options, str):
        raise InputError("tests is a path, and options are a list of texts")
    if wrong := next(
        (name for name in settings if name not in {*ROLES, *SETTINGS} or name == "plan"), None
    ):
        raise unknown(wrong, SETTINGS)
    given = {
        name: value.item() if hasattr(value, "item") else value for name, value in settings.items()
    }  # NumPy's.
    request = RunRequest.of(given, tests=(str(tests),), options=tuple(options), root=Path.cwd())
    request.expect_sound()
    return judged(request, on_line=print if progress else None)


def judged(
    request: RunRequest, *, in_terminal: bool = False, on_line: Callable[[str], None] | None = None
) -> RunResult:
    """Run the gate for a request, with the settings of its project, and return its result.

    Its `options` may have settings of the gate, too. Raises `InputError` for wrong ones.
    """
    asked = with_options_read(request)
    if asked.plan:
        return execute(asked, on_line=on_line)

    def read() -> RunRequest:
        request = RunRequest.of(own_settings(asked.root), asked.given)
        request.expect_sound()
        return request

    return judge(
        read,
        Launch.of(asked),
        reports=asked.reports_folder,
        in_terminal=in_terminal,
        on_line=on_line,
    )
