"""The command that sets floors and ceilings by healthy retrains: calibrate."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.gating import PASSED_ON, add_gates_option
from harness.cli.models import add_device_option
from harness.cli.panelling import measured_panel
from harness.cli.status import OK
from harness.errors import InputError
from harness.networks.running import add_backend_options
from harness.run.budget import seconds_in
from harness.store.files import hash_of_file

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    from harness.calibration.bounds import Calibrated
    from harness.calibration.panel import Panel
    from harness.gates import GatesFile
    from harness.measures.knowledge import Knowledge


def add_commands(add: Callable[[str, object, str, str], argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    calibrate = add(
        "calibrate",
        _calibrate,
        "Set the floors and ceilings of a gates file by the spread of retrained reference models: trained now (a "
        "killed run goes on where it stopped), or given as checkpoints." + PASSED_ON,
        "calibrate --checkpoints runs/seed-*.safetensors",
    )
    calibrate.set_defaults(passes_on=True)
    calibrate.add_argument(
        "--checkpoints",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="retrained reference models, three or more; one or two give provisional bounds (default: train them)",
    )
    calibrate.add_argument("--retrains", type=int, default=20, metavar="K", help="how many to train (default: 20)")
    calibrate.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="networks to train at a time (default: one per core, and one on a device other than the CPU)",
    )
    add_device_option(calibrate, "Where networks are trained and measured")
    add_backend_options(calibrate.add_argument)
    calibrate.add_argument(
        "--panel",
        type=Path,
        metavar="FILE",
        help="where every measurement is kept; networks trained go into the folder of this name without .json "
        "(default: the panel that the gates file's recipe names, else models/panel.json)",
    )
    add_gates_option(calibrate)
    calibrate.add_argument(
        "--family",
        action="append",
        default=[],
        metavar="NAME",
        help="measure this family only, on the checkpoints of the panel at hand; may be given several times",
    )
    calibrate.add_argument(
        "--row",
        action="append",
        default=[],
        metavar="ID",
        help="measure this row only, or those that match a pattern such as 'corrupt-fog-*', on the checkpoints of the "
        "panel at hand, and take all others as they were measured; may be given several times",
    )
    calibrate.add_argument(
        "--budget",
        metavar="TIME",
        help="first choose anew on how many images each family is measured, so that a run of the gate fits into this "
        "time on this machine, such as 30m, and write it into the gates file; none for all images (default: what the "
        "gates file says)",
    )
    calibrate.add_argument(
        "--power",
        action="store_true",
        help="measure nothing: print the smallest loss detected by each row with 95%% power, and how many retrains "
        "its budget would need",
    )
    calibrate.add_argument(
        "--plan",
        action="store_true",
        help="set no bound: print what 3, 5, 8 and 20 retrains would gain, by the panel at hand or the checkpoints "
        "named: the rows that would gate, the smallest loss that they would notice, how many to train, and how long "
        "that takes, by the histories beside those at hand",
    )
    calibrate.add_argument(
        "--drop", type=float, metavar="LOSS", help="with --power: the loss to notice, instead of each row's budget"
    )


def _calibrate(options: argparse.Namespace) -> int:
    from harness.calibration.bounds import calibrate
    from harness.calibration.panel import read_panel
    from harness.calibration.plan import plan_lines
    from harness.calibration.reach import PROVISIONAL
    from harness.calibration.report import calibration_lines, power_lines
    from harness.calibration.sharing import pass_on
    from harness.gates import read_gates

    gates = read_gates(options.gates)
    _check_budget(options)
    of_gates = Path(str(gates.recipe.get("panel", "models/panel.json")))
    if options.panel is None and not (options.power or options.plan):
        _expect_own(of_gates, gates)
    options.panel = options.panel or of_gates
    by_hand = frozenset(gate.id for gate in gates.gates if gate.hand)
    if options.power:
        panel = read_panel(options.panel, gates)
        calibrated = calibrate(panel, gates.budgets, by_hand=by_hand)
        print("\n".join(power_lines(panel, calibrated, drop=options.drop)))
        return OK
    if options.plan and not options.checkpoints:
        print("\n".join(plan_lines(read_panel(options.panel, gates), gates.budgets)))
        return OK
    # What another panel knows does not take the place of what this one does, which other gates files may share.
    beside = options.panel.with_suffix(".knowledge.json")
    knows = (gates.knowledge or beside) if options.panel == of_gates else beside
    before = {path: hash_of_file(path) for path in (options.panel, knows)}
    panel, knowledge, gates = measured_panel(options, gates, knows)
    before[options.gates] = gates.sha256
    if options.plan:
        print("\n".join(plan_lines(panel, gates.budgets)))
        return OK
    calibrated = calibrate(panel, gates.budgets, by_hand=by_hand)
    known_before = _readable(knows)
    _write_calibration(options, gates, panel, calibrated, before=before, knowledge=knowledge, knows=knows)
    print("\n".join(calibration_lines(panel, calibrated, by_hand=by_hand)))
    measured = {item.row.id for item in calibrated}
    if lost := [gate.id for gate in gates.gates if gate.panel and gate.id not in measured]:
        print(f"have no value of these networks, and therefore no bound any more: {', '.join(lost)}")
    if len(panel.members) < PROVISIONAL:
        print("\n".join(["these bounds are provisional; more retrains would gain:", *plan_lines(panel, gates.budgets)]))
    print(f"bounds: {options.gates}\nmeasurements: {options.panel}")
    if knowledge:
        print(f"what the panel knows: {knows}")
        for line in pass_on(options.gates, knowledge, known_before) if known_before else ():
            print(line)
    return OK


def _readable(knows: Path) -> Knowledge | None:
    """Return what a panel knew, None where there is no such file, or nobody can read it."""
    from harness.measures.knowledge import read_knowledge

    try:
        return read_knowledge(knows)
    except InputError:
        return None


def _expect_own(path: Path, gates: GatesFile) -> None:
    """Raise `InputError` where the panel that nobody named is that of a gates file for another sample of the data."""
    from harness.calibration.panel import expect_sample_of, read_panel

    try:
        there = read_panel(path)
    except InputError:  # It is made anew.
        return
    if there.data_sha256 == gates.data.sha256:
        expect_sample_of(gates, there, path)


def _check_budget(options: argparse.Namespace) -> None:
    """Raise `InputError` for a budget that is no time, or that would leave some families as they were measured."""
    if any(option.partition("=")[0] == "--stress-budget" for option in options.options):
        raise InputError(
            "--stress-budget: is of a run; write calibrate --budget, before --, which the gates file keeps"
        )
    if options.budget not in {None, "none"}:
        seconds_in(options.budget, name="--budget")
    if options.budget is not None and (options.family or options.row):
        raise InputError("--budget: samples are chosen for all families together; leave out --family and --row")


def _about(panel: Panel, calibrated: list[Calibrated]) -> str:
    """Say whose bounds these are and, where they are provisional, what a third network would gain."""
    from harness.calibration.reach import PROVISIONAL

    count = len(panel.members)
    if count >= PROVISIONAL:
        return f"{count} retrained reference models, the same recipe with other seeds"
    gated = sum(not item.not_gated for item in calibrated)
    networks = "1 retrained reference model" if count == 1 else f"{count} retrained reference models"
    return (
        f"provisional, of {networks}: {gated} of {len(calibrated)} rows gate; "
        f"`python -m harness calibrate --plan` says what {PROVISIONAL} and more would gain"
    )


def _write_calibration(
    options: argparse.Namespace,
    gates: GatesFile,
    panel: Panel,
    calibrated: list[Calibrated],
    *,
    before: Mapping[Path, str | None],
    knowledge: Knowledge | None,
    knows: Path,
) -> None:
    """Write panel, bounds and what the panel knows.

    Raises `InputError`, and writes nothing, when a file is not what it was `before`, and for bounds and rows that no
    gates file can have.
    """
    from harness.calibration.rewrite import with_bounds
    from harness.store import alone
    from harness.store.files import write_all_or_none

    date = datetime.now(UTC).date().isoformat()
    seeds = [member.seed for member in panel.members]
    recipe: dict[str, Any] = {
        "about": _about(panel, calibrated),
        "panel": options.panel.as_posix(),
        "date": date,
    }
    if None not in seeds:
        recipe["seeds"] = seeds
    if knowledge:
        # As seen from the gates file, so that it is found from wherever the gate is run.
        recipe["knowledge"] = os.path.relpath(knows, options.gates.parent)
        recipe["knowledge_sha256"] = knowledge.sha256
    else:  # Of what nobody asked about, other rows were measured by what was known before.
        recipe |= {name: gates.recipe[name] for name in ("knowledge", "knowledge_sha256") if name in gates.recipe}
    if panel.recipe:
        recipe["training"] = {name: value for name, value in panel.recipe.items() if value is not None}
    with alone(options.gates):
        if changed := [path for path, sha256 in before.items() if hash_of_file(path) != sha256]:
            raise InputError(
                f"{changed[0]}: changed while the panel was measured, so nothing was written; run the command again, "
                "what was measured is kept"
            )
        rows = with_bounds(options.gates.read_text(encoding="utf-8"), calibrated, recipe=recipe, date=date)
        _expect_readable(rows, options.gates)
        known = {knows: knowledge.as_bytes()} if knowledge else {}
        write_all_or_none({**known, options.panel: panel.as_bytes(), options.gates: rows.encode()})


def _expect_readable(content: str, path: Path) -> None:
    """Raise `InputError` for what cannot be read again where the gates file stands."""
    from harness.gates import read_gates

    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{path.stem}-", suffix=path.suffix) as made:
        made.write(content.encode())
        made.flush()
        try:
            read_gates(Path(made.name))
        except InputError as error:
            said = str(error).removeprefix(f"{made.name}: ")
            raise InputError(
                f"{path}: nothing was written, since it could not be read again: {said}; correct the test that this "
                "is the row of, and calibrate again"
            ) from None
