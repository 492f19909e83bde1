"""The command that sets floors and ceilings by healthy retrains: calibrate."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.gating import PASSED_ON, add_gates_option, network_of
from harness.cli.models import add_device_option
from harness.cli.status import OK
from harness.errors import InputError
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
        "Set the floors and ceilings of a gates file by the spread of healthy retrains: trained now (a killed run goes "
        "on where it stopped), or given as checkpoints." + PASSED_ON,
        "calibrate --checkpoints runs/seed-*.safetensors",
    )
    calibrate.set_defaults(passes_on=True)
    calibrate.add_argument(
        "--checkpoints",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="healthy retrains, three or more; one or two give provisional bounds (default: train them)",
    )
    calibrate.add_argument("--retrains", type=int, default=20, metavar="K", help="how many to train (default: 20)")
    calibrate.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="networks to train at a time (default: one per core, and one on a device other than the CPU)",
    )
    add_device_option(calibrate, "Where networks are trained and measured")
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
        help="measure nothing: print the smallest loss that each row notices with 95%% power, and how many retrains "
        "its budget would need",
    )
    calibrate.add_argument(
        "--plan",
        action="store_true",
        help="set no bound: print what 3, 5, 8 and 20 retrains would gain, by the panel at hand or the checkpoints "
        "named: the rows that would gate, the smallest loss that they would notice, and how many to train",
    )
    calibrate.add_argument(
        "--drop", type=float, metavar="LOSS", help="with --power: the loss to notice, instead of each row's budget"
    )


def _calibrate(options: argparse.Namespace) -> int:
    from harness.calibration.bounds import PROVISIONAL, calibrate, check_panel
    from harness.calibration.panel import read_panel
    from harness.calibration.plan import plan_lines
    from harness.calibration.report import calibration_lines, power_lines
    from harness.gates import read_gates

    gates = read_gates(options.gates)
    _check_budget(options)
    options.panel = options.panel or Path(str(gates.recipe.get("panel", "models/panel.json")))
    by_hand = frozenset(gate.id for gate in gates.gates if gate.hand)
    if options.power:
        panel = read_panel(options.panel, gates)
        check_panel(panel)
        calibrated = calibrate(panel, gates.budgets, by_hand=by_hand)
        print("\n".join(power_lines(panel, calibrated, drop=options.drop)))
        return OK
    if options.plan and not options.checkpoints:
        print("\n".join(plan_lines(read_panel(options.panel, gates), gates.budgets)))
        return OK
    knows = gates.knowledge or options.panel.with_suffix(".knowledge.json")
    before = {path: hash_of_file(path) for path in (options.panel, knows)}
    panel, knowledge, gates = _measured_panel(options, gates, knows)
    before[options.gates] = gates.sha256
    if options.plan:
        print("\n".join(plan_lines(panel, gates.budgets)))
        return OK
    calibrated = calibrate(panel, gates.budgets, by_hand=by_hand)
    _write_calibration(options, panel, calibrated, before=before, knowledge=knowledge, knows=knows)
    print("\n".join(calibration_lines(panel, calibrated, by_hand=by_hand)))
    if len(panel.members) < PROVISIONAL:
        print("\n".join(["these bounds are provisional; more retrains would gain:", *plan_lines(panel, gates.budgets)]))
    print(f"bounds: {options.gates}\nmeasurements: {options.panel}")
    if knowledge:
        print(f"what the panel knows: {knows}")
    return OK


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


def _measured_panel(
    options: argparse.Namespace, gates: GatesFile, knows: Path
) -> tuple[Panel, Knowledge | None, GatesFile]:
    """Return the panel, measured, what it knows, if some test wants to know, and the gates file it is measured for.

    That is another than the one given when `--budget` has written samples into it.
    """
    from dataclasses import replace

    from tqdm import tqdm

    from harness.calibration.knowing import ask_panel, merged
    from harness.calibration.measure import Recording, measure_panel
    from harness.calibration.panel import read_panel
    from harness.measures.knowledge import read_knowledge

    tests = options.gates.parent
    asked = _rows_asked_for(options, gates)
    known = read_panel(options.panel, gates) if options.family or asked else None
    if known and not options.checkpoints:
        checkpoints = [Path(member.path) for member in known.members]
    else:
        checkpoints = options.checkpoints or _trained_panel(options)
    if options.budget is not None:
        gates = _with_samples(options, gates, checkpoints[0])
    network = network_of(options)
    source = network.source()
    recording = Recording(
        tests,
        gates,
        tuple(sorted({*options.family, *asked})),
        (*_on_device(options), *options.options),
        _decisive(options),
        sources=(source,) if source else (),
    )

    with tqdm(total=len(checkpoints), unit="network", desc="asking", smoothing=0) as bar:

        def advance() -> None:
            bar.update()

        def tell(note: str) -> None:
            bar.write(note, file=sys.stderr)

        knowledge = ask_panel(checkpoints, recording, network=network, on_member=advance)
        if knowledge:
            knowledge = merged(knowledge, read_knowledge(knows) if knows.exists() else None)
            recording = replace(recording, options=(*recording.options, "--stress-knowledge", str(_for_now(knowledge))))
        bar.reset()
        bar.set_description("measuring")
        panel = measure_panel(checkpoints, recording, network=network, on_member=advance, on_note=tell)
    if known is None:
        return panel, knowledge, gates
    if [member.sha256 for member in panel.members] != [member.sha256 for member in known.members]:
        raise InputError(
            f"{options.panel}: its networks are not those measured now; calibrate all families, without --family and "
            "--row"
        )
    now = {gate.id: gate.definition for gate in gates.gates}
    measured = {*asked, *(row.id for row in known.rows if row.family in options.family)}
    kept = tuple(row for row in known.rows if row.id in now and row.id not in measured)
    for row in kept:
        if now[row.id] != row.definition:
            raise InputError(
                f"{options.gates}: gate {row.id!r} has changed since {options.panel} was measured; calibrate its "
                f"family too, with --family {row.family}, or all, without --family"
            )
    together = [
        replace(new, values={**{row.id: old.values[row.id] for row in kept}, **new.values})
        for old, new in zip(known.members, panel.members, strict=True)
    ]
    chance = {**{row.id: known.chance[row.id] for row in kept if row.id in known.chance}, **panel.chance}
    return replace(panel, rows=kept + panel.rows, members=tuple(together), chance=chance), knowledge, gates


def _with_samples(options: argparse.Namespace, gates: GatesFile, checkpoint: Path) -> GatesFile:
    """Choose the samples that fit into `--budget`, or none, write them into the gates file, and return that."""
    import tempfile

    from harness.calibration.samples import fit_for, uncalibrated, with_samples
    from harness.gates import read_gates
    from harness.report.costs import fit_lines, samples_in_toml
    from harness.store import alone, write_atomically

    lines: list[str] = []
    if options.budget != "none":
        quick = gates.data.sample is not None
        more = (*_on_device(options), *options.options)
        with tempfile.TemporaryDirectory() as folder:
            whole = uncalibrated(gates, Path(folder))
            fit = fit_for(options.budget, whole, checkpoint, tests=gates.path.parent, options=more, quick=quick)
        print("\n".join(fit_lines(fit)))
        lines = samples_in_toml(fit)
    with alone(gates.path):
        if hash_of_file(gates.path) != gates.sha256:
            raise InputError(f"{gates.path}: changed while its samples were chosen, nothing was written; run it again")
        write_atomically(gates.path, with_samples(gates.path.read_text("utf-8"), lines).encode())
    return read_gates(gates.path)


def _about(panel: Panel, calibrated: list[Calibrated]) -> str:
    """Say whose bounds these are and, where they are provisional, what a third network would gain."""
    from harness.calibration.bounds import PROVISIONAL

    count = len(panel.members)
    if count >= PROVISIONAL:
        return f"{count} healthy retrains, the same recipe with other seeds"
    gated = sum(not item.not_gated for item in calibrated)
    networks = "1 healthy network" if count == 1 else f"{count} healthy networks"
    return (
        f"provisional, of {networks}: {gated} of {len(calibrated)} rows gate; "
        f"`python -m harness calibrate --plan` says what {PROVISIONAL} and more would gain"
    )


def _for_now(knowledge: Knowledge) -> Path:
    """Return a file of what the panel knows in the user's cache, for the panel to be measured with."""
    from harness.store import user_folder, write_atomically

    content = knowledge.as_bytes()
    path = user_folder("measured") / f"{hashlib.sha256(content).hexdigest()}.knowledge.json"
    write_atomically(path, content)
    return path


