"""`stress-harness`: exit statuses, messages, and the files its commands write."""

import csv
import gc
import json
import re
import subprocess
import sys
import weakref
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import click
import cv2
import numpy as np
import pytest
import torch

from harness.base.errors import InputError
from harness.cli import main
from harness.cli.group import commands
from harness.data import LabelledImages
from harness.data.fashion_mnist import CLASSES
from harness.inference import Classifier
from harness.measures import accuracy
from harness.networks.architectures import FashionCNN
from harness.networks.checkpoints import Record, load_checkpoint, save_checkpoint
from harness.networks.training import PRESETS, seconds_of_training
from harness.perturb import IDENTITY, Pose, augmentation_range_corners

COMMANDS = [
    *("gate", "history", "accept", "golden", "equal", "skew"),
    *("init", "calibrate"),
    *("list", "compare", "rank", "evaluate", "break"),
    *("train", "convert", "cache", "fetch-data", "export-inputs"),
]

SHIPPED = ("--data", "fashion-mnist")


def some_images(count: int = 120) -> LabelledImages:
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (count, 1, 28, 28)).astype(np.uint8))
    return LabelledImages(pixels, torch.arange(count) % 10, CLASSES, "fashion-mnist", "train")


@pytest.fixture
def tiny_data(monkeypatch) -> LabelledImages:
    images = some_images()
    monkeypatch.setattr("harness.data.load_fashion_mnist", lambda split, data_dir=None: images)
    return images


def notebook_file(path: Path) -> FashionCNN:
    """Save a network's weights like the original notebook does."""
    torch.manual_seed(0)
    network = FashionCNN().to(memory_format=torch.channels_last).eval()
    torch.save(network.state_dict(), path)
    return network


TINY = ["--epochs", "2", "--batch-size", "20", "--validation-size", "20", "--precision", "float32"]


# Usage.


@pytest.mark.parametrize("command", [*COMMANDS, "golden add", "golden list", "golden remove"])
def test_help_shows_an_example(capsys, command):
    assert main([*command.split(), "--help"]) == 0
    assert f"Example: stress-harness {command}" in " ".join(capsys.readouterr().out.split())


def test_help_lists_the_commands_by_purpose(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert re.findall(r"^ {2}([a-z][a-z-]+) {2}", printed, re.MULTILINE) == COMMANDS
    assert re.findall(r"^([A-Z]\w+):$", printed, re.MULTILINE) == [
        "Options",
        "Gate",
        "Setup",
        "Inspect",
        "Maintain",
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_option_says_its_default_and_has_no_prefix(command):
    context = click.Context(commands)
    options = [each for each in commands.get_command(context, command).params if isinstance(each, click.Option)]
    valued = [each for each in options if not each.is_flag and not each.required]
    assert [each.opts for each in valued if "(default" not in each.help] == []
    assert [each.opts for each in options if each.opts[0].startswith("--stress-") or not each.help.endswith(".")] == []


def test_the_help_of_train_says_the_default_recipe():
    from harness.cli.files import RECIPE_SETTINGS

    recipe = asdict(PRESETS["default"])
    said = {each.name.replace("-", "_"): re.search(r"default recipe: (.*)\)", each.help)[1] for each in RECIPE_SETTINGS}
    assert said == {name: str(value) for name, value in recipe.items() if name not in {"architecture", "arguments"}}


@pytest.mark.parametrize("command", ["", *COMMANDS, "golden add"])
def test_help_imports_nothing_heavy(command):
    arguments = [*command.split(), "--help"]
    code = f"import sys; from harness.cli import main; main({arguments}); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "torch", "rich", "pytest"} & set(re.findall(r"'(\w+)'", done.stdout))


@pytest.mark.parametrize(
    ("arguments", "meant"), [(["evalute"], "evaluate"), (["evaluate", "x.pth", "--sampels", "3"], "--samples")]
)
def test_a_misspelt_name_is_answered_with_the_nearest(capsys, arguments, meant):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert "Did you mean" in said
    assert f"'{meant}'" in said


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"stress-harness, version {version('stress-harness')}\n"


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("metrics", r"^accuracy +share +more"),
        ("corruptions", r"^gaussian-noise$"),
        ("sources", r"^folder:PATH +one folder per class"),
        ("checks", r"^clean +clean +accuracy +at_least +0\.\d+ +panel"),
    ],
)
def test_list_prints_what_there_is(capsys, what, expected):
    assert main(["list", what]) == 0
    assert re.search(expected, capsys.readouterr().out, re.MULTILINE)


