"""The panel of `calibrate`: which networks it has, trained now if need be, and what they are measured on."""

from __future__ import annotations

import fnmatch
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.gating import network_of
from harness.errors import InputError
from harness.gates.slices import SLICE
from harness.store.files import hash_of_file

if TYPE_CHECKING:
    import argparse

    from harness.calibration.panel import Panel
    from harness.gates import GatesFile
    from harness.inference.cluster.tasks import Tasks
    from harness.measures.knowledge import Knowledge


def measured_panel(
    options: argparse.Namespace, gates: GatesFile, knows: Path
) -> tuple[Panel, Knowledge | None, GatesFile]:
    """Return the panel, measured, what it knows, if some test wants to know, and the gates file it is measured for.

    That is another than the one given when `--budget` has written samples into it.
    """
    from dataclasses import replace

    from harness.calibration.knowing import knowing
    from harness.calibration.measure import measure_panel
    from harness.calibration.panel import read_panel
    from harness.calibration.recording import Recording
    from harness.store.progress import Progress

    tests = options.gates.parent
    asked = _rows_asked_for(options, gates)
    known = read_panel(options.panel, gates) if options.family or asked else None
    if known and not options.checkpoints:
        checkpoints = [Path(member.path) for member in known.members]
    else:
        checkpoints = options.checkpoints or _trained_panel(options, gates)
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
        tasks=_tasks(options),
    )

    with Progress(total=len(checkpoints), unit="network", desc="asking", smoothing=0) as bar:

        def advance() -> None:
            bar.update()

        def tell(note: str) -> None:
            bar.write(note, file=sys.stderr)

        recording, knowledge = knowing(checkpoints, recording, knows, network=network, on_member=advance)
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
        regrouped = row.family == SLICE and known.groups_sha256 != panel.groups_sha256
        if now[row.id] != row.definition or regrouped:
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


def _rows_asked_for(options: argparse.Namespace, gates: GatesFile) -> tuple[str, ...]:
    """Return the ids that `--row` asks for; raises `InputError` for one that no row of the gates file has."""
    asked: dict[str, None] = {}
    for pattern in options.row:
        if not (found := fnmatch.filter([gate.id for gate in gates.gates], pattern)):
            raise InputError(f"--row {pattern}: no row of {options.gates} has such an id; write the row first")
        asked.update(dict.fromkeys(found))
    return tuple(asked)


def _tasks(options: argparse.Namespace) -> Tasks | None:
    """Return the cluster that members are measured on, None for this machine."""
    from harness.networks.running import BackendOptions

    backend = BackendOptions.of(options)
    if not backend.on_ray:
        return None
    from harness.inference.cluster.tasks import Tasks

    return Tasks(backend.ray)


def _on_device(options: argparse.Namespace) -> tuple[str, ...]:
    """Return the gate's own option for the device; none where it picks one itself."""
    return () if options.device == "auto" else ("--stress-device", options.device)


def _decisive(options: argparse.Namespace) -> tuple[str, ...]:
    """Return what decides measurements in the configuration of a user's own project."""
    from harness.calibration.recording import hashes_of_named_files
    from harness.cli.addopts import added_options

    added = added_options(options.gates.parent)
    ours = added if any(option.startswith(("--stress", "--baseline")) for option in added) else ()
    return (*ours, *hashes_of_named_files(ours))


def _trained_panel(options: argparse.Namespace, gates: GatesFile) -> list[Path]:
    """Return retrains of the recipe that ships, trained now; raises `InputError` for data that it is not for."""
    from harness.calibration.retrain import train_panel
    from harness.inference import available_cores, pick_device
    from harness.networks.training.shipped import SHIPPED
    from harness.store.progress import Progress

    config, retrains = SHIPPED["augmented"], options.retrains
    device = pick_device(options.device)
    if gates.data.name != "fashion-mnist":
        raise InputError(
            f"{gates.path} is for {gates.data.name}, and networks are trained here for Fashion-MNIST alone; name three "
            "retrains of your own or more, --checkpoints FILE FILE FILE"
        )
    jobs = options.jobs or (available_cores() if device == "cpu" else 1)
    with Progress(
        total=retrains * config.epochs, unit="epoch", desc=f"training {retrains} networks", smoothing=0
    ) as bar:

        def advance(epochs: int) -> None:
            bar.update(epochs)

        folder = options.panel.with_suffix("")
        return train_panel(config, folder, retrains=retrains, jobs=jobs, device=device, on_epoch=advance)