def _rows_asked_for(options: argparse.Namespace, gates: GatesFile) -> tuple[str, ...]:
    """Return the ids that `--row` asks for; raises `InputError` for one that no row of the gates file has."""
    asked: dict[str, None] = {}
    for pattern in options.row:
        if not (found := fnmatch.filter([gate.id for gate in gates.gates], pattern)):
            raise InputError(f"--row {pattern}: no row of {options.gates} has such an id; write the row first")
        asked.update(dict.fromkeys(found))
    return tuple(asked)


def _on_device(options: argparse.Namespace) -> tuple[str, ...]:
    """Return the gate's own option for the device; none where it picks one itself."""
    return () if options.device == "auto" else ("--stress-device", options.device)


def _decisive(options: argparse.Namespace) -> tuple[str, ...]:
    """Return what decides measurements in the configuration of a user's own project."""
    from harness.calibration.measure import hashes_of_named_files
    from harness.cli.addopts import added_options

    added = added_options(options.gates.parent)
    ours = added if any(option.startswith(("--stress", "--baseline")) for option in added) else ()
    return (*ours, *hashes_of_named_files(ours))


def _trained_panel(options: argparse.Namespace) -> list[Path]:
    from tqdm import tqdm

    from harness.calibration.retrain import train_panel
    from harness.inference import available_cores, pick_device
    from harness.networks.training.shipped import SHIPPED

    config, retrains = SHIPPED["augmented"], options.retrains
    device = pick_device(options.device)
    jobs = options.jobs or (available_cores() if device == "cpu" else 1)
    with tqdm(total=retrains * config.epochs, unit="epoch", desc=f"training {retrains} networks", smoothing=0) as bar:

        def advance(epochs: int) -> None:
            bar.update(epochs)

        folder = options.panel.with_suffix("")
        return train_panel(config, folder, retrains=retrains, jobs=jobs, device=device, on_epoch=advance)