def test_an_empty_folder_is_told_how_to_make_a_gate(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["gate"]) == 4
    assert "run `stress-harness init`" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["train"],
        ["evaluate"],
        ["convert", "only-one.pth"],
        ["train", "x.safetensors", "--epochs", "many"],
        ["train", "x.safetensors", "--schedule", "cosine"],
        ["train", "x.safetensors", "--precision", "float16"],
        ["evaluate", "x.safetensors", "--loud"],
    ],
    ids=lambda arguments: "-".join(arguments) or "nothing",
)
def test_bad_usage_ends_with_2(capsys, arguments):
    assert main(arguments) == 2
    assert "Usage: stress-harness" in capsys.readouterr().err


def test_python_m_harness_passes_the_status_on(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "harness", "evaluate", str(tmp_path / "none.pth")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "REFUSED[NOT_REGULAR]" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == "data: fashion-mnist (from stress_tests/checks.toml)\n"


# Refusals.


@pytest.mark.parametrize("command", ["evaluate", "convert"])
@pytest.mark.parametrize(
    ("content", "code"), [(b"not a checkpoint", "FORMAT"), (None, "NOT_REGULAR")], ids=["garbage", "missing"]
)
def test_a_refused_checkpoint_ends_with_2_and_says_why(tmp_path, capsys, command, content, code):
    source, destination = tmp_path / "bad.pth", tmp_path / "out.safetensors"
    if content is not None:
        source.write_bytes(content)
    arguments = [command, str(source), *([str(destination)] if command == "convert" else [])]
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: REFUSED[{code}] {source}: ")
    assert "Nothing was executed." in captured.err
    assert captured.out.count("\n") == (command == "evaluate"), "the data alone"
    assert not destination.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.pth"], "checkpoints are written as .safetensors"),
        (["model.safetensors", "--epochs", "0"], "training config: epochs is 0, expected "),
        (["model.safetensors", "--flip-probability", "2"], "flip_probability is 2.0, expected a number of at most 1"),
        (["model.safetensors", "--validation-size", "120"], "a validation split of 120 images does not fit 120"),
        (["model.safetensors", "--batch-size", "500", "--validation-size", "20"], "fewer than one batch of 500"),
    ],
    ids=["suffix", "epochs", "flip-probability", "validation-size", "batch-size"],
)
@pytest.mark.usefixtures("tiny_data")
def test_a_training_that_cannot_be_is_refused(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *arguments]) == 2
    printed = capsys.readouterr().err
    assert "error: " in printed
    assert message in printed
    assert list(tmp_path.iterdir()) == []


def test_missing_training_data_end_with_2_and_the_places_looked_in(tmp_path, monkeypatch, capsys):
    def none_found(split, data_dir=None):
        said = f"Fashion-MNIST's {split} images are in none of these places:"
        raise InputError(said, below=[f"  --data-dir: {data_dir}"])

    monkeypatch.setattr("harness.data.load_fashion_mnist", none_found)
    assert main(["train", str(tmp_path / "m.safetensors"), "--data-dir", str(tmp_path)]) == 2
    assert f"Fashion-MNIST's train images are in none of these places:\n  --data-dir: {tmp_path}" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("command", ["convert", "train"])
def test_a_destination_that_cannot_be_written_ends_with_2(tmp_path, capsys, tiny_data, command):
    notebook_file(tmp_path / "source.pth")
    (tmp_path / "file").write_text("in the way")
    destination = str(tmp_path / "file" / "model.safetensors")
    arguments = (
        ["convert", str(tmp_path / "source.pth"), destination] if command == "convert" else ["train", destination]
    )
    assert main([*arguments, *(TINY if command == "train" else [])]) == 2
    assert f"error: [OUTPUT] {tmp_path / 'file'}" in capsys.readouterr().err


def test_an_interrupted_command_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def interrupted(split, data_dir=None):
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.data.load_fashion_mnist", interrupted)
    assert main(["train", str(tmp_path / "m.safetensors")]) not in {0, 1}
    assert "run the command again to go on" in capsys.readouterr().err


# Convert.


