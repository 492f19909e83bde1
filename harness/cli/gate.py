"""The commands `gate`, `accept` and `golden`: a verdict, and the model and images of later verdicts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.base.codes import Code, coded
from harness.base.errors import InputError, code_of, lacking, printable
from harness.base.termination import TerminatedError, termination_raised
from harness.cli import options
from harness.run.status import INTERRUPTED, MEANING, NOT_JUDGED

if TYPE_CHECKING:
    from harness.run.execute import RunResult
    from harness.run.request import RunRequest

ALLOW_PARTIAL = "--allow-partial"
_PARTIAL = coded(
    Code.PARTIAL,
    "the verdict is partial, so the run is inconclusive (exit 4): stress.md lists what was left out. Run all checks on "
    f"all images, or accept a partial verdict with {ALLOW_PARTIAL}.",
)


class _Gate(options.Command):
    """A command that passes on all that it is given, but for a request for help."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take all arguments unchanged."""
        if args[:1] in (["-h"], ["--help"]):
            return super().parse_args(ctx, args)
        ctx.params["arguments"] = tuple(args)
        return []


@click.command(
    "gate",
    cls=_Gate,
    example="gate stress_tests --candidate runs/new.safetensors -n 2",
    help="Run the stress tests by pytest, which gets all arguments but --allow-partial; `stress-harness list settings` "
    "prints those of the gate. The exit status is 0 if every check of a whole run passes and the reports say so, and 1 "
    "if a check fails. It is 4 if the run is inconclusive: without a verdict, as after a crash, or partial, since "
    "checks or images were left out. With --allow-partial a partial verdict has the status of the checks that ran.",
)
@click.argument("arguments", nargs=-1)
def gate_command(arguments: tuple[str, ...]) -> int:
    """Run the gate; the status is 4 whatever goes wrong here."""
    given = tuple(argument for argument in arguments if argument != ALLOW_PARTIAL)
    try:
        with termination_raised():
            if not given and not Path("stress_tests").exists():
                return _said(f"[{Code.USAGE}] there is no gate here; run `stress-harness init` to make one")
            from harness.run.request import RunRequest

            result = judged(RunRequest(options=given or ("stress_tests",), root=Path.cwd()))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BaseException as error:  # Nothing that goes wrong here is a verdict.
        return _said(f"{_reason(error)}\n{MEANING}")
    if result.verdict == "partial" and result.exit_status != INTERRUPTED and ALLOW_PARTIAL not in arguments:
        return _said(_PARTIAL)
    return result.exit_status


def judged(request: RunRequest) -> RunResult:
    """Run the gate in a child process that prints here, and say so where it ends without a verdict."""
    from harness.report import api
    from harness.run.execute import without_verdict

    result = api.judged(request, shown=True)
    if not result.concluded and result.status != NOT_JUDGED:
        print(f"error: {without_verdict(result.status)}\n{MEANING}\nreport: {result.page}", file=sys.stderr)
    return result


def _reason(error: BaseException) -> str:
    """Return in one line, with its code, why the run could not start."""
    if isinstance(error, OSError):
        where = error.filename or ("the working folder" if isinstance(error, FileNotFoundError) else "")
        why = f"{where}: {error.strerror or error}; the candidate was not evaluated".removeprefix(": ")
        return coded(Code.FILE, printable(why))
    return str(error) if isinstance(error, TerminatedError) else coded(code_of(error), lacking(error))


