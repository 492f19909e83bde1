"""The commands that decide what the gate accepts: calibrate and accept."""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.calibration.bounds import Calibrated
    from harness.calibration.panel import Panel
    from harness.gates import GatesFile
    from harness.networks.options import NetworkOptions

_OK, _NEGATIVE, _REFUSED = 0, 1, 2
_PASSED_ON = " What follows after -- goes to the gate, such as -- --stress-data npz:shop.npz --baseline none."


def add_commands(add: Callable[[str, object, str, str], argparse.ArgumentParser]) -> None:
    """Add the commands' parsers."""
    calibrate = add(
        "calibrate",
        _calibrate,
        "Set the floors and ceilings of a gates file by the spread of healthy retrains: trained now (a killed run goes "
        "on where it stopped), or given as checkpoints." + _PASSED_ON,
        "calibrate --checkpoints runs/seed-*.safetensors",
    )
    calibrate.set_defaults(passes_on=True)
    calibrate.add_argument(
        "--checkpoints", nargs="+", type=Path, metavar="FILE", help="healthy retrains (default: train them)"
    )
    calibrate.add_argument("--retrains", type=int, default=20, metavar="K", help="how many to train (default: 20)")
    calibrate.add_argument("--jobs", type=int, metavar="N", help="networks to train at a time (default: one per core)")
    calibrate.add_argument(
        "--panel",
        type=Path,
        metavar="FILE",
        help="where every measurement is kept; networks trained go into the folder of this name without .json "
        "(default: the panel that the gates file's recipe names, else models/panel.json)",
    )
    _add_gates_option(calibrate)
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
        "--power",
        action="store_true",
        help="measure nothing: print the smallest loss that each row notices with 95%% power, and how many retrains "
        "its budget would need",
    )
    calibrate.add_argument(
        "--drop", type=float, metavar="LOSS", help="with --power: the loss to notice, instead of each row's budget"
    )

    accept = add(
        "accept",
        _accept,
        "Run the gate on a checkpoint and, if it passes, make it the incumbent that later candidates are held against."
        + _PASSED_ON,
        "accept runs/new.safetensors",
    )
    accept.set_defaults(passes_on=True)
    accept.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    accept.add_argument(
        "--force", action="store_true", help="accept it though the verdict is fail or partial; the file records that"
    )
    accept.add_argument(
        "--incumbent",
        type=Path,
        default=Path("models/incumbent.safetensors"),
        metavar="FILE",
        help="the file to write (default: models/incumbent.safetensors)",
    )
    _add_gates_option(accept)


def _add_gates_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--gates",
        type=Path,
        default=Path("stress_tests/gates.toml"),
        metavar="FILE",
        help="the gates file; the stress tests are those of its folder (default: stress_tests/gates.toml)",
    )


def _calibrate(options: argparse.Namespace) -> int:
    from harness.calibration.bounds import calibrate, check_panel
    from harness.calibration.panel import read_panel
    from harness.calibration.report import calibration_lines, power_lines
    from harness.gates import read_gates

    gates = read_gates(options.gates)
    options.panel = options.panel or Path(str(gates.recipe.get("panel", "models/panel.json")))
    by_hand = frozenset(gate.id for gate in gates.gates if gate.hand)
    if options.power:
        panel = read_panel(options.panel, gates)
        check_panel(panel)
        calibrated = calibrate(panel, gates.budgets, by_hand=by_hand)
        print("\n".join(power_lines(panel, calibrated, drop=options.drop)))
        return _OK
    panel = _measured_panel(options, gates)
    calibrated = calibrate(panel, gates.budgets, by_hand=by_hand)
    _write_calibration(options, panel, calibrated)
    print("\n".join(calibration_lines(panel, calibrated, by_hand=by_hand)))
    print(f"bounds: {options.gates}\nmeasurements: {options.panel}")
    return _OK


def _measured_panel(options: argparse.Namespace, gates: GatesFile) -> Panel:
    from dataclasses import replace

    from tqdm import tqdm

    from harness.calibration.bounds import MIN_RETRAINS
    from harness.calibration.measure import Recording, measure_panel
    from harness.calibration.panel import read_panel

    tests = options.gates.parent
    asked = _rows_asked_for(options, gates)
    known = read_panel(options.panel, gates) if options.family or asked else None
    if known and not options.checkpoints:
        checkpoints = [Path(member.path) for member in known.members]
    else:
        checkpoints = options.checkpoints or _trained_panel(options)
    if len(checkpoints) < MIN_RETRAINS:
        raise InputError(f"{len(checkpoints)} checkpoints are too few for floors: at least {MIN_RETRAINS} are needed")
    network = _network(options)
    source = network.source()
    recording = Recording(
        tests,
        gates,
        tuple(sorted({*options.family, *asked})),
        tuple(options.options),
        _decisive(options),
        sources=(source,) if source else (),
    )
    with tqdm(total=len(checkpoints), unit="network", desc="measuring", smoothing=0) as bar:

        def advance() -> None:
            bar.update()

        panel = measure_panel(checkpoints, recording, network=network, on_member=advance)
    if known is None:
        return panel
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
    merged = [
        replace(new, values={**{row.id: old.values[row.id] for row in kept}, **new.values})
        for old, new in zip(known.members, panel.members, strict=True)
    ]
    return replace(panel, rows=kept + panel.rows, members=tuple(merged))