def test_convert_turns_a_notebooks_file_into_a_native_one(tmp_path, capsys):
    network = notebook_file(tmp_path / "best.pth")
    assert main(["convert", str(tmp_path / "best.pth"), str(tmp_path / "out" / "best.safetensors")]) == 0
    assert "best.safetensors: written from" in capsys.readouterr().out
    converted = load_checkpoint(tmp_path / "out" / "best.safetensors")
    assert converted.record is not None
    assert (converted.architecture, converted.record.classes, converted.record.training) == (
        "fashion-cnn",
        CLASSES,
        None,
    )
    weights = network.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in converted.model.state_dict().items())
    pixels = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.allclose(converted.model(pixels), network(pixels), atol=1e-6)


def test_convert_writes_no_native_file_under_another_name(tmp_path, capsys):
    notebook_file(tmp_path / "best.pth")
    assert main(["convert", str(tmp_path / "best.pth"), str(tmp_path / "best.pt")]) == 2
    assert "best.pt: checkpoints are written as .safetensors; name the file so" in capsys.readouterr().err
    assert not (tmp_path / "best.pt").exists()


def test_convert_keeps_the_record_of_a_native_file(tmp_path):
    record = Record("fashion-cnn", {}, CLASSES, training={"seed": 5}, data_sha256="d" * 64)
    save_checkpoint(tmp_path / "one.safetensors", FashionCNN(), record)
    assert main(["convert", str(tmp_path / "one.safetensors"), str(tmp_path / "two.safetensors")]) == 0
    assert (tmp_path / "two.safetensors").read_bytes() == (tmp_path / "one.safetensors").read_bytes()


# Evaluate.


def test_evaluate_prints_what_the_measures_say(tmp_path, capsys, monkeypatch):
    images = some_images()
    monkeypatch.setattr("harness.data.sources.load_images", lambda spec, **_: images)
    network = notebook_file(tmp_path / "untrained.pth")
    assert main(["evaluate", str(tmp_path / "untrained.pth"), *SHIPPED]) == 0
    expected = accuracy(Classifier(network).predict(images)).value
    said = f"data: fashion-mnist (from the command line)\nclean accuracy: {expected:.4g}\nconfident errors: 0\n"
    assert said == capsys.readouterr().out