def _said(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return NOT_JUDGED


@click.command(
    "accept",
    cls=options.Command,
    passes_on=True,
    example="accept runs/new.safetensors",
    help="Run the gate on a checkpoint and, if it passes, make it the incumbent, which later candidates are compared "
    "with. An ONNX file also has to be equal to its original, unless all models are ONNX files.",
)
@click.argument("checkpoint", type=options.MODEL, metavar="CHECKPOINT")
@click.option("--force", is_flag=True, help="Accept it though the verdict is fail or partial; the file records that.")
@click.option(
    "--provisional",
    is_flag=True,
    help="Accept it though its thresholds rest on one or two reference models; the file records that.",
)
@click.option(
    "--original",
    type=options.MODEL,
    metavar="MODEL",
    help="The model that it was made from, by an export or quantization; both have to be equal by the checks file "
    "(default: none).",
)
@click.option(
    "--incumbent",
    type=options.FILE,
    default=Path("models/incumbent.safetensors"),
    metavar="FILE",
    help="The file to write, with its declaration beside it (default: models/incumbent.safetensors). A copy of an ONNX "
    "file has the suffix .onnx instead.",
)
@options.run_options()
@options.checks_option
def accept_command(
    checkpoint: Path | str,
    original: Path | str | None,
    incumbent: Path,
    checks_path: Path,
    *,
    force: bool,
    provisional: bool,
) -> int:
    """Gate a checkpoint and accept it."""
    from harness.run.acceptance import AcceptRequest, accept

    # The last one counts: another model would be judged under this one's name, or another run's report be read.
    own = ("--candidate", "--checks", "--incumbent", "--original", "--stress-reports")
    if twice := [option for option in (each.partition("=")[0] for each in options.passed_on()) if option in own]:
        raise InputError(
            f"{twice[0]} after --: the command itself sets the candidate, the checks file and the folder of reports; "
            "leave it out there"
        )
    if isinstance(checkpoint, str):
        raise InputError(
            f"{checkpoint}: not accepted, a predictor has no file of weights to keep; name it with --incumbent where "
            "the gate runs",
            code=Code.NOT_ACCEPTED,
        )
    request = AcceptRequest(
        checkpoint, checks_path, incumbent, force, provisional, original, options.for_gate(), Path.cwd()
    )
    done = accept(request, judge=judged)
    if done.accepted:
        by_force = " by force" if done.forced else ""
        print(f"{checkpoint}: accepted{by_force}, {request.written} is the last accepted model (incumbent) now")
        return options.OK
    print(f"{checkpoint}: not accepted, {done.reason}")
    return options.NEGATIVE


@click.group(
    "golden",
    short_help="Keep images that must never be wrong again.",
    help="Keep images that must never be wrong again, such as those of an incident or a customer's complaint. Each is "
    "a check of its own, in a folder beside the checks file. Data and network are those of the project's table [gate], "
    "or given by --set.",
    epilog="Example: stress-harness golden add complaints/coat.png --class Coat --reason 'complaint of 12 May'",
)
def golden_command() -> None:
    """Keep golden images."""


@golden_command.command(
    "add",
    cls=options.Command,
    passes_on=True,
    example="golden add complaints/coat.png --class Coat --reason 'complaint of 12 May'",
    help="Add images; each is a check from then on. IMAGE is the number of a test image, as reports name it, a picture "
    "or a folder of pictures. Folders have the names of their classes unless --class is given.",
)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--reason", required=True, metavar="TEXT", help="Why they must be correct; it is shown with them.")
@click.option(
    "--class",
    "class_name",
    metavar="NAME",
    help="Their class (default: the label of a test image, the folder of a picture).",
)
@options.run_options("device")
@options.checks_option
def _add(images: tuple[str, ...], reason: str, class_name: str | None, checks_path: Path) -> int:
    """Add golden images."""
    from harness.calibration.panel import reference_models_of
    from harness.run.golden import add_golden_images, agreement

    model, known = options.project_with(checks_path).request, reference_models_of
    new, total, written, unknown = add_golden_images(
        checks_path, images, model, reason=reason, class_name=class_name, reference_models=known
    )
    for image in new:
        print(printable(f"{image.id}: {image.source}, {image.class_name}; {agreement(image, unknown)}"))
    print(printable(f"golden images, a check each: {total}; written: {', '.join(map(str, written))}"))
    return options.OK


@golden_command.command(
    "list",
    cls=options.Command,
    passes_on=True,
    example="golden list",
    help="List the images, and check that each is there and undamaged.",
)
@click.option(
    "--declare",
    is_flag=True,
    help="Declare the list in the checks files, after it was merged or edited by hand.",
)
@options.run_options()
@options.checks_option
def _list(checks_path: Path, *, declare: bool) -> int:
    """List golden images."""
    from harness.checks import read_checks
    from harness.checks.golden import picture_of
    from harness.report.page import aligned
    from harness.run.golden import declare_golden_images, golden_images, images_for

    project = options.project_with(checks_path) if declare else None
    if declare:
        count, written, others = declare_golden_images(checks_path)
        print(printable(f"declared: {count} golden images in {', '.join(map(str, written))}"))
        if others:
            print(printable(f"not on the list, and left where they are: {', '.join(others)}"))
    checks = read_checks(checks_path)
    if not checks.golden:
        print(f"{checks_path}: no golden images; `stress-harness golden add` adds one")
        return options.OK
    rows = [("id", "class", "reference models", "added", "from", "reason")]
    for image in checks.golden:
        agreed = image.agreed or "not known"
        rows.append((image.id, image.class_name, agreed, image.date, image.source, image.reason))
    print(*map(printable, aligned(rows, text=range(len(rows[0])))), sep="\n")
    for image in checks.golden:
        picture_of(image, checks_path)
    if project:
        model = project.request
        golden_images(checks, images_for(checks, model), model)
    return options.OK


@golden_command.command(
    "remove",
    cls=options.Command,
    passes_on=True,
    example="golden remove golden-1a2b3c4d",
    help="Remove images, and with them their checks.",
)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@options.checks_option
def _remove(ids: tuple[str, ...], checks_path: Path) -> int:
    """Remove golden images."""
    from harness.run.golden import remove_golden_images

    left, written = remove_golden_images(checks_path, ids)
    changed = ", ".join(map(str, written))
    print(printable(f"removed: {', '.join(ids)}, {left} golden images are left; written: {changed}"))
    return options.OK
