"""The gate's options on pytest's command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.session import PROFILES, ROLES, StressOptions


def add_options(parser: pytest.Parser) -> None:
    """Add the gate's options, one group."""
    group = parser.getgroup("stress harness", "model quality gate for image classifiers")
    add = group.addoption
    add("--candidate", metavar="PATH", help="The checkpoint under test (default: models/augmented.safetensors).")
    add(
        "--baseline",
        metavar="PATH|none",
        help="The plain model that the candidate is compared with, or none (default: models/baseline.safetensors, and "
        "none for data other than Fashion-MNIST).",
    )
    add(
        "--incumbent",
        metavar="PATH|none",
        help="The last accepted checkpoint, or none (default: models/incumbent.safetensors if it is there, else "
        "models/augmented.safetensors).",
    )
    add("--gates", metavar="PATH", help="The file with the thresholds (default: stress_tests/gates.toml).")
    add(
        "--stress-model",
        metavar="SPEC",
        help="A callable package.module:callable that builds the network of the checkpoints named on the command line; "
        "only for models that are not the shipped architecture (default: the checkpoint's architecture id).",
    )
    add(
        "--stress-model-arg",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="A keyword argument of --stress-model's callable; may be given several times.",
    )
    add(
        "--stress-layer",
        metavar="NAME",
        help="The layer whose attention (Grad-CAM) is looked at, by its name in the model (default: the last "
        "convolution before the last pooling, with its batch norm).",
    )
    add(
        "--stress-data",
        metavar="SPEC",
        default="fashion-mnist",
        help="The labelled test images: fashion-mnist, folder:PATH or npz:PATH (default: fashion-mnist).",
    )
    add(
        "--stress-profile",
        choices=PROFILES,
        default="default",
        help="How much to measure: quick (a stratified sample of 2,000 images; the verdict is partial), default, "
        "or thorough (grids of poses on all images, Hypothesis searches ten times as long; many minutes).",
    )
    add(
        "--stress-samples",
        metavar="N",
        type=int,
        help="Measure a stratified sample of N images only; the verdict is then partial (default: all images).",
    )
    add(
        "--stress-device",
        metavar="DEVICE",
        default="auto",
        help="Where to run: auto, cpu, cuda or mps (default: auto).",
    )
    add(
        "--no-stress-cache",
        action="store_true",
        help="Predict anew instead of using what earlier runs left in the user's cache (default: use it).",
    )
    add(
        "--stress-record",
        metavar="FAMILIES",
        help="Measure these families of gates (names joined by commas, or all) without judging the candidate; "
        "calibration does so with each healthy retrain (default: judge).",
    )
    add(
        "--stress-reports",
        metavar="DIR",
        default="reports",
        help="The folder that reports are written to (default: reports).",
    )


def options_of(config: pytest.Config) -> StressOptions:
    """Return the options, relative defaults resolved from the root directory."""
    option, models = config.option, config.rootpath / "models"
    ours = option.stress_data == "fashion-mnist"
    augmented, accepted = models / "augmented.safetensors", models / "incumbent.safetensors"
    candidate = _path(option.candidate, augmented)
    if candidate is None:
        raise pytest.UsageError("--candidate none: a gate needs a candidate; name a checkpoint")
    return StressOptions(
        candidate=candidate,
        baseline=_path(option.baseline, models / "baseline.safetensors" if ours else None),
        incumbent=_path(option.incumbent, (accepted if accepted.exists() else augmented) if ours else None),
        gates=Path(option.gates) if option.gates else config.rootpath / "stress_tests/gates.toml",
        shipped=frozenset(role for role in ROLES if ours and getattr(option, role) is None),
        model=option.stress_model,
        model_arguments=tuple(option.stress_model_arg),
        layer=option.stress_layer,
        data=option.stress_data,
        profile=option.stress_profile,
        samples=option.stress_samples,
        device=option.stress_device,
        cache=not option.no_stress_cache,
        record=_families(option.stress_record),
        reports=config.rootpath / option.stress_reports,
    )


def _families(given: str | None) -> frozenset[str] | None:
    if given is None:
        return None
    return frozenset() if given == "all" else frozenset(given.split(","))


def _path(given: str | None, default: Path | None) -> Path | None:
    if given is None:
        return default
    return None if given == "none" else Path(given)


def is_gate_run(config: pytest.Config) -> bool:
    """Return whether this is a gate run: some argument lies in, or holds, the folder of the gates file."""
    if config.option.candidate or config.option.gates:
        return True
    folder = config.rootpath / "stress_tests"
    arguments = [(config.invocation_params.dir / str(arg).split("::")[0]).resolve() for arg in config.args]
    return folder.is_dir() and any(folder in (path, *path.parents) or path in folder.parents for path in arguments)
