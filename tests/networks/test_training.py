"""Training learns, is reproducible and resumable to the bit, and restores its process."""

import contextlib
import json
import random
import signal
import subprocess
import sys
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from harness.base.errors import InputError
from harness.data import LabelledImages, split_validation
from harness.data.images import unit_range
from harness.networks.architectures import ARCHITECTURES
from harness.networks.checkpoints import load_checkpoint
from harness.networks.training import PRESETS, SHIPPED, Epoch, TrainingConfig, best_epoch, train

SMALL_NET = {"conv_channels": [4], "fc_sizes": [8], "image_size": [8, 8], "classes": 2}
CONFIG = TrainingConfig(
    seed=1,
    epochs=3,
    batch_size=32,
    optimizer="adam",
    learning_rate=0.01,
    weight_decay=0.05,
    rotation_degrees=10.0,
    shift_fraction=0.125,
    flip_probability=0.5,
    precision="float32",
    validation_size=40,
    arguments=SMALL_NET,
)
STEPS = 5
"""Full batches per epoch: 200 images, 40 of them held out, in batches of 32."""


class Killed(BaseException):
    """Stands for a kill: no handler of `Exception` sees it."""


def bars(count: int = 200, *, seed: int = 0) -> LabelledImages:
    """Images with a lying or a standing bar on noise.

    Any augmentation leaves them distinct.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    pixels = rng.integers(0, 60, (count, 1, 8, 8))
    pixels[labels == 0, :, 3:5, :] += 180
    pixels[labels == 1, :, :, 3:5] += 180
    return LabelledImages(
        torch.from_numpy(pixels.astype(np.uint8)),
        torch.from_numpy(labels),
        ("lying", "standing"),
        "bars",
        "train",
    )


def kill_at(point: int):
    """Return a callback that kills the training at its `point`-th call.

    It is for epochs or for steps.
    """
    calls = []

    def callback(*arguments):
        calls.append(arguments)
        if len(calls) == point:
            raise Killed

    return callback


def killed(
    destination: Path, config: TrainingConfig = CONFIG, images: LabelledImages | None = None, **how
) -> None:
    """Train until the callback of `how` kills the training, which leaves no file but the state."""
    with pytest.raises(Killed):
        train(config, images or bars(), destination, **how)
    assert not destination.exists()


def noise() -> tuple[TrainingConfig, LabelledImages]:
    """Return a training on random labels, and its images.

    Its best epoch is before the last.
    """
    images = bars()
    labels = torch.from_numpy(np.random.default_rng(5).integers(0, 2, len(images)))
    return replace(CONFIG, epochs=6, learning_rate=0.05, schedule="constant"), replace(
        images, labels=labels
    )


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> tuple[bytes, tuple[Epoch, ...]]:
    """File and history of an undisturbed training."""
    destination = tmp_path_factory.mktemp("straight") / "model.safetensors"
    history = train(CONFIG, bars(), destination)
    return destination.read_bytes(), history


def test_the_record_says_how_the_model_was_made(straight, tmp_path):
    """The CPU by its number goes the way of any other device, and computes what the CPU does."""
    _, history = straight
    assert [epoch.epoch for epoch in history] == [1, 2, 3]
    assert best_epoch(history).validation_accuracy > 0.9, history
    assert history[-1].training_loss < history[0].training_loss, history
    (tmp_path / "model.safetensors").write_bytes(straight[0])
    record, history, images = (
        load_checkpoint(tmp_path / "model.safetensors").record,
        straight[1],
        bars(),
    )
    assert record is not None
    assert (record.architecture, record.arguments, record.classes) == (
        "fashion-cnn",
        SMALL_NET,
        images.classes,
    )
    assert TrainingConfig(**record.training) == CONFIG
    assert record.data_sha256 == images.sha256
    # Not how long it took, which the same training does not give again.
    assert record.history == tuple(epoch.measured() for epoch in history)
    assert record.validation == best_epoch(history).measured()
    assert all(epoch.seconds > 0 and "seconds" not in epoch.measured() for epoch in history)
    assert set(record.versions) == {"python", "torch", "harness"}
    assert record.versions["torch"] == torch.__version__
    history = train(CONFIG, bars(), tmp_path / "model.safetensors", device="cpu:0")
    assert history == straight[1]
    record = load_checkpoint(tmp_path / "model.safetensors").record
    assert record.versions["device"] == "cpu:0"
    (tmp_path / "on-the-cpu.safetensors").write_bytes(straight[0])
    of_cpu = load_checkpoint(tmp_path / "on-the-cpu.safetensors").record
    assert replace(record, versions=of_cpu.versions) == of_cpu
    assert "device" not in of_cpu.versions


def test_the_file_holds_the_best_epoch_also_if_that_was_before_a_kill(tmp_path):
    config, images = noise()
    history = train(config, images, tmp_path / "model.safetensors")
    best = best_epoch(history)
    assert best.validation_accuracy > history[-1].validation_accuracy, (
        "the case needs a best epoch before the last"
    )
    _, validation = split_validation(images, size=config.validation_size, seed=config.split_seed)
    model = load_checkpoint(tmp_path / "model.safetensors").model
    with torch.inference_mode():
        predicted = model(unit_range(validation.pixels)).argmax(1)
    assert float((predicted == validation.labels).float().mean()) == best.validation_accuracy
    resumed = tmp_path / "resumed" / "m.safetensors"
    killed(resumed, config, images, on_epoch=kill_at(config.epochs))
    train(config, images, resumed)
    assert resumed.read_bytes() == (tmp_path / "model.safetensors").read_bytes()


def test_bfloat16_learns_and_auto_is_what_a_device_supports(tmp_path, straight):
    history = train(replace(CONFIG, precision="bfloat16"), bars(), tmp_path / "model.safetensors")
    model = load_checkpoint(tmp_path / "model.safetensors").model
    assert best_epoch(history).validation_accuracy > 0.9, history
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert history != straight[1]
    assert replace(CONFIG, precision="auto").resolved("mps").precision == "float32"
    assert replace(CONFIG, precision="bfloat16").resolved("mps").precision == "bfloat16"
    train(replace(CONFIG, epochs=1, precision="auto"), bars(), tmp_path / "model.safetensors")
    record = load_checkpoint(tmp_path / "model.safetensors").record
    assert record.training["precision"] in {"bfloat16", "float32"}


def test_a_seed_gives_the_same_bits_whatever_the_process_did_before(tmp_path, straight):
    before = torch.get_num_threads()
    torch.manual_seed(8)
    torch.set_num_threads(2)
    try:
        history = train(CONFIG, bars(), tmp_path / "model.safetensors")
    finally:
        torch.set_num_threads(before)
    assert ((tmp_path / "model.safetensors").read_bytes(), history) == straight


@pytest.mark.parametrize("setting", ["seed", "split_seed"])
def test_another_seed_gives_another_model(tmp_path, straight, setting):
    history = train(replace(CONFIG, **{setting: 1234}), bars(), tmp_path / "model.safetensors")
    assert history != straight[1]


KILLS = {
    **{f"after-epoch-{epoch}": [{"on_epoch": epoch}] for epoch in range(1, CONFIG.epochs + 1)},
    **{f"at-step-{step}": [{"on_step": step}] for step in (1, STEPS, STEPS + 1, 2 * STEPS + 3)},
    "twice": [{"on_epoch": 1}, {"on_step": STEPS - 1}],
}


@pytest.mark.parametrize("kills", KILLS.values(), ids=KILLS)
def test_killed_anywhere_it_resumes_to_the_same_bits(tmp_path, straight, kills):
    destination, later, steps = tmp_path / "model.safetensors", [], []
    for kill in kills:
        killed(destination, **{kind: kill_at(point) for kind, point in kill.items()})
    history = train(
        CONFIG,
        bars(),
        destination,
        on_epoch=later.append,
        on_step=lambda done, total: steps.append((done, total)),
    )
    assert (destination.read_bytes(), history) == straight
    if "on_epoch" in kills[0]:
        assert len(later) == CONFIG.epochs - kills[0]["on_epoch"], "it trained again what it had"
    total = CONFIG.epochs * STEPS  # Steps are counted over all epochs.
    assert steps == [(done, total) for done in range(total - len(later) * STEPS + 1, total + 1)]


@pytest.mark.parametrize(
    "changes",
    [{"precision": "bfloat16"}, {"weight_decay": 0.0, "schedule": "constant", "optimizer": "sgd"}],
    ids=str,
)
def test_every_kind_of_training_resumes_to_the_same_bits(tmp_path, changes):
    config = replace(CONFIG, **changes)
    straight, resumed = (
        tmp_path / "straight" / "m.safetensors",
        tmp_path / "resumed" / "m.safetensors",
    )
    train(config, bars(), straight)
    killed(resumed, config, on_step=kill_at(STEPS + 2))
    train(config, bars(), resumed)
    assert resumed.read_bytes() == straight.read_bytes()


def state_of(destination: Path) -> Path:
    (state,) = [path for path in destination.parent.iterdir() if path != destination]
    return state


@pytest.mark.faults
def test_a_process_shot_in_the_middle_resumes_to_the_same_bits(tmp_path, straight):
    destination = tmp_path / "model.safetensors"
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nsys.path.insert(0, "
        f"{str(Path(__file__).parent)!r})\nfrom test_training import CONFIG, STEPS, bars, train\n"
        "shoot = lambda done, total: done == 2 * STEPS + 2 and os.kill(os.getpid(), "
        f"signal.SIGKILL)\ntrain(CONFIG, bars(), Path({str(destination)!r}), on_step=shoot)\n"
    )
    shot = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert shot.returncode == -signal.SIGKILL, shot.stderr
    assert not destination.exists()
    assert state_of(destination).stat().st_size > 0
    assert (train(CONFIG, bars(), destination), destination.read_bytes()) == straight[::-1]
    assert list(tmp_path.iterdir()) == [destination]


@pytest.mark.parametrize(
    ("config", "images", "device"),
    [
        (replace(CONFIG, seed=2), bars(), "cpu"),
        (CONFIG, bars(seed=1), "cpu"),
        (CONFIG, bars(), "cpu:0"),
    ],
    ids=["other-seed", "other-data", "other-device"],
)
def test_the_state_of_another_training_is_not_resumed(tmp_path, config, images, device):
    reused, epochs = tmp_path / "m.safetensors", []
    killed(reused, on_epoch=kill_at(2))
    history = train(config, images, reused, device=device, on_epoch=epochs.append)
    assert len(epochs) == len(history) == config.epochs


def flip_a_weight(path: Path) -> bytes:
    """Return the file with one bit flipped in the exponent of its first weight."""
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        (first,) = (member for member in archive.infolist() if member.filename.endswith("/data/0"))
        at = content.index(archive.read(first)) + 3
    return content[:at] + bytes([content[at] ^ 0x02]) + content[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [lambda path: b"", lambda path: path.read_bytes()[:-200], flip_a_weight],
    ids=["empty", "truncated-at-the-end", "bit-flipped"],
)
def test_a_damaged_state_is_not_resumed(tmp_path, straight, damage):
    destination = tmp_path / "model.safetensors"
    killed(destination, on_epoch=kill_at(2))
    state = state_of(destination)
    state.write_bytes(damage(state))
    assert (train(CONFIG, bars(), destination), destination.read_bytes()) == straight[::-1]


def test_an_older_file_stays_until_the_new_one_is_complete(tmp_path, straight):
    destination = tmp_path / "runs" / "model.safetensors"
    seen = []
    train(
        replace(CONFIG, epochs=1),
        bars(),
        destination,
        on_epoch=lambda _: seen.append(destination.exists()),
    )
    assert seen == [False]
    assert list(destination.parent.iterdir()) == [destination]
    older, seen = destination.read_bytes(), []
    train(CONFIG, bars(), destination, on_epoch=lambda _: seen.append(destination.read_bytes()))
    assert seen == [older] * CONFIG.epochs
    assert destination.read_bytes() == straight[0] != older
    other = tmp_path / ".model.safetensors.resume"
    other.write_bytes(b"not a state")
    with pytest.raises(InputError, match="not the state of a training"):
        train(CONFIG, bars(), tmp_path / "model.safetensors")
    assert other.read_bytes() == b"not a state"


@pytest.mark.parametrize("on_step", [None, kill_at(3)], ids=["finished", "killed"])
def test_random_states_and_threads_are_left_as_found(tmp_path, on_step):
    torch.manual_seed(3)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    before = (
        torch.get_rng_state(),
        random.getstate(),
        json.dumps(np.random.get_state(legacy=False), default=str),
    )
    try:
        with contextlib.suppress(Killed):
            train(CONFIG, bars(), tmp_path / "model.safetensors", on_step=on_step)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert json.dumps(np.random.get_state(legacy=False), default=str) == before[2]


class Watcher(nn.Module):
    """A network that keeps what it is shown in training mode."""

    seen: list[torch.Tensor]

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.head = nn.Linear(1, classes)

    def forward(self, pixels):
        if self.training:
            self.seen.append(pixels.clone())
        return self.head(pixels.mean((1, 2, 3)).unsqueeze(1))


def shown_to_the_network(
    monkeypatch, destination: Path, images: LabelledImages, **augmentation
) -> torch.Tensor:
    """Return the pixels (N, H, W) that a training shows to the network.

    By default it has one epoch.
    """
    monkeypatch.setattr(Watcher, "seen", [], raising=False)
    monkeypatch.setitem(ARCHITECTURES, "watcher", Watcher)
    facts = {
        "epochs": 1,
        "batch_size": 32,
        "precision": "float32",
        "validation_size": 1,
        "arguments": {},
    }
    config = TrainingConfig(architecture="watcher", **facts | augmentation)
    train(config, images, destination / "model.safetensors")
    return torch.cat(Watcher.seen)[:, 0]


def dots(count: int, *, size: int, row: slice, column: slice) -> LabelledImages:
    """`count` equal images, black but for one white spot."""
    pixels = torch.zeros(count, 1, size, size, dtype=torch.uint8)
    pixels[:, :, row, column] = 255
    return LabelledImages(pixels, torch.arange(count) % 2, ("a", "b"), "dots", "train")


def test_each_image_is_shown_once_and_with_augmentation_differently(monkeypatch, tmp_path):
    images = bars(193)
    shown = shown_to_the_network(monkeypatch, tmp_path, images)
    training, _ = split_validation(images, size=1, seed=42)
    found, expected = (
        {each.numpy().tobytes() for each in of} for of in (shown, unit_range(training.pixels))
    )
    assert found == expected
    assert len(shown) == 192
    shown = shown_to_the_network(
        monkeypatch, tmp_path, bars(), epochs=2, rotation_degrees=10.0, shift_fraction=0.1
    )
    first, second = ({image.numpy().tobytes() for image in half} for half in shown.chunk(2))
    assert len(first & second) < len(first) / 2


@pytest.mark.parametrize(("probability", "low", "high"), [(1.0, 512, 512), (0.5, 200, 312)])
def test_flips_mirror_left_to_right(monkeypatch, tmp_path, probability, low, high):
    images = dots(513, size=9, row=slice(1, 2), column=slice(2, 3))
    shown = shown_to_the_network(monkeypatch, tmp_path, images, flip_probability=probability)
    columns = shown[:, 1].argmax(1)
    assert set(columns.tolist()) <= {2, 6}
    assert low <= int((columns == 6).sum()) <= high


def test_shifts_are_whole_pixels_up_to_the_limit_in_every_direction(monkeypatch, tmp_path):
    images = dots(1025, size=20, row=slice(9, 10), column=slice(9, 10))
    shown = shown_to_the_network(monkeypatch, tmp_path, images, shift_fraction=0.1)
    assert set(shown.unique().tolist()) == {0.0, 1.0}
    assert shown.flatten(1).sum(1).eq(1).all()
    positions = shown.flatten(1).argmax(1)
    shifts = {(int(position) // 20 - 9, int(position) % 20 - 9) for position in positions}
    assert shifts == {(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)}


def test_rotations_are_whole_degrees_up_to_the_limit_both_ways(monkeypatch, tmp_path):
    images = dots(513, size=33, row=slice(15, 18), column=slice(27, 30))
    shown = shown_to_the_network(monkeypatch, tmp_path, images, rotation_degrees=20.0)
    offset = torch.arange(33) - 16.0
    mass = shown.sum((1, 2))
    x, y = (shown.sum(1) * offset).sum(1) / mass, (shown.sum(2) * offset).sum(1) / mass
    degrees = torch.atan2(-y, x).rad2deg()
    assert -20.2 < float(degrees.min()) < -18
    assert 18 < float(degrees.max()) < 20.2
    assert degrees.tolist() == pytest.approx(degrees.round().tolist(), abs=0.1), "whole degrees"
    assert set(degrees.round().tolist()) == set(range(-20, 21))
    assert torch.hypot(x, y) == pytest.approx(torch.full((512,), 12.0), abs=0.1)


Rates = list[list[tuple[float, float]]]


def recorded_steps(monkeypatch, destination: Path, config: TrainingConfig) -> Rates:
    """Return the learning rate and the weight decay of each group of parameters at each step."""
    steps: Rates = []
    kind = torch.optim.AdamW if config.optimizer == "adam" else torch.optim.SGD

    class Recording(kind):
        def step(self, closure=None):
            steps.append([(group["lr"], group["weight_decay"]) for group in self.param_groups])
            return super().step(closure)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim, kind.__name__, Recording)
        train(config, bars(), destination / "model.safetensors")
    return steps


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_rates_follow_their_schedule_and_only_weights_decay(monkeypatch, tmp_path, optimizer):
    config = replace(CONFIG, optimizer=optimizer, learning_rate=0.001)
    steps = recorded_steps(monkeypatch, tmp_path, replace(config, schedule="constant"))
    assert steps == [[(0.001, 0.05), (0.001, 0.0)]] * (CONFIG.epochs * STEPS)
    steps = recorded_steps(monkeypatch, tmp_path, replace(config, epochs=6))
    assert {tuple(decay for _, decay in step) for step in steps} == {(0.05, 0.0)}
    rates = [step[0][0] for step in steps]
    peak = rates.index(max(rates))
    assert len(rates) == 6 * STEPS
    assert max(rates) == pytest.approx(0.001, rel=1e-6)
    assert rates == [*sorted(rates[: peak + 1]), *sorted(rates[peak + 1 :], reverse=True)]
    assert 0 < peak < len(rates) / 2
    assert rates[-1] < 1e-7


def test_presets_are_the_original_recipe_but_for_the_augmentation():
    recipe = PRESETS["notebook"]
    assert (recipe.seed, recipe.batch_size, recipe.epochs, recipe.learning_rate) == (
        42,
        128,
        30,
        0.001,
    )
    assert (recipe.schedule, recipe.weight_decay, recipe.augmented) == ("constant", 0.0, False)
    assert (recipe.optimizer, recipe.arguments.get("dropout", 0.25)) == ("adam", 0.25)
    assert recipe.validation_size == 6_000
    baseline, augmented = asdict(SHIPPED["baseline"]), asdict(SHIPPED["augmented"])
    geometry = {"rotation_degrees": 10.0, "shift_fraction": 0.1, "flip_probability": 0.5}
    assert {
        name: augmented[name] for name in baseline if baseline[name] != augmented[name]
    } == geometry
    assert not SHIPPED["baseline"].augmented
    assert SHIPPED["augmented"].augmented
    limits = {
        "epochs": 1,
        "learning_rate": 0.0,
        "rotation_degrees": 180,
        "shift_fraction": 1,
        "flip_probability": 1,
    }
    for config in (*PRESETS.values(), TrainingConfig(**limits)):
        assert TrainingConfig(**json.loads(json.dumps(asdict(config)))) == config


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("epochs", 0, "at least 1"),
        ("batch_size", 1, "at least 2"),
        ("learning_rate", float("nan"), "a finite number"),
        ("rotation_degrees", 181, "at most 180"),
        ("flip_probability", -0.1, "at least 0"),
        ("schedule", "cosine", "one-cycle"),
        ("epochs", 2.5, "int|whole"),
        ("seed", True, "whole"),
    ],
    ids=lambda value: str(value).replace(" ", "-"),
)
def test_a_bad_setting_is_refused_with_name_value_and_what_is_expected(setting, value, expected):
    with pytest.raises(
        InputError, match=rf"training config: {setting} is '?{value}'?, expected .*({expected})"
    ):
        TrainingConfig(**{setting: value})


def test_the_config_hash_follows_every_setting():
    changes = {"seed": 1, "epochs": 1, "batch_size": 2, "optimizer": "adam", "learning_rate": 0.5}
    changes |= {
        "schedule": "constant",
        "weight_decay": 0.5,
        "rotation_degrees": 1.0,
        "shift_fraction": 0.5,
    }
    changes |= {
        "flip_probability": 0.25,
        "split_seed": 1,
        "precision": "float32",
        "validation_size": 1,
    }
    changes |= {"architecture": "other", "arguments": {"classes": 3}}
    assert set(changes) == set(asdict(TrainingConfig()))
    hashes = {
        replace(TrainingConfig(), **{name: value}).sha256() for name, value in changes.items()
    }
    assert len(hashes | {TrainingConfig().sha256()}) == len(changes) + 1
    assert TrainingConfig().sha256() == TrainingConfig().sha256()


@pytest.mark.parametrize(
    ("changes", "count", "message"),
    [
        ({}, 50, "10 training images are fewer than one batch of 32"),
        (
            {"validation_size": 0},
            200,
            "a validation split of 0 images does not fit 200 training images",
        ),
        (
            {"validation_size": 200},
            200,
            "a validation split of 200 images does not fit 200 training images",
        ),
        ({"architecture": "resnet"}, 200, "resnet"),
    ],
    ids=["batch", "no-split", "all-split", "architecture"],
)
def test_a_config_that_does_not_fit_is_refused(tmp_path, changes, count, message):
    with pytest.raises(InputError, match=message):
        train(replace(CONFIG, **changes), bars(count), tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("batch_size", "epochs"), [(32, 3), (160, 1)], ids=["within", "at-the-end"]
)
def test_diverging_training_is_refused_and_leaves_no_model(tmp_path, batch_size, epochs):
    destination = tmp_path / "model.safetensors"
    config = replace(
        CONFIG, schedule="constant", learning_rate=1e30, batch_size=batch_size, epochs=epochs
    )
    with pytest.raises(
        InputError, match=r"training diverged in epoch 1: .* not finite; lower the learning rate"
    ):
        train(config, bars(), destination)
    assert not destination.exists()


@pytest.mark.parametrize(
    ("accuracies", "best"),
    [
        ([0.5], 1),
        ([0.5, 0.7, 0.6], 2),
        ([0.7, 0.6, 0.7], 3),
        ([0.7, 0.7, 0.1], 2),
        ([0.1, 0.2, 0.3], 3),
    ],
    ids=["one", "middle", "tie-with-the-last", "tie-before-the-last", "rising"],
)
def test_the_best_epoch_is_the_last_of_the_highest(accuracies, best):
    history = [
        Epoch(number, 1.0, 0.5, 1.0, accuracy)
        for number, accuracy in enumerate(accuracies, start=1)
    ]
    assert best_epoch(history).epoch == best
    assert best_epoch(tuple(history)).epoch == best
