"""The command line, `python -m harness`: train, evaluate, compare, break, calibrate, accept, convert and the rest."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.breaking import add_commands as add_breaking_commands
from harness.cli.comparing import add_commands as add_comparing_commands
from harness.cli.evaluating import add_commands as add_evaluating_commands
from harness.cli.gating import add_commands as add_gating_commands
from harness.cli.starting import add_commands as add_starting_commands
from harness.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.networks.training import Epoch, TrainingConfig

_OK, _REFUSED = 0, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns 0, 1 for a negative answer, or 2 for bad usage and refused input."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # What stands after `--` is for the gate; argparse itself would take only a part of it.
    end = arguments.index("--") if "--" in arguments else len(arguments)
    parser = _parser()
    options = parser.parse_args(arguments[:end])
    options.options = tuple(arguments[end + 1 :])
    if options.options and not options.passes_on:
        parser.error(f"unrecognized arguments: {' '.join(options.options)}")
    try:
        status: int = options.run(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return _REFUSED
    except OSError as error:
        print(f"error: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return _REFUSED
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept, run the command again to go on", file=sys.stderr)
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m harness", description="Stress-test image classifiers.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: object, summary: str, example: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=f"example: python -m harness {example}",
        )
        command.set_defaults(run=run, passes_on=False)
        return command

    train = add(
        "train",
        _train,
        "Train a Fashion-MNIST classifier; a killed run goes on where it stopped when it is started again.",
        "train runs/new.safetensors --augment --seed 7",
    )
    train.add_argument("destination", type=Path, metavar="CHECKPOINT", help="the file to write, .safetensors")
    train.add_argument("--preset", choices=("default", "notebook"), default="default", help="where settings start from")
    train.add_argument(
        "--augment",
        action="store_true",
        help="the study's augmentation: rotation ±10°, shift 10%%, mirrored half the time",
    )
    _add_config_options(train)
    train.add_argument(
        "--model-arg",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an argument of the network, for example conv_channels=[16,32], fc_sizes=[64] or dropout=0.25 "
        "(default recipe: dropout=0.1)",
    )
    train.add_argument("--data-dir", type=Path, metavar="DIR", help="the folder with Fashion-MNIST's training files")

    add_evaluating_commands(add)
    add_starting_commands(add)
    add_gating_commands(add)
    add_breaking_commands(add)
    add_comparing_commands(add)

    convert = add(
        "convert",
        _convert,
        "Turn a state dict of the shipped architecture into the native format.",
        "convert baseline_best.pth baseline.safetensors",
    )
    convert.add_argument("source", type=Path, metavar="STATE_DICT")
    convert.add_argument("destination", type=Path, metavar="CHECKPOINT")

    cache = add(
        "cache",
        _cache,
        "Show or empty the cache of predictions, which makes a second run of the gate quick.",
        "cache --clear",
    )
    action = cache.add_mutually_exclusive_group()
    action.add_argument("--info", action="store_true", help="show where it is and how much it holds (the default)")
    action.add_argument("--clear", action="store_true", help="delete every entry")

    fetch = add(
        "fetch-data", _fetch_data, "Download Fashion-MNIST, verify it and keep it in the user's cache.", "fetch-data"
    )
    fetch.add_argument("--data-dir", type=Path, metavar="DIR", help="another folder to keep it in")
    return parser


_CONFIG_HELP = {
    "seed": "seed of weights, order, augmentation and dropout",
    "epochs": "passes over the training images",
    "batch_size": "images per step",
    "optimizer": "adam (decoupled weight decay) or sgd (Nesterov momentum 0.9)",
    "learning_rate": "the peak, when the schedule is one-cycle",
    "schedule": "constant or one-cycle",
    "weight_decay": "on weights, not on biases and batch norms",
    "rotation_degrees": "turn each image by up to so much, either way",
    "shift_fraction": "shift each image by up to this share of its size",
    "flip_probability": "mirror an image with this probability",
    "precision": "auto, bfloat16 or float32",
    "validation_size": "images held out to choose the best epoch",
    "split_seed": "seed of the validation split",
}


def _add_config_options(command: argparse.ArgumentParser) -> None:
    from harness.networks.training import PRESETS

    choices = {
        "optimizer": ("adam", "sgd"),
        "schedule": ("constant", "one-cycle"),
        "precision": ("auto", "bfloat16", "float32"),
    }
    for name, text in _CONFIG_HELP.items():
        default = getattr(PRESETS["default"], name)
        command.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(default),
            choices=choices.get(name),
            help=f"{text} (default recipe: {default})",
            metavar=None if name in choices else name.upper(),
        )


def _train(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from harness.data import load_fashion_mnist
    from harness.networks.training import best_epoch, train
    from harness.report.figures import training_curves

    config = _config(options)
    destination = _native(options.destination)
    images = load_fashion_mnist("train", data_dir=options.data_dir)
    with tqdm(total=None, unit="step", desc=f"training {destination.name}", mininterval=0.5) as bar:

        def show_step(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        def show_epoch(epoch: Epoch) -> None:
            bar.set_postfix(
                epoch=epoch.epoch, loss=f"{epoch.training_loss:.3f}", val=f"{epoch.validation_accuracy:.4f}"
            )

        history = train(config, images, destination, on_epoch=show_epoch, on_step=show_step)
    from harness.store.files import write_atomically

    epochs = [asdict(epoch) for epoch in history]
    history_path = destination.with_suffix(".history.json")
    write_atomically(history_path, (json.dumps(epochs, indent=1) + "\n").encode())
    curves_path = destination.with_suffix(".curves.png")
    best = best_epoch(history)
    training_curves({destination.stem: epochs}, kept=best.epoch).savefig(curves_path, dpi=100)
    print(
        f"{destination}: best epoch {best.epoch} of {len(history)}, validation accuracy {best.validation_accuracy:.4f}"
    )
    print(f"history: {history_path}\ncurves: {curves_path}")
    return _OK


def _config(options: argparse.Namespace) -> TrainingConfig:
    from harness.networks.builders import parse_arguments
    from harness.networks.training import PRESETS, TrainingConfig, augmented

    config = augmented(PRESETS[options.preset]) if options.augment else PRESETS[options.preset]
    given: dict[str, Any] = {
        item.name: value for item in fields(TrainingConfig) if (value := getattr(options, item.name, None)) is not None
    }
    arguments = {**config.arguments, **parse_arguments(options.model_arg, option="--model-arg")}
    return replace(config, **given, arguments=arguments)


def _native(destination: Path) -> Path:
    if destination.suffix != ".safetensors":
        raise InputError(f"{destination}: checkpoints are written as .safetensors; name the file so")
    return destination


def _convert(options: argparse.Namespace) -> int:
    from harness.data.fashion_mnist import CLASSES
    from harness.networks.checkpoints import Record, load_checkpoint, save_checkpoint

    destination = _native(options.destination)
    checkpoint = load_checkpoint(options.source)
    record = checkpoint.record or Record(architecture=checkpoint.architecture, arguments={}, classes=CLASSES)
    save_checkpoint(destination, checkpoint.model, record)
    print(f"{destination}: written from {options.source}")
    return _OK


def _cache(options: argparse.Namespace) -> int:
    from harness.store.cache import MAX_BYTES, PredictionCache, default_folder

    cache = PredictionCache(default_folder())
    info = cache.clear() if options.clear else cache.info()
    done = "deleted" if options.clear else "kept"
    print(
        f"{info.folder}: {info.entries} predictions {done}, {info.bytes / 1e6:.1f} of at most {MAX_BYTES / 1e6:.0f} MB"
    )
    return _OK


def _fetch_data(options: argparse.Namespace) -> int:
    from harness.data import fetch_fashion_mnist

    print(f"Fashion-MNIST is in {fetch_fashion_mnist(options.data_dir)}")
    return _OK
