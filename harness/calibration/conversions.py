"""Thresholds from conversions.

Each reference model is converted like the candidate and compared with its conversion.

The user's own command converts. The family `equivalence` measures each conversion, with the
reference model as the original. No model is trained.
"""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import CalibrationError
from harness.calibration.measure import check_in, entries_of, note
from harness.checks.tolerance import EQUIVALENCE
from harness.run.request import model_spec

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.calibration.panel import Panel
    from harness.calibration.recording import Recording
    from harness.networks import NetworkOptions

INPUT, OUTPUT = "{input}", "{output}"
_SPECS = {".xml": "openvino:", ".npz": "predictions:"}
"""Beginning of the SPEC of an artifact that is not named by its path, by suffix."""
_LINES = 20
"""Most lines of a failed command's output in an error message."""


def expect_conversion(command: str) -> list[str]:
    """Return the words of a command.

    Raises:
        InputError: Unless it names both the input and the output.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise CalibrationError(f"{command!r} is no command ({error})", setting="convert") from None
    if lacking := next(
        (name for name in (INPUT, OUTPUT) if not any(name in word for word in words)), ""
    ):
        example = f"write a command such as 'python export.py {INPUT} {OUTPUT}'"
        raise CalibrationError(f"{command!r} has no {lacking}; {example}", setting="convert")
    return words


def measured_conversions(
    command: str,
    panel: Panel,
    recording: Recording,
    *,
    network: NetworkOptions,
    on_model: Callable[[], object],
) -> Panel:
    """Convert the panel's models, measure the conversions, and return the panel with these values.

    They replace those of earlier conversions. `on_model` is called at each conversion and each
    measurement. A line on standard error names each check that cannot have a threshold. Raises
    `InputError` for a command that fails or that converts two models to the same file.
    """
    from harness.inference.role import load

    words = expect_conversion(command)
    suffix = next(word.partition(OUTPUT)[2] for word in words if OUTPUT in word)
    with tempfile.TemporaryDirectory(prefix="conversions-") as folder:
        loaded, originals, twins = [], {}, dict[str, str]()
        for number, model in enumerate(panel.models, start=1):
            output = Path(folder, f"{number:03d}{'' if suffix else '.onnx'}")
            artifact = Path(f"{output}{suffix}")
            line = [word.replace(INPUT, model.path).replace(OUTPUT, str(output)) for word in words]
            _convert(line, artifact, model.path)
            spec = model_spec(f"{_SPECS.get(artifact.suffix, '')}{artifact}")
            loaded.append(load(spec, network))
            originals[str(spec)] = model_spec(model.path)
            if (twin := twins.setdefault(loaded[-1].sha256, model.path)) != model.path:
                raise CalibrationError(
                    f"{model.path} and {twin} are converted to the same file; convert {INPUT}, "
                    f"and write it to {OUTPUT}",
                    setting="convert",
                )
            on_model()
        measured = entries_of(loaded, replace(recording, originals=originals), on_model)
    known = {check.id: check.definition for check in recording.checks.written}
    by_model, rows = [{entry["id"]: entry for entry in entries} for entries in measured], []
    for name, entry in by_model[0].items():
        if all(name in each and each[name]["n"] == entry["n"] for each in by_model):
            rows.append(
                replace(
                    check_in(entry, known, recording.checks.data),
                    scale="plain",
                    conversions=command,
                )
            )
        else:
            note(
                f"{name}: not on the same images for each reference model, so it has no threshold "
                "by conversions"
            )
    if not rows:
        add = f"add some with `stress-harness init --families {EQUIVALENCE}`"
        raise CalibrationError(f"no check of family {EQUIVALENCE} was measured; {add}")
    models = tuple(
        replace(model, values={row.id: entries[row.id]["value"] for row in rows})
        for model, entries in zip(panel.models, by_model, strict=True)
    )
    kept = [row for row in panel.checks if row.family != EQUIVALENCE]
    return replace(panel, checks=tuple(rows), models=models, chance={}).joined(panel, kept)


def _convert(line: list[str], artifact: Path, model: str) -> None:
    try:
        done = subprocess.run(line, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603
    except OSError as error:
        raise CalibrationError(
            f"{line[0]}: cannot be started ({error.strerror})", setting="convert"
        ) from None
    if done.returncode or not artifact.exists():
        came_to = (
            f"ended with exit status {done.returncode}"
            if done.returncode
            else f"wrote no {artifact.name}"
        )
        said = [*done.stdout.splitlines(), *done.stderr.splitlines()][-_LINES:]
        raise CalibrationError(
            f"{model}: {shlex.join(line)} {came_to}", setting="convert", below=said
        )