def _write_calibration(
    options: argparse.Namespace,
    panel: Panel,
    calibrated: list[Calibrated],
    *,
    before: Mapping[Path, str | None],
    knowledge: Knowledge | None,
    knows: Path,
) -> None:
    """Write panel, bounds and what the panel knows.

    Raises `InputError`, and writes nothing, when a file is not what it was `before`.
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
    content = knowledge.as_bytes() if knowledge else knows.read_bytes() if knows.exists() else None
    if content is not None:
        # As seen from the gates file, so that it is found from wherever the gate is run.
        recipe["knowledge"] = os.path.relpath(knows, options.gates.parent)
        recipe["knowledge_sha256"] = hashlib.sha256(content).hexdigest()
    if panel.recipe:
        recipe["training"] = {name: value for name, value in panel.recipe.items() if value is not None}
    with alone(options.gates):
        if changed := [path for path, sha256 in before.items() if hash_of_file(path) != sha256]:
            raise InputError(
                f"{changed[0]}: changed while the panel was measured, so nothing was written; run the command again, "
                "what was measured is kept"
            )
        rows = with_bounds(options.gates.read_text(encoding="utf-8"), calibrated, recipe=recipe, date=date)
        known = {knows: content} if knowledge and content is not None else {}
        write_all_or_none({**known, options.panel: panel.as_bytes(), options.gates: rows.encode()})