def test_evaluate_poses_prints_what_the_measures_say(tmp_path, capsys, monkeypatch):
    images, poses = some_images(), (IDENTITY, Pose(10), Pose(0, 2, 0))
    monkeypatch.setattr("harness.data.sources.load_images", lambda spec, **_: images)
    monkeypatch.setattr("harness.features.evaluation.evaluating.augmentation_range_poses", lambda: poses)
    network = notebook_file(tmp_path / "untrained.pth")
    assert main(["evaluate", str(tmp_path / "untrained.pth"), *SHIPPED, "--poses", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    correct = np.stack([Classifier(network).predict(images, pose).correct for pose in poses])
    assert results["mean_pose_accuracy"] == pytest.approx(correct.mean())
    assert results["robust_accuracy"] == pytest.approx(correct.all(axis=0).mean())


def test_evaluate_json_on_the_embedded_images_is_one_json_object(tmp_path, capsys):
    notebook_file(tmp_path / "untrained.pth")
    assert main(["evaluate", str(tmp_path / "untrained.pth"), *SHIPPED, "--json", "--samples", "500"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert set(results) == {"clean_accuracy", "confident_errors"}
    assert 0.02 < results["clean_accuracy"] < 0.25, "an untrained network guesses"
    assert results["confident_errors"] == 0


def test_evaluate_prints_the_scores_of_each_class(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("harness.data.sources.load_images", lambda spec, **_: some_images())
    notebook_file(tmp_path / "untrained.pth")
    assert main(["evaluate", str(tmp_path / "untrained.pth"), *SHIPPED, "--per-class"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^ +precision +recall +F1 +support$", out, re.MULTILINE)
    for name in (*CLASSES, "macro average", "weighted average"):
        assert re.search(rf"^{name} +([\d.]+|–) +[\d.]+ +[\d.]+ +(12|120)$", out, re.MULTILINE), name


@pytest.fixture
def failures(tmp_path, capsys, monkeypatch):
    """Output of `evaluate --failures` for an untrained network, and its own predictions."""
    images = some_images()
    monkeypatch.setattr("harness.data.sources.load_images", lambda spec, **_: images)
    monkeypatch.chdir(tmp_path)
    network = notebook_file(tmp_path / "untrained.pth")
    more = ["--pair", "Bag", "Dress", "--pose", "30", "0", "-1"]
    assert main(["evaluate", "untrained.pth", *SHIPPED, "--failures", *more]) == 0
    return capsys.readouterr().out, tmp_path / "reports/failures", Classifier(network), images


def test_evaluate_failures_counts_by_kind_at_rest_in_a_pose_and_moved(failures):
    out, _, classifier, images = failures
    titles = r"^failures of 120 images +clean +rotated by 30° .*1 px up +mean of 8 poses$"
    assert re.search(titles, out, re.MULTILINE)
    wrong = [int((~classifier.predict(images, pose).correct).sum()) for pose in (IDENTITY, Pose(30.0, 0.0, -1.0))]
    moved = np.mean([(~classifier.predict(images, pose).correct).sum() for pose in augmentation_range_corners()])
    assert re.search(rf"^any error +{wrong[0]} +{wrong[1]} +{moved:.1f}$", out, re.MULTILINE)
    assert re.search(r"^Bag↔Dress +\d+ +\d+ +[\d.]+$", out, re.MULTILINE)
    assert re.search(r"^wrong at most of 9 poses: \d+ of 120 images$", out, re.MULTILINE)


def test_evaluate_failures_writes_every_failure_with_its_probabilities(failures):
    _, folder, classifier, images = failures
    rows = list(csv.DictReader((folder / "failures.csv").read_text().splitlines()))
    clean = classifier.predict(images)
    of_any = [row for row in rows if (row["kind"], row["seen"]) == ("any error", "clean")]
    assert sorted(int(row["image"]) for row in of_any) == np.flatnonzero(~clean.correct).tolist()
    for row in of_any[:5]:
        at = int(row["image"])
        assert (row["true"], row["predicted"]) == (CLASSES[clean.labels[at]], CLASSES[clean.predicted[at]])
        shares = [float(row[f"P({name})"]) for name in CLASSES]
        assert shares == pytest.approx(clean.probabilities[at].tolist(), abs=1e-4)
        assert float(row["confidence"]) == max(shares)
    assert {row["seen"] for row in rows} == {"clean", Pose(30.0, 0.0, -1.0).in_words()}
    persistent = list(csv.DictReader((folder / "persistent.csv").read_text().splitlines()))
    assert all(int(row["wrong at"]) > 4 and row["poses"] == "9" for row in persistent)
    assert [row["class"] for row in csv.DictReader((folder / "classes.csv").read_text().splitlines())][:10] == list(
        CLASSES
    )
    text = (folder / "failures.md").read_text()
    assert text.startswith("# Failures of untrained.pth\n")
    assert "## Bag↔Dress, clean: " in text


def test_evaluate_failures_as_json_holds_the_tables(failures, capsys):
    assert main(["evaluate", "untrained.pth", *SHIPPED, "--failures", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [table["kind"] for table in found["failures"]][:2] == ["any error", "errors over 90% confidence"]
    assert found["persistent"]["poses"] == 9
    assert all(Path(name).exists() for name in found["files"])


def test_evaluate_over_poses_holds_the_answers_of_few_at_a_time(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("harness.data.sources.load_images", lambda spec, **_: some_images())
    monkeypatch.chdir(tmp_path)
    notebook_file(tmp_path / "untrained.pth")
    made, held, predict = [], [], Classifier.predict

    def counted(classifier, images, perturbation=IDENTITY, **options):
        gc.collect()
        held.append(sum(each() is not None for each in made))
        answers = predict(classifier, images, perturbation, **options)
        if perturbation != IDENTITY:
            made.append(weakref.ref(answers))
        return answers

    monkeypatch.setattr(Classifier, "predict", counted)
    assert main(["evaluate", "untrained.pth", *SHIPPED, "--failures", "--pose", "30", "0", "0", "--json"]) == 0
    assert (len(made), max(held)) == (9, 1), "the last, while the next is asked for"
    assert "failures" in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("pose", [("nan", "0", "0"), ("0", "inf", "0"), ("0", "0", "inf")], ids="-".join)
def test_evaluate_refuses_a_pose_that_is_not_finite(capsys, pose):
    assert main(["evaluate", "untrained.pth", *SHIPPED, "--failures", "--pose", *pose]) == 2
    assert f"--pose {' '.join(pose)}: expected finite numbers" in capsys.readouterr().err


def test_names_of_classes_are_text_on_the_screen_and_in_markdown(tmp_path, capsys, monkeypatch):
    names = ("a|b", "one\ntwo", "\x1b[31mred", "<script>alert(1)</script>", *CLASSES[4:])
    images = replace(some_images(), classes=names)
    monkeypatch.setattr("harness.data.sources.load_images", lambda spec, **_: images)
    monkeypatch.chdir(tmp_path)
    notebook_file(tmp_path / "untrained.pth")
    assert main(["evaluate", "untrained.pth", *SHIPPED, "--failures", "--per-class"]) == 0
    out, text = capsys.readouterr().out, Path("reports/failures/failures.md").read_text()
    assert [each for each in out + text if not (each.isprintable() or each == "\n")] == []
    assert r"one\ntwo" in out
    assert r"a\|b" in text
    assert "<script>" not in text
    with Path("reports/failures/failures.csv").open(newline="") as file:
        assert {row["predicted"] for row in csv.DictReader(file)} == {names[1]}


def test_evaluate_of_one_kind_needs_the_failures(tmp_path, capsys):
    assert main(["evaluate", "untrained.pth", *SHIPPED, "--pair", "Bag", "Dress"]) == 2
    assert "give --failures, too" in capsys.readouterr().err


# Train.


def test_train_writes_checkpoint_history_and_curves(tmp_path, capsys, tiny_data):
    destination = tmp_path / "runs" / "new.safetensors"
    assert main(["train", str(destination), "--augment", "--seed", "7", *TINY]) == 0
    record = load_checkpoint(destination).record
    assert record is not None
    assert record.training is not None
    settings = ("seed", "epochs", "batch_size", "rotation_degrees", "shift_fraction", "flip_probability", "precision")
    assert [record.training[name] for name in settings] == [7, 2, 20, 10.0, 0.1, 0.5, "float32"]
    assert record.data_sha256 == tiny_data.sha256
    history = json.loads((tmp_path / "runs" / "new.history.json").read_text())
    took = [epoch.pop("seconds") for epoch in history]
    assert history == [dict(epoch) for epoch in record.history]
    assert seconds_of_training(destination) == pytest.approx(sum(took))
    assert min(took) > 0
    assert [epoch["epoch"] for epoch in history] == [1, 2]
    assert cv2.imread(str(tmp_path / "runs" / "new.curves.png")).std() > 0
    assert sorted(path.name for path in destination.parent.iterdir()) == [
        "new.curves.png",
        "new.history.json",
        "new.safetensors",
    ]
    captured = capsys.readouterr()
    assert f"{destination}: best epoch " in captured.out
    assert "new.history.json" in captured.out
    assert "10/10" in captured.err, "the progress bar ends at all steps"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {"epochs": 20, "schedule": "one-cycle", "rotation_degrees": 0.0, "seed": 42}),
        (["--preset", "notebook"], {"learning_rate": 0.001, "schedule": "constant", "weight_decay": 0.0}),
        (["--preset", "notebook", "--augment"], {"schedule": "constant", "rotation_degrees": 10.0}),
        (["--augment", "--rotation-degrees", "0"], {"rotation_degrees": 0.0, "shift_fraction": 0.1}),
        (["--preset", "notebook", "--schedule", "one-cycle"], {"learning_rate": 0.001, "schedule": "one-cycle"}),
        (["--seed", "0", "--weight-decay", "0"], {"seed": 0, "weight_decay": 0.0}),
    ],
    ids=["default", "notebook", "notebook-augmented", "augment-but-rotation", "preset-but-schedule", "zeros"],
)
def test_options_win_over_augment_and_preset(tmp_path, monkeypatch, tiny_data, arguments, expected):
    configs = []

    def keep(config, images, destination, **callbacks):
        configs.append(config)
        raise InputError("kept")

    monkeypatch.setattr("harness.networks.training.train", keep)
    assert main(["train", str(tmp_path / "m.safetensors"), *arguments]) == 2
    assert {name: getattr(configs[0], name) for name in expected} == expected


@pytest.mark.parametrize("arguments", [["--checkpoints", "--jobs", "2"], ["--checkpoints"]])
def test_an_option_for_many_files_that_names_none_is_refused(arguments, capsys):
    """As an empty pattern of a shell leaves it: nothing is trained in their place."""
    assert main(["calibrate", *arguments]) == 2
    assert "--checkpoints" in capsys.readouterr().err
