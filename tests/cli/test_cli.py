"""`stress-harness`: exit statuses, messages, and the files its commands write."""

import csv
import gc
import json
import re
import subprocess
import sys
import weakref
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from importlib.metadata import version
from io import StringIO
from pathlib import Path

import click
import cv2
import numpy as np
import pandas as pd
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
    *(
        "gate",
        "history",
        "report",
        "accept",
        "equal",
        "evidence",
        "golden",
        "attest",
        "card",
        "badge",
        "skew",
    ),
    *("calibrate", "init"),
    *("list", "schema", "docs", "compare", "rank", "evaluate", "break", "leakage", "shortcuts"),
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
def test_help_shows_an_example_and_the_default_of_each_option(capsys, command):
    assert main([*command.split(), "--help"]) == 0
    assert f"Example: stress-harness {command}" in " ".join(capsys.readouterr().out.split())
    found = commands
    for name in command.split():
        found = found.get_command(click.Context(found), name)
    options = [each for each in found.params if isinstance(each, click.Option)]
    valued = [each for each in options if not each.is_flag and not each.required]
    assert [each.opts for each in valued if "(default" not in each.help] == []
    assert [
        each.opts
        for each in options
        if each.opts[0].startswith("--stress-") or not each.help.endswith(".")
    ] == []


