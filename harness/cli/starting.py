"""The command that makes a gate of a repository, from the package alone: init."""

from __future__ import annotations

import argparse
import contextlib
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.gating import gate_options
from harness.cli.models import add_device_option, load_all_images, open_chosen, option_name
from harness.cli.status import OK
from harness.data.options import DATA_SETTINGS
from harness.errors import InputError
from harness.networks.options import NETWORK_SETTINGS
from harness.run.budget import seconds_in
from harness.store.files import write_all_or_none
from harness.store.settings import add_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.data import LabelledImages
    from harness.gates.starter_row import StarterRow

TESTS, GATES = "stress_tests", "gates.toml"
_BELOW = 0.05
"""How far below a model's accuracy a first bound by hand is proposed."""
_CANDIDATE = "models/candidate.safetensors"


def add_commands(add: Callable[[str, object, str, str], argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    command = add(
        "init",
        _init,
        "Make a gate in your own repository: stress_tests/ with the tests of the families wanted and a gates file for "
        "your data, the options in your pytest configuration, and a workflow if asked for. Nothing that is there is "
        "overwritten; families named are added to a gates file that lacks them.",
        "init --data folder:photos/test --stress-size 224 --checkpoint runs/a.pth --stress-model "
        "torchvision.models:resnet18 --ci github",
    )
    command.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=Path(),
        metavar="FOLDER",
        help="the repository, from which paths in the other options are seen (default: this folder)",
    )
    command.add_argument(
        "--families",
        metavar="NAMES",
        help="the families of stress tests, joined by commas (default: clean,class,rotation,shift,confidence,"
        "regression, and with --checkpoint pairs; there are consensus, flips, flip, pose, gain, search, attention, "
        "corruption and slice, too)",
    )
    command.add_argument(
        "--min-accuracy",
        type=float,
        metavar="SHARE",
        help="a first bound by hand, on the accuracy of images as they are, such as 0.9 (default: none, and nothing "
        "gates before bounds are calibrated or written)",
    )
    command.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="a model whose confusions become rows, and of which is measured how long a run takes",
    )
    command.add_argument(
        "--budget",
        default="30m",
        metavar="TIME",
        help="how long a run of the gate may take on this machine, such as 90s, 30m or 1.5h: where it would take "
        "longer, [data.samples] of the gates file says on how many images each family is measured; none for all "
        "images, whatever they take (default: 30m)",
    )
    command.add_argument("--ci", choices=("github",), help="write a workflow that gates checkpoints, too")
    passed_on: list[argparse.Action] = []

    def add_passed_on(*names: str, **how: Any) -> None:
        passed_on.append(command.add_argument(*names, **how))

    add_settings(add_passed_on, (*DATA_SETTINGS, *NETWORK_SETTINGS), option=option_name)
    add_device_option(command, "Where the model of --checkpoint runs")
    command.add_argument(
        "--update",
        action="store_true",
        help="write nothing: show how the shipped tests have changed since they were written here; ends with 1 if some "
        "have",
    )
    command.add_argument(
        "--write", action="store_true", help="with --update: take over what changed in the tests unedited since"
    )
    command.set_defaults(passed_on=passed_on)


def _init(options: argparse.Namespace) -> int:
    if not options.folder.is_dir():
        raise InputError(f"{options.folder}: there is no such folder; make it first")
    if options.write and not options.update:
        raise InputError("--write: only with --update, which says what it would write")
    with contextlib.chdir(options.folder):  # From where pytest will see the paths.
        if options.update:
            from harness.cli.updating import update

            return update(Path(TESTS), write=options.write)
        if options.budget != "none":
            seconds_in(options.budget, name="--budget")
        plan = _planned(options)
        write_all_or_none(plan.files)
        about = []
        if Path(TESTS, GATES) in plan.files and options.budget != "none":
            from harness.cli.joining import choose_samples

            about = choose_samples(options, Path(TESTS, GATES))
    print("\n".join(_told(plan, options, about)))
    return OK


@dataclass(frozen=True)
class _Plan:
    """What is to be written: contents by path, and for which images and rows; `unchanged` is there and stays."""

    files: Mapping[Path, bytes]
    unchanged: tuple[Path, ...]
    images: LabelledImages
    rows: tuple[StarterRow, ...]
    accuracy: float | None
    """Of --checkpoint on the images as they are."""