def _rows_asked_for(options: argparse.Namespace, gates: GatesFile) -> tuple[str, ...]:
    """Return the ids that `--row` asks for; raises `InputError` for one that no row of the gates file has."""
    asked: dict[str, None] = {}
    for pattern in options.row:
        if not (found := fnmatch.filter([gate.id for gate in gates.gates], pattern)):
            raise InputError(f"--row {pattern}: no row of {options.gates} has such an id; write the row first")
        asked.update(dict.fromkeys(found))
    return tuple(asked)


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
    from harness.inference import available_cores
    from harness.networks.training.shipped import SHIPPED

    config, retrains = SHIPPED["augmented"], options.retrains
    jobs = options.jobs or available_cores()
    with tqdm(total=retrains * config.epochs, unit="epoch", desc=f"training {retrains} networks", smoothing=0) as bar:

        def advance(epochs: int) -> None:
            bar.update(epochs)

        return train_panel(config, options.panel.with_suffix(""), retrains=retrains, jobs=jobs, on_epoch=advance)


def _network(options: argparse.Namespace) -> NetworkOptions:
    """Return what the gate's own options, those of the project's configuration included, say of the network."""
    from harness.cli.addopts import added_options
    from harness.networks.options import NetworkOptions, add_network_options

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_network_options(parser.add_argument)
    given = [*added_options(options.gates.parent), *options.options]
    return NetworkOptions.of(parser.parse_known_args(given)[0])


def _write_calibration(options: argparse.Namespace, panel: Panel, calibrated: list[Calibrated]) -> None:
    from harness.calibration.rewrite import with_bounds
    from harness.store.files import write_atomically

    date = datetime.now(UTC).date().isoformat()
    seeds = [member.seed for member in panel.members]
    recipe: dict[str, Any] = {
        "about": f"{len(panel.members)} healthy retrains, the same recipe with other seeds",
        "panel": options.panel.as_posix(),
        "date": date,
    }
    if None not in seeds:
        recipe["seeds"] = seeds
    if panel.recipe:
        recipe["training"] = {name: value for name, value in panel.recipe.items() if value is not None}
    content = with_bounds(options.gates.read_text(encoding="utf-8"), calibrated, recipe=recipe, date=date)
    panel.write(options.panel)
    write_atomically(options.gates, content.encode())


def _accept(options: argparse.Namespace) -> int:
    from dataclasses import replace

    from harness.networks.checkpoints import Record, load_checkpoint, save_checkpoint

    if options.checkpoint.suffix.lower() == ".onnx":
        raise InputError(
            f"{options.checkpoint}: not accepted, an incumbent is a checkpoint with weights; accept the one that the "
            "ONNX file was exported from, or name the file with --incumbent where the gate runs"
        )
    reports = Path.cwd() / "reports"
    (reports / "stress.json").unlink(missing_ok=True)
    command = [
        *(sys.executable, "-m", "pytest", str(options.gates.parent), "--gates", str(options.gates)),
        *("--candidate", str(options.checkpoint), "--stress-reports", str(reports)),
        *(("--incumbent", str(options.incumbent)) if options.incumbent.exists() else ()),
        *options.options,
    ]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    status = subprocess.run(command, check=False, env=environment).returncode  # noqa: S603  Our own command.
    try:
        report = json.loads((reports / "stress.json").read_bytes())
    except OSError:
        report = {"verdict": "error"}
    verdict = report["verdict"]
    if verdict == "error" or status not in {0, 1}:
        raise InputError(f"{options.checkpoint}: not accepted, the gate could not judge it (exit status {status})")
    quick = report["profile"] == "quick"
    forced = verdict != "pass" or quick
    if forced and not options.force:
        of_profile = " of the quick profile, which leaves much out" if quick else ""
        print(
            f"{options.checkpoint}: not accepted, the verdict is {verdict}{of_profile}; --force accepts it all the same"
        )
        return _NEGATIVE
    checkpoint = load_checkpoint(options.checkpoint, builder=_network(options).builder())
    if checkpoint.sha256 != report["candidate"]["sha256"]:
        raise InputError(f"{options.checkpoint}: not accepted, since it changed while the gate ran; run it again")
    record = checkpoint.record or Record(checkpoint.architecture, {}, tuple(report["data"]["classes"]))
    acceptance = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "profile": report["profile"],
        "verdict": verdict,
        "forced": forced,
        "gates_sha256": report["gates_sha256"],
        "data_sha256": report["data"]["sha256"],
        "candidate_sha256": checkpoint.sha256,
    }
    save_checkpoint(options.incumbent, checkpoint.model, replace(record, acceptance=acceptance))
    by_force = " by force" if forced else ""
    print(f"{options.checkpoint}: accepted{by_force}, {options.incumbent} is the incumbent now")
    return _OK