def test_help_lists_the_commands_by_purpose(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert re.findall(r"^ {2}([a-z][a-z-]+) {2}", printed, re.MULTILINE) == COMMANDS
    purposes = ["Options", "Gate", "Setup", "Inspect", "Maintain"]
    assert re.findall(r"^([A-Z]\w+):$", printed, re.MULTILINE) == purposes


def test_the_help_of_train_says_the_default_recipe():
    from harness.cli.files import RECIPE_SETTINGS

    recipe = asdict(PRESETS["default"])
    said = {
        each.name.replace("-", "_"): re.search(r"default recipe: (.*)\)", each.help)[1]
        for each in RECIPE_SETTINGS
    }
    assert said == {
        name: str(value)
        for name, value in recipe.items()
        if name not in {"architecture", "arguments"}
    }


def test_help_imports_nothing_heavy():
    asked = [[*command.split(), "--help"] for command in ("", *COMMANDS, "golden add")]
    code = (
        f"import sys; from harness.cli import main; print([main(each) for each in {asked}], "
        "sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("Usage: ") == len(asked)
    assert not {"numpy", "torch", "rich", "pytest"} & set(re.findall(r"'(\w+)'", done.stdout))


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [(["evalute"], "evaluate"), (["evaluate", "x.pth", "--sampels", "3"], "--samples")],
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
        (
            "metrics",
            r"^robust_accuracy +share +more +Share of images that are predicted correctly in all "
            r"poses",
        ),
        (
            "corruptions",
            r"^gaussian-noise +0.04, 0.06, .* +Add normal noise of this standard deviation",
        ),
        ("sources", r"^folder:PATH +A folder of pictures with one folder per class"),
        ("sources", r"^module:callable +A data set of your own code"),
        ("settings", r"^no_overview +Reports +yes\|no +Leave out the comparison"),
        ("settings", r"^--stress-plan +Scope +– +Print the cost"),
        ("checks", r"^clean +clean +accuracy +at_least +0\.\d+ +panel"),
    ],
)
def test_list_prints_what_there_is(capsys, what, expected):
    assert main(["list", what]) == 0
    assert re.search(expected, capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize("what", ["sources", "metrics", "corruptions", "predictors", "settings"])
def test_list_explains_each_entry_in_a_sentence(capsys, what):
    assert main(["list", what]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 5
    assert [line for line in lines[1:] if not re.search(r"  [A-Zq0-9].*[.)]$", line)] == []


def test_list_says_that_a_thing_of_your_own_is_not_described(monkeypatch, capsys):
    from harness.measures import METRICS
    from harness.measures.metric import Metric, Unit
    from harness.perturb.corruptions import CORRUPTIONS, CorruptionFunction

    plain = CorruptionFunction(lambda images, level, draws: images, (1.0,) * 5)
    monkeypatch.setitem(CORRUPTIONS.own, "my-haze", plain)
    mine = Metric("my_metric", Unit.SHARE, better="more")
    monkeypatch.setitem(METRICS.own, "my_metric", mine)
    assert main(["list", "corruptions"]) == 0
    assert re.search(
        r"^my-haze +1.0, .* +Not described: its function has no docstring\.$",
        capsys.readouterr().out,
        re.MULTILINE,
    )
    assert main(["list", "metrics"]) == 0
    assert re.search(
        r"^my_metric .* Not described: it is declared without words\.$",
        capsys.readouterr().out,
        re.MULTILINE,
    )


@pytest.mark.parametrize("group", [[], ["golden"]], ids=["all", "golden"])
def test_a_group_without_a_command_prints_its_help(capsys, group):
    assert main(group) == 0
    bare = capsys.readouterr()
    assert main([*group, "--help"]) == 0
    assert bare == capsys.readouterr()
    assert bare.out.startswith("Usage: stress-harness")
    assert bare.err == ""


def test_outputs_have_one_option():
    outputs = {}
    for name in COMMANDS:
        command = commands.get_command(click.Context(commands), name)
        options = {option for each in command.params for option in each.opts}
        assert "--out" not in options, name
        outputs[name] = "--output" in options
    assert {name for name, has in outputs.items() if has} >= {
        "report",
        "attest",
        "badge",
        "compare",
        "break",
        "evidence",
        "leakage",
        "shortcuts",
    }


@pytest.mark.parametrize(
    "arguments",
    [
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


def test_python_m_harness_passes_the_status_on():
    command = [sys.executable, "-m", "harness", "nosuch"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: [USAGE] No such command 'nosuch'." in done.stderr
    assert "Traceback" not in done.stderr


# Refusals.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "none.pth"], "error: REFUSED[NOT_REGULAR] none.pth: "),
        (["evaluate", "bad.pth"], "error: REFUSED[FORMAT] bad.pth: "),
        (["convert", "none.pth", "new.safetensors"], "error: REFUSED[NOT_REGULAR] none.pth: "),
        (["convert", "bad.pth", "new.safetensors"], "error: REFUSED[FORMAT] bad.pth: "),
        (
            ["convert", "bad.pth", "new.pt"],
            "new.pt: checkpoints are written as .safetensors; name the file so",
        ),
        (["convert", "best.pth", "bad.pth/new.safetensors"], "error: [OUTPUT] bad.pth"),
        (["train", "bad.pth/new.safetensors", *TINY], "error: [OUTPUT] bad.pth"),
        (["train", "new.pth"], "checkpoints are written as .safetensors"),
        (["train", "new.safetensors", "--epochs", "0"], "training config: epochs is 0, expected "),
        (
            ["train", "new.safetensors", "--flip-probability", "2"],
            "flip_probability is 2.0, expected a number of at",
        ),
        (
            ["train", "new.safetensors", "--validation-size", "120"],
            "a validation split of 120 images does not fit 120",
        ),
        (
            ["train", "new.safetensors", "--batch-size", "500", "--validation-size", "20"],
            "fewer than one batch of 500",
        ),
        (
            ["evaluate", "best.pth", "--failures", "--pose", "nan", "0", "0"],
            "--pose nan 0 0: expected finite numbers",
        ),
        (
            ["evaluate", "best.pth", "--failures", "--pose", "0", "inf", "0"],
            "--pose 0 inf 0: expected finite numbers",
        ),
        (
            ["evaluate", "best.pth", "--failures", "--pose", "0", "0", "inf"],
            "--pose 0 0 inf: expected finite numbers",
        ),
        (
            ["evaluate", "best.pth", "--per-image", "images.txt"],
            "expected a name that ends in .csv or .parquet",
        ),
        (["evaluate", "best.pth", "--pair", "Bag", "Dress"], "give --failures, too"),
        (
            ["calibrate", "--checkpoints", "--jobs", "2"],
            "--checkpoints",
        ),  # As an empty pattern of a shell leaves it.
        (["calibrate", "--checkpoints"], "--checkpoints"),
        (
            ["leakage", "--train", "fashion-mnist", "--chance", "nan"],
            "'nan' is no share; write 1% or 0.01",
        ),
        (["leakage", "--train", "fashion-mnist", "--chance", "nan%"], "'nan%' is no share"),
        (["leakage", "--train", "fashion-mnist", "--chance", "inf"], "'inf' is no share"),
        (
            ["leakage", "--train", "fashion-mnist", "--chance", "-1%"],
            "'-1%' is no share from 0% to 100%",
        ),
        (
            ["leakage", "--train", "fashion-mnist", "--chance", "101%"],
            "'101%' is no share from 0% to 100%",
        ),
        (
            ["equal", "best.pth", "--original", "best.pth", "--tolerance", "nan"],
            "'nan' is no share",
        ),
        (["calibrate", "--power", "--drop", "nan"], "'nan' is no finite number"),
        (["calibrate", "--power", "--drop", "inf"], "'inf' is no finite number"),
        (["init", "--min-accuracy", "nan"], "'nan' is no finite number"),
        (["evaluate", "best.pth", "--set", "timeout=nan"], "timeout"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
@pytest.mark.usefixtures("tiny_data")
def test_what_cannot_be_ends_with_2_and_says_why(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    notebook_file(tmp_path / "best.pth")
    (tmp_path / "bad.pth").write_bytes(b"not a checkpoint")
    data = SHIPPED if arguments[0] == "evaluate" else ()
    refused = 4 if arguments[0] == "equal" else 2  # It judges a model.
    assert main([*arguments, *data]) == refused
    said = capsys.readouterr().err
    assert message in said
    assert ("REFUSED" in message) <= ("Nothing was executed." in said)
    assert {path.name for path in tmp_path.iterdir()} == {"best.pth", "bad.pth"}


def test_missing_training_data_end_with_2_and_the_places_looked_in(tmp_path, monkeypatch, capsys):
    def none_found(split, data_dir=None):
        raise InputError(
            f"no {split} images in any of these places:", below=[f"  --data-dir: {data_dir}"]
        )

    monkeypatch.setattr("harness.data.load_fashion_mnist", none_found)
    assert main(["train", str(tmp_path / "m.safetensors"), "--data-dir", str(tmp_path)]) == 2
    assert (
        f"no train images in any of these places:\n  --data-dir: {tmp_path}"
        in capsys.readouterr().err
    )


def test_an_interrupted_command_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def interrupted(split, data_dir=None):
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.data.load_fashion_mnist", interrupted)
    assert main(["train", str(tmp_path / "m.safetensors")]) not in {0, 1}
    assert "run the command again to go on" in capsys.readouterr().err


# Convert.


def test_convert_turns_a_notebooks_file_into_a_native_one(tmp_path, capsys):
    network = notebook_file(tmp_path / "best.pth")
    assert (
        main(["convert", str(tmp_path / "best.pth"), str(tmp_path / "out" / "best.safetensors")])
        == 0
    )
    assert "best.safetensors: written from" in capsys.readouterr().out
    converted = load_checkpoint(tmp_path / "out" / "best.safetensors")
    record = converted.record
    assert (converted.architecture, record.classes, record.training) == (
        "fashion-cnn",
        CLASSES,
        None,
    )
    weights = network.state_dict()
    assert all(
        torch.equal(tensor, weights[name]) for name, tensor in converted.model.state_dict().items()
    )
    pixels = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.allclose(converted.model(pixels), network(pixels), atol=1e-6)


def test_convert_keeps_the_record_of_a_native_file(tmp_path):
    record = Record("fashion-cnn", {}, CLASSES, training={"seed": 5}, data_sha256="d" * 64)
    save_checkpoint(tmp_path / "one.safetensors", FashionCNN(), record)
    assert (
        main(["convert", str(tmp_path / "one.safetensors"), str(tmp_path / "two.safetensors")]) == 0
    )
    assert (tmp_path / "two.safetensors").read_bytes() == (
        tmp_path / "one.safetensors"
    ).read_bytes()


# Evaluate.


def evaluate(folder: Path, *arguments: str, images: LabelledImages | None = None) -> str:
    """Return the output of `evaluate` for an untrained network on some images in a folder.

    Nothing else is printed.
    """
    printed, data = StringIO(), images or some_images()
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(printed):
        patched.chdir(folder)
        patched.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patched.setattr("harness.data.sources.load_images", lambda spec, **_: data)
        notebook_file(folder / "untrained.pth")
        assert main(["evaluate", "untrained.pth", *SHIPPED, *arguments]) == 0
    return printed.getvalue()


def test_evaluate_prints_what_the_measures_say(tmp_path):
    expected = accuracy(
        Classifier(notebook_file(tmp_path / "same.pth")).predict(some_images())
    ).value
    said = (
        f"data: fashion-mnist (from the command line)\nclean accuracy: {expected:.4g}\nconfident "
        "errors: 0\n"
    )
    assert evaluate(tmp_path) == said


@pytest.mark.parametrize("name", ["images.csv", "images.parquet"])
def test_evaluate_writes_a_row_for_each_image_and_pose(tmp_path, name):
    cameras = np.array(["one", "two"]).repeat(60)
    images = replace(some_images(), groups={"camera": cameras})
    shuffled = images.take(torch.randperm(120, generator=torch.Generator().manual_seed(1)))
    tables = []
    for data in (images, shuffled):
        evaluate(tmp_path, "--per-image", name, "--pose", "30", "0", "-1", images=data)
        path = tmp_path / name
        tables.append(pd.read_csv(path) if name.endswith("csv") else pd.read_parquet(path))
    table = tables[0]
    assert list(table.columns[:8]) == [
        "id",
        "image",
        "degrees",
        "dx",
        "dy",
        "label",
        "predicted",
        "correct",
    ]
    assert (len(table), table["id"].nunique()) == (240, 120)
    predicted = Classifier(notebook_file(tmp_path / "same.pth")).predict(
        images, Pose(30.0, 0.0, -1.0)
    )
    posed = table[table["degrees"] == 30]
    assert list(posed["correct"]) == predicted.correct.tolist()
    assert list(posed["predicted"]) == [images.classes[at] for at in predicted.predicted]
    np.testing.assert_allclose(posed["confidence"], predicted.confidence, rtol=1e-5)
    of_label = predicted.probabilities[np.arange(120), predicted.labels]
    np.testing.assert_allclose(posed["probability_of_label"], of_label, rtol=1e-5)
    assert list(posed["group camera"]) == cameras.tolist()
    columns = ["degrees", "label", "predicted"]
    one, other = (each.set_index(["id", *columns[:1]])[columns[1:]].sort_index() for each in tables)
    assert one.equals(other), "an image has its identifier in any order"


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    """Output of `evaluate --failures` for an untrained network, its tables and predictions."""
    folder = tmp_path_factory.mktemp("failures")
    printed = evaluate(
        folder, "--failures", "--per-class", "--pair", "Bag", "Dress", "--pose", "30", "0", "-1"
    )
    return printed, folder / "reports/failures", Classifier(notebook_file(folder / "same.pth"))


def test_evaluate_prints_the_scores_of_each_class(failures):
    out, *_ = failures
    assert re.search(r"^ +precision +recall +F1 +support$", out, re.MULTILINE)
    for name in (*CLASSES, "macro average", "weighted average"):
        assert re.search(rf"^{name} +([\d.]+|–) +[\d.]+ +[\d.]+ +(12|120)$", out, re.MULTILINE), (
            name
        )


def test_evaluate_failures_counts_by_kind_at_rest_in_a_pose_and_moved(failures):
    out, _, classifier = failures
    images = some_images()
    titles = r"^failures of 120 images +clean +rotated by 30° .*1 px up +mean of 8 poses$"
    assert re.search(titles, out, re.MULTILINE)
    wrong = [
        int((~classifier.predict(images, pose).correct).sum())
        for pose in (IDENTITY, Pose(30.0, 0.0, -1.0))
    ]
    moved = np.mean(
        [(~classifier.predict(images, pose).correct).sum() for pose in augmentation_range_corners()]
    )
    assert re.search(rf"^any error +{wrong[0]} +{wrong[1]} +{moved:.1f}$", out, re.MULTILINE)
    assert re.search(r"^Bag↔Dress +\d+ +\d+ +[\d.]+$", out, re.MULTILINE)
    assert re.search(r"^wrong at most of 9 poses: \d+ of 120 images$", out, re.MULTILINE)


def test_evaluate_failures_writes_every_failure_with_its_probabilities(failures):
    _, folder, classifier = failures
    rows, persistent, classes = (
        list(csv.DictReader((folder / f"{name}.csv").read_text().splitlines()))
        for name in ("failures", "persistent", "classes")
    )
    clean = classifier.predict(some_images())
    of_any = [row for row in rows if (row["kind"], row["seen"]) == ("any error", "clean")]
    assert sorted(int(row["image"]) for row in of_any) == np.flatnonzero(~clean.correct).tolist()
    for row in of_any[:5]:
        at = int(row["image"])
        assert (row["true"], row["predicted"]) == (
            CLASSES[clean.labels[at]],
            CLASSES[clean.predicted[at]],
        )
        shares = [float(row[f"P({name})"]) for name in CLASSES]
        assert shares == pytest.approx(clean.probabilities[at].tolist(), abs=1e-4)
        assert float(row["confidence"]) == max(shares)
    assert {row["seen"] for row in rows} == {"clean", Pose(30.0, 0.0, -1.0).in_words()}
    assert all(int(row["wrong at"]) > 4 and row["poses"] == "9" for row in persistent)
    assert [row["class"] for row in classes][:10] == list(CLASSES)
    text = (folder / "failures.md").read_text()
    assert text.startswith("# Failures of untrained.pth\n")
    assert "## Bag↔Dress, clean: " in text


def test_evaluate_poses_prints_what_the_measures_say(tmp_path, monkeypatch):
    images, poses = some_images(), (IDENTITY, Pose(10), Pose(0, 2, 0))
    monkeypatch.setattr(
        "harness.features.evaluation.evaluation.augmentation_range_poses", lambda _: poses
    )
    found, classifier = (
        json.loads(evaluate(tmp_path, "--poses", "--json")),
        Classifier(notebook_file(tmp_path / "same")),
    )
    correct = np.stack([classifier.predict(images, pose).correct for pose in poses])
    assert found["mean_pose_accuracy"] == pytest.approx(correct.mean())
    assert found["robust_accuracy"] == pytest.approx(correct.all(axis=0).mean())


def test_evaluate_failures_holds_the_answers_of_few_poses_at_a_time(tmp_path, monkeypatch):
    made, held, predict = [], [], Classifier.predict

    def counted(classifier, images, perturbation=IDENTITY, **options):
        gc.collect(1)
        held.append(sum(each() is not None for each in made))
        answers = predict(classifier, images, perturbation, **options)
        if perturbation != IDENTITY:
            made.append(weakref.ref(answers))
        return answers

    monkeypatch.setattr(Classifier, "predict", counted)
    found = json.loads(evaluate(tmp_path, "--failures", "--pose", "30", "0", "0", "--json"))
    assert (len(made), max(held)) == (9, 1), "the last, while the next is asked for"
    assert [table["kind"] for table in found["failures"]][:2] == [
        "any error",
        "errors over 90% confidence",
    ]
    assert found["persistent"]["poses"] == 9
    assert all((tmp_path / name).exists() for name in found["files"])


def test_names_of_classes_are_text_on_the_screen_and_in_markdown(tmp_path):
    names = ("a|b", "one\ntwo", "\x1b[31mred", "<script>alert(1)</script>", *CLASSES[4:])
    out = evaluate(
        tmp_path, "--failures", "--per-class", images=replace(some_images(), classes=names)
    )
    text = (tmp_path / "reports/failures/failures.md").read_text()
    assert [each for each in out + text if not (each.isprintable() or each == "\n")] == []
    assert r"one\ntwo" in out
    assert r"a\|b" in text
    assert "<script>" not in text
    with (tmp_path / "reports/failures/failures.csv").open(newline="") as file:
        assert {row["predicted"] for row in csv.DictReader(file)} == {names[1]}


# Train.


def test_train_writes_checkpoint_history_and_curves(tmp_path, capsys, tiny_data):
    destination = tmp_path / "runs" / "new.safetensors"
    assert main(["train", str(destination), "--augment", "--seed", "7", *TINY]) == 0
    record = load_checkpoint(destination).record
    settings = (
        "seed",
        "epochs",
        "batch_size",
        "rotation_degrees",
        "shift_fraction",
        "flip_probability",
        "precision",
    )
    assert [record.training[name] for name in settings] == [7, 2, 20, 10.0, 0.1, 0.5, "float32"]
    assert record.data_sha256 == tiny_data.sha256
    history = json.loads((tmp_path / "runs" / "new.history.json").read_text())
    took = [epoch.pop("seconds") for epoch in history]
    assert history == [dict(epoch) for epoch in record.history]
    assert seconds_of_training(destination) == pytest.approx(sum(took))
    assert min(took) > 0
    assert [epoch["epoch"] for epoch in history] == [1, 2]
    assert cv2.imread(str(tmp_path / "runs" / "new.curves.png")).std() > 0
    names = {"new.curves.png", "new.history.json", "new.safetensors"}
    assert {path.name for path in destination.parent.iterdir()} == names
    captured = capsys.readouterr()
    assert f"{destination}: best epoch " in captured.out
    assert "new.history.json" in captured.out
    assert "10/10" in captured.err, "the progress bar ends at all steps"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {"epochs": 20, "schedule": "one-cycle", "rotation_degrees": 0.0, "seed": 42}),
        (
            ["--preset", "notebook"],
            {"learning_rate": 0.001, "schedule": "constant", "weight_decay": 0.0},
        ),
        (["--preset", "notebook", "--augment"], {"schedule": "constant", "rotation_degrees": 10.0}),
        (
            ["--augment", "--rotation-degrees", "0"],
            {"rotation_degrees": 0.0, "shift_fraction": 0.1},
        ),
        (
            ["--preset", "notebook", "--schedule", "one-cycle"],
            {"learning_rate": 0.001, "schedule": "one-cycle"},
        ),
        (["--seed", "0", "--weight-decay", "0"], {"seed": 0, "weight_decay": 0.0}),
    ],
    ids=[
        "default",
        "notebook",
        "notebook-augmented",
        "augment-but-rotation",
        "preset-but-schedule",
        "zeros",
    ],
)
def test_options_win_over_augment_and_preset(tmp_path, monkeypatch, tiny_data, arguments, expected):
    configs = []
    monkeypatch.setattr(
        "harness.networks.training.train", lambda config, *_, **__: configs.append(config) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        main(["train", str(tmp_path / "m.safetensors"), *arguments])
    assert {name: getattr(configs[0], name) for name in expected} == expected


@pytest.mark.parametrize(
    ("arguments", "arrays"),
    [
        (("init", "--help"), ("arrays", "images", "labels", "classes", "masks", "groups")),
        (
            ("list", "sources"),
            ("images", "labels", "classes", "masks", "groups", "test_images", "test_labels"),
        ),
        (
            ("list", "predictors"),
            ("labels", "probabilities", "logits", "image", "export", "classes"),
        ),
    ],
    ids=["option", "sources", "predictors"],
)
def test_the_arrays_of_npz_files_are_in_the_help(arguments, arrays, capsys):
    assert main([*arguments]) == 0
    of_npz = " ".join(capsys.readouterr().out.split()).partition("npz")[2][:400]
    assert [name for name in arrays if not re.search(rf"\b{name}\b", of_npz)] == []