def _planned(options: argparse.Namespace) -> _Plan:
    """Check all that the options say, and return what to write; raises `InputError` before anything is written."""
    from harness.cli.joining import gates_there, lacking, with_rows
    from harness.cli.updating import RECORD, known_tests, record_of
    from harness.cli.workflow import WORKFLOW, workflow
    from harness.gates.shipped import shipped_tests
    from harness.gates.starter import families_of, starter, starter_rows
    from harness.measures.mistakes import confused_pairs

    families = families_of(options.families)
    configured = _configuration(options)
    images = load_all_images(options)
    pairs: list[tuple[str, str]] = []
    accuracy: float | None = None
    if options.checkpoint is not None:
        predictions = open_chosen(options.checkpoint, images, options).predict(images)
        pairs, accuracy = confused_pairs(predictions), float(predictions.correct.mean())
    rows = starter_rows(images, families, pairs=pairs, min_accuracy=options.min_accuracy)
    gates = gates_there(Path(TESTS, GATES), images)
    if gates:
        rows = lacking(gates, rows, options)
    tests = [test for test in shipped_tests() if any(test.takes_row(row.family, row.metric) for row in rows)]
    known = known_tests(Path(TESTS))
    texts = {Path(TESTS, test.name): test.text for test in tests if not (gates and test.name in known)}
    if rows:
        texts[Path(TESTS, GATES)] = with_rows(gates, rows, images) if gates else starter(images, rows)
        texts[Path(TESTS, RECORD)] = record_of(tests, known if gates else {})
    if options.ci:
        texts[Path(WORKFLOW)] = workflow(Path(), candidate=_candidate(options), network=options.stress_model)
    files = {path: text.encode() for path, text in texts.items()}
    there = [path for path in files if path.exists() and path.read_bytes() == files[path]]
    ours = {Path(TESTS, GATES), Path(TESTS, RECORD)} if gates else set()
    if other := [path for path in files if path.exists() and path not in {*there, *ours}]:
        raise InputError(
            f"{', '.join(map(str, other))}: there already, and not what would be written; nothing was written. Move "
            "away what is to be made anew"
        )
    new = {path: content for path, content in files.items() if path not in there}
    kept = [Path(TESTS, name) for name in (GATES, RECORD, *known) if gates and Path(TESTS, name).exists()]
    unchanged = tuple(dict.fromkeys(path for path in (*kept, *there) if path not in new))
    return _Plan({**new, **configured}, unchanged, images, rows, accuracy)


def _configuration(options: argparse.Namespace) -> dict[Path, bytes]:
    """Return pytest's configuration with the options given, by its path; nothing where it says the same already.

    Raises `InputError` where it says something else of the same options.
    """
    from harness.run.pytest_configuration import configuration, options_in, with_options

    found = configuration(Path())
    path = found or Path("pyproject.toml" if Path("pyproject.toml").is_file() else "pytest.ini")
    text = path.read_text("utf-8") if path.exists() else ""
    present = options_in(path.name, text) if found else None
    wanted = gate_options(options.passed_on, options)
    parser, actions = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False), []
    add_settings(
        lambda *names, **how: actions.append(parser.add_argument(*names, **how)), (*DATA_SETTINGS, *NETWORK_SETTINGS)
    )
    try:
        there = gate_options(actions, parser.parse_known_args(list(present or ()))[0])
    except argparse.ArgumentError as error:
        raise InputError(f"{path}: its addopts cannot be read ({error})") from None
    if present is not None and (there == wanted or not wanted):
        return {}
    if there:
        raise InputError(
            f"{path}: its addopts say {_joined(there)}, and init was given {_joined(wanted)}; nothing was written. "
            "Give init the same options, or write the new ones there by hand"
        )
    own_tests = any(Path().glob("test*/")) or any(Path().glob("test_*.py"))
    return {path: with_options(path.name, text, wanted, testpaths="" if own_tests else TESTS).encode()}


def _joined(options: Sequence[tuple[str, ...]]) -> str:
    return " ".join(map(shlex.join, options)) or "none of these options"


def _candidate(options: argparse.Namespace) -> str:
    """Return the path of a checkpoint as the repository has it: that of --checkpoint, where it lies inside."""
    path: Path | None = options.checkpoint
    inside = path is not None and path.resolve().is_relative_to(Path.cwd())
    return path.resolve().relative_to(Path.cwd()).as_posix() if path and inside else _CANDIDATE


def _told(plan: _Plan, options: argparse.Namespace, about: Sequence[str]) -> list[str]:
    """Say what was written, what a run takes, and what to do next."""
    from harness.gates import read_gates
    from harness.gates.starter import offered

    here = options.folder
    families = ", ".join(dict.fromkeys(row.family for row in plan.rows))
    whom = f"for {len(plan.images)} images of {len(plan.images.classes)} classes"
    said = f"{len(plan.rows)} rows of {families}, {whom}"
    if not plan.rows:
        lacking = [name for name in offered() if not read_gates(here / TESTS / GATES).family(name)]
        said = f"as they were, {whom}; --families adds some of {', '.join(lacking)}"
    candidate = options.checkpoint or _CANDIDATE
    bounds = [row.id for row in plan.rows if any(entry.startswith("hand") for entry in row.more)]
    return [
        f"gates: {said}",
        *(f"written: {here / path}" for path in plan.files),
        *(f"as it was: {here / path}" for path in plan.unchanged),
        f"with a bound by hand: {', '.join(bounds) or 'none'}; all else is reported only until it is calibrated",
        *_first_bound(plan, options),
        *about,
        "next:",
        *([] if here == Path() else [f"  cd {shlex.quote(str(here))}"]),
        f"  pytest {TESTS} --candidate {shlex.quote(str(candidate))}",
        "  python -m harness calibrate --checkpoints FILE FILE ...    # 3 or more retrains set the bounds",
    ]


def _first_bound(plan: _Plan, options: argparse.Namespace) -> list[str]:
    """Say how good the checkpoint is: a bound far below cannot tell a damaged model from it, which ends runs with 4."""
    if plan.accuracy is None:
        return []
    said = f"{options.checkpoint}: {plan.accuracy:.1%} of the images are right as they are"
    wanted = options.min_accuracy
    if wanted is None:
        return [f"{said}; --min-accuracy makes a first bound of it, such as {max(plan.accuracy - _BELOW, 0.01):.2f}"]
    if wanted > plan.accuracy:
        return [f"{said}, fewer than --min-accuracy {wanted:g} asks for"]
    if wanted < plan.accuracy - 4 * _BELOW:
        return [f"{said}; a bound as low as {wanted:g} may not notice a damaged model, and a run then ends with 4"]
    return [said]
