"""The command that trains a classifier of Fashion-MNIST: train."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.files import native
from harness.cli.models import add_device_option
from harness.cli.status import OK

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from harness.networks.training import Epoch, TrainingConfig


def add_commands(add: Callable[[str, object, str, str], argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
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
    add_device_option(train, "Where to train; the weights are the same bits again on the same device alone")
    train.add_argument("--data-dir", type=Path, metavar="DIR", help="the folder with Fashion-MNIST's training files")


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
    from harness.base.progress import Progress
    from harness.data import load_fashion_mnist
    from harness.inference import pick_device
    from harness.networks.training import best_epoch, train, write_history
    from harness.report.figures import training_curves

    config, device = _config(options), pick_device(options.device)
    destination = native(options.destination)
    images = load_fashion_mnist("train", data_dir=options.data_dir)
    with Progress(total=None, unit="step", desc=f"training {destination.name}", mininterval=0.5) as bar:

        def show_step(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        def show_epoch(epoch: Epoch) -> None:
            bar.set_postfix(
                epoch=epoch.epoch, loss=f"{epoch.training_loss:.3f}", val=f"{epoch.validation_accuracy:.4f}"
            )

        history = train(config, images, destination, device=device, on_epoch=show_epoch, on_step=show_step)
    epochs, best = [asdict(epoch) for epoch in history], best_epoch(history)
    history_path = write_history(destination, history)
    curves_path = destination.with_suffix(".curves.png")
    training_curves({destination.stem: epochs}, kept=best.epoch).savefig(curves_path, dpi=100)
    print(
        f"{destination}: best epoch {best.epoch} of {len(history)}, validation accuracy {best.validation_accuracy:.4f}"
    )
    print(f"history: {history_path}\ncurves: {curves_path}")
    return OK


def _config(options: argparse.Namespace) -> TrainingConfig:
    from harness.networks.builders import parse_arguments
    from harness.networks.training import PRESETS, TrainingConfig, augmented

    config = augmented(PRESETS[options.preset]) if options.augment else PRESETS[options.preset]
    given: dict[str, Any] = {
        item.name: value for item in fields(TrainingConfig) if (value := getattr(options, item.name, None)) is not None
    }
    arguments = {**config.arguments, **parse_arguments(options.model_arg)}
    return replace(config, **given, arguments=arguments)
