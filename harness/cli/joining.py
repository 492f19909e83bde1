"""What `init` adds to a gate that is there: families that it lacks, and the samples that fit a run into a time."""

from __future__ import annotations

import re
import tempfile
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.calibration.samples import fit_for, samples_in_toml, with_samples
from harness.data.groups import groups_sha256
from harness.errors import InputError
from harness.gates import read_gates
from harness.gates.slices import SLICE
from harness.report.costs import fit_lines
from harness.store.files import write_atomically

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from harness.data import LabelledImages
    from harness.gates import GatesFile
    from harness.gates.starter_row import StarterRow


def gates_there(path: Path, images: LabelledImages) -> GatesFile | None:
    """Return the gates file that is there already, if it is for these images; None for one of others, or for none.

    Raises `InputError` for one that cannot be read.
    """
    if not path.exists():
        return None
    gates = read_gates(path)
    data, wanted = gates.data, (images.name, images.split, len(images), images.sha256)
    return gates if (data.name, data.split, data.n, data.sha256) == wanted else None


def lacking(gates: GatesFile, rows: Sequence[StarterRow], options: argparse.Namespace) -> tuple[StarterRow, ...]:
    """Return the rows of the families named that a gates file lacks; what it has is not touched.

    Raises `InputError` for a bound by hand that it does not have.
    """
    bounds = [gate.hand and gate.hand.bound for gate in gates.family("clean")]
    if options.min_accuracy is not None and bounds and options.min_accuracy not in bounds:
        raise InputError(
            f"--min-accuracy {options.min_accuracy:g}: {gates.path} has rows of the family clean already, which stay "
            f"as they are; write hand = {{ bound = {options.min_accuracy:g} }} into one by hand"
        )
    if options.families is None and gates.written:
        return ()
    return tuple(row for row in rows if not gates.family(row.family))


def with_rows(gates: GatesFile, rows: Sequence[StarterRow], images: LabelledImages) -> str:
    """Return the text of a gates file with these rows of the images at its end.

    Raises `InputError` where that cannot be.
    """
    known = {gate.id: gate.family for gate in gates.gates}
    for row in rows:
        if row.id in known:
            raise InputError(
                f"{gates.path}: the row {row.id!r} of {row.family} cannot be added, since one of {known[row.id]} has "
                "this id; name that one otherwise"
            )
    content = gates.path.read_text("utf-8")
    if any(row.family == SLICE for row in rows) and gates.data.groups_sha256 is None:
        content = re.sub(
            r"(?m)^\[data\]\n", f'[data]\ngroups_sha256 = "{groups_sha256(images.groups)}"\n', content, count=1
        )
    made = "\n\n".join([content.rstrip("\n"), *(row.as_toml() for row in rows)]) + "\n"
    try:
        found = [row["id"] for row in tomllib.loads(made)["gate"]]
    except (ValueError, TypeError):
        found = []
    if found != [*(gate.id for gate in gates.written), *(row.id for row in rows)]:
        raise InputError(f"{gates.path}: rows cannot be added to it; write them as [[gate]] by hand")
    return made


def choose_samples(options: argparse.Namespace, gates: Path) -> list[str]:
    """Have families measured on samples that fit into `--budget`, and return lines that say what was chosen.

    Families that are calibrated keep their images. Where there is no network to measure, or it fails, nothing is
    written, and the lines say so.
    """
    later = "`python -m harness calibrate --budget 30m` chooses samples that fit"
    try:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = options.checkpoint or _untrained(options, Path(folder))
            if checkpoint is None:
                return [f"how long a run takes is not known, without --checkpoint or --stress-model; {later}"]
            device = () if options.device == "auto" else ("--stress-device", options.device)
            fit = fit_for(options.budget, gates, checkpoint, tests=gates.parent, options=device)
    except InputError as error:
        return [f"how long a run takes is not known ({str(error).splitlines()[0]}); {later}"]
    known = read_gates(gates).data.samples
    if fit.samples:
        lines = samples_in_toml(replace(fit, samples={**known, **fit.samples}))
        write_atomically(gates, with_samples(gates.read_text("utf-8"), lines).encode())
    kept = "" if not fit.samples else f"; the samples stand in {gates}, [data.samples], --budget none leaves them out"
    lines = fit_lines(fit)
    lines[len(fit.after) + 1] += kept  # Behind the table's head and its rows.
    return ["what a run takes:", *lines]


def _untrained(options: argparse.Namespace, folder: Path) -> Path | None:
    """Save the network that the options describe with random weights, which take as long as any; None without one."""
    import torch

    from harness.networks import NetworkOptions
    from harness.store.settings import values_in

    build: Callable[[], torch.nn.Module] | None = NetworkOptions.of(values_in(options)).builder()
    if build is None:
        return None
    path = folder / "untrained.pth"
    torch.save(build().state_dict(), path)
    return path
