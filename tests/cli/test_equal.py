"""The command `equal`: an artifact beside its original, in one sentence, on one page, by its exit status."""

import json
import re
import warnings
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from zoo import ARGUMENTS, CLASSES, Zoo, images_of, network

from harness.base.records import as_json
from harness.cli import main
from harness.networks.checkpoints import Record, save_checkpoint
from harness.run.history import Line

ORIGINAL = "models/augmented.safetensors"


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Zoo(tmp_path)


@pytest.fixture
def equal(zoo, capsys):
    """Run the command on an artifact with shaken weights; returns its exit status and what it printed."""

    def run(*more, jitter=0.0, order=None, tolerance="5%"):
        model = network(jitter=jitter, seed=4)
        if order is not None:
            with torch.no_grad():
                model.fc1.weight.copy_(model.fc1.weight[order])
                model.fc1.bias.copy_(model.fc1.bias[order])
        save_checkpoint(zoo.root / "artifact.safetensors", model, Record("fashion-cnn", ARGUMENTS, CLASSES))
        line = ["equal", "artifact.safetensors", "--original", ORIGINAL, "--data", zoo.data, "--tolerance", tolerance]
        status = main([*line, *more])
        out, err = capsys.readouterr()
        return status, out.removeprefix(f"data: {zoo.data} (from the command line)\n"), err

    return run


def test_an_artifact_that_changes_nothing_is_equal(equal, zoo):
    status, out, _ = equal(jitter=1e-6)
    assert status == 0
    sentence, page = out.splitlines()
    assert sentence == (
        "Equal: the artifact changes 0 of 400 predictions (0.0%, at most 1.1% with 99% confidence, tolerance 5.0%); "
        "0 correct predictions are lost, 0 gained."
    )
    assert page == "page: reports/equal.html"
    assert sentence in (zoo.root / "reports/equal.html").read_text()


def test_an_artifact_that_changes_much_is_different_and_says_what(equal, zoo):
    status, out, _ = equal(jitter=1.0)
    assert status == 1
    assert re.match(
        r"Different: the artifact changes \d+ of 400 predictions \([\d.]+%, tolerance 5\.0%\), most often \w+ → \w+; "
        r"\d+ correct predictions are lost, \d+ gained\.\n",
        out,
    )
    page = (zoo.root / "reports/equal.html").read_text()
    for title in ("The checks", "Changed predictions", "Changes from class to class"):
        assert title in page
    assert "the most confident first" in page
    surest = [max(map(int, pair)) for pair in re.findall(r"(\d+)% → (\d+)% · ", page)]
    assert len(surest) > 2
    assert surest == sorted(surest, reverse=True)
    assert "http" not in re.sub(r"http://www\.w3\.org\S*", "", page)


def test_what_cannot_be_told_is_4_and_names_the_images(equal):
    status, out, _ = equal(jitter=1e-6, tolerance="0.1%")
    assert status == 4
    assert out.startswith(
        "Cannot tell: the artifact changes 0 of 400 predictions (0.0%, between 0.0% and 1.1% with 99%"
    )
    assert "about 4,203 more images would tell." in out


def test_a_class_that_is_hit_is_named(zoo, capsys):
    model = network()
    with torch.no_grad():
        model.fc1.bias[1] -= 90
    save_checkpoint(zoo.root / "hit.safetensors", model, Record("fashion-cnn", ARGUMENTS, CLASSES))
    capsys.readouterr()
    assert main(["equal", "hit.safetensors", "--original", ORIGINAL, "--data", zoo.data, "--tolerance", "40%"]) == 1
    assert re.search(r"; the worst class \(bee\): [\d.]+%, tolerance 40.0%", capsys.readouterr().out)


def test_json_has_the_outcome_of_each_check(equal):
    status, out, _ = equal("--json", jitter=1e-6)
    done = json.loads(out)
    assert (status, done["outcome"], done["changed"]) == (0, "equal", [])
    assert [check["title"] for check in done["checks"]] == [
        "all predictions",
        "the worst class",
        "correct predictions, net",
    ]


def test_the_model_itself_is_equal_to_itself(zoo):
    assert main(["equal", ORIGINAL, "--original", ORIGINAL, "--data", zoo.data, "--tolerance", "0.02"]) == 0


def test_another_order_of_the_classes_is_said_before_anything_is_counted(equal):
    status, out, _ = equal(order=[1, 0, 2, 3])
    assert status == 1
    assert out.startswith(
        "Different: the artifact has its classes in another order: ant is predicted as bee, bee is predicted as ant; "
    )


def test_an_onnx_artifact_in_another_order_is_different_too(zoo, capsys):
    model = network()
    with torch.no_grad():
        model.fc1.weight.copy_(model.fc1.weight[[1, 0, 2, 3]])
        model.fc1.bias.copy_(model.fc1.bias[[1, 0, 2, 3]])
    exported(model, zoo.root / "a.onnx")
    assert main(["equal", "a.onnx", "--original", ORIGINAL, "--data", zoo.data]) == 1
    assert "its classes in another order" in capsys.readouterr().out.splitlines()[1]


def exported(model, path, *, of=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The exporter's own.
        torch.onnx.export(
            model, (torch.rand(2, 1, 16, 16) if of is None else of,), str(path), input_names=["x"], output_names=["y"],
            dynamic_axes={"x": {0: "n"}, "y": {0: "n"}}, dynamo=False,
        )  # fmt: skip


def test_a_lossless_export_is_equal(zoo, capsys):
    exported(network(), zoo.root / "a.onnx")
    assert main(["equal", "a.onnx", "--original", ORIGINAL, "--data", zoo.data, "--tolerance", "2%"]) == 0
    assert "changes 0 of 400 predictions" in capsys.readouterr().out


class OfBytes(torch.nn.Module):
    """A network behind its own scaling of images (N, H, W, C) uint8, as it ships."""

    def __init__(self):
        super().__init__()
        self.network = network()

    def forward(self, pixels):
        return self.network(pixels.permute(0, 3, 1, 2).float() / 255)


def test_an_export_that_takes_bytes_is_equal(zoo, capsys):
    exported(OfBytes().eval(), zoo.root / "a.onnx", of=torch.zeros(2, 16, 16, 1, dtype=torch.uint8))
    line = ["equal", "a.onnx", "--original", ORIGINAL, "--data", zoo.data, "--tolerance", "2%", "--layers"]
    assert main([*line, "--set", "normalization=0.3,0.4"]) == 0
    out = capsys.readouterr().out
    assert "changes 0 of 400 predictions" in out
    assert "are equal, up to float noise" in out
    assert "<summary></summary>" not in (zoo.root / "reports/equal.html").read_text()


class Shipped(torch.nn.Module):
    """A network behind its own normalization and before a softmax, as it ships."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, pixels):
        return self.network((pixels - 0.6) / 0.1).softmax(dim=1)


@pytest.fixture
def shipped(zoo, monkeypatch):
    """Export a user's network of normalized pixels as it ships; returns the command that compares both."""
    images = images_of()
    pixels = images.pixels.flatten(1).float() / 255
    means = torch.stack([pixels[images.labels == label].mean(dim=0) for label in range(4)])
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 4)).eval()
    with torch.no_grad():  # The class of the nearest mean, of pixels (x - 0.6) / 0.1.
        model[1].weight.copy_(0.2 * means)
        model[1].bias.copy_(1.2 * means.sum(dim=1) - means.square().sum(dim=1))
    torch.save(model.state_dict(), zoo.root / "own.pth")
    (zoo.root / "own_network.py").write_text(
        "from torch import nn\n\ndef build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(256, 4))\n"
    )
    monkeypatch.syspath_prepend(zoo.root)
    exported(Shipped(model), zoo.root / "a.onnx")
    original = ["--original", "own.pth", "--model", "own_network:build", "--set", "normalization=0.6,0.1"]
    return ["equal", "a.onnx", *original, "--data", zoo.data, "--tolerance", "2%"]


def test_an_artifact_may_have_other_outputs_and_normalization(shipped, capsys):
    assert main([*shipped, "--artifact-outputs", "probabilities", "--artifact-normalization", "none"]) == 0
    assert "changes 0 of 400 predictions" in capsys.readouterr().out


def test_outputs_that_differ_lead_to_the_option_of_the_artifact(shipped, capsys):
    assert main(shipped) == 4
    assert "; set --artifact-outputs for outputs of the artifact alone" in capsys.readouterr().err


def test_an_artifact_that_normalizes_by_itself_is_hinted_at(shipped, zoo, capsys):
    assert main([*shipped, "--artifact-outputs", "probabilities"]) == 1
    hint = (
        "The artifact normalizes by itself: without the declared normalization, it changes 0 of 400 predictions. Add "
        "--artifact-normalization none."
    )
    assert hint in capsys.readouterr().out.splitlines()
    assert hint in (zoo.root / "reports/equal.html").read_text()


def test_a_tie_of_the_original_is_no_change(zoo, capsys):
    """A network of constant logits has no prediction of its own: float noise decides."""
    model = network()
    with torch.no_grad():
        model.fc1.weight.zero_()
        model.fc1.bias.fill_(1.0)
    save_checkpoint(zoo.root / "flat.safetensors", model, Record("fashion-cnn", ARGUMENTS, CLASSES))
    with torch.no_grad():
        model.fc1.bias[3] += 1e-6
    save_checkpoint(zoo.root / "noise.safetensors", model, Record("fashion-cnn", ARGUMENTS, CLASSES))
    main(["equal", "noise.safetensors", "--original", "flat.safetensors", "--data", zoo.data])
    assert "changes 0 of 400 predictions" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--tolerance", "much"], "no share"),
        (["--tolerance", "0"], "expected a share above 0%"),
        (["--tolerance", "150%"], "expected a share above 0%"),
        (["--original", "gone.safetensors"], "gone.safetensors"),
        (["--data", "npz:gone.npz"], "gone.npz"),
    ],
)
def test_refused_input_is_4_too(zoo, capsys, more, said):
    assert main(["equal", ORIGINAL, "--original", ORIGINAL, "--data", zoo.data, *more]) == 4
    assert said in capsys.readouterr().err


def test_an_original_is_needed(zoo, capsys):
    assert main(["equal", ORIGINAL, "--data", zoo.data]) == 4
    assert "--original" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verdict", "said"), [("fail", "failed its own gate"), ("error", "has no verdict"), ("pass", "")]
)
def test_an_original_that_failed_its_own_gate_is_said_first(equal, zoo, verdict, said):
    _, out, _ = equal("--json")
    original = json.loads(out)["original"]["sha256"]
    at = datetime(2026, 11, 1, tzinfo=UTC)
    line = Line(original, at, 2, ORIGINAL, verdict, "default", zoo.images.sha256, "0" * 64, 5)
    (zoo.root / "reports/history.jsonl").write_text(as_json(line) + "\n")
    _, out, _ = equal()
    first = out.splitlines()[0]
    assert (said in first) if said else first.startswith("Equal")


def test_groups_of_the_data_are_looked_at(zoo, capsys):
    images = images_of()
    cameras = np.where(np.arange(400) % 2 == 0, "front", "back")
    np.savez(
        zoo.root / "grouped.npz", images=images.pixels[:, 0].numpy(), labels=images.labels.numpy(),
        classes=np.array(CLASSES), groups=np.array(list(zip(cameras)), dtype=[("camera", "U5")]),
    )  # fmt: skip
    assert (
        main(["equal", ORIGINAL, "--original", ORIGINAL, "--data", "npz:grouped.npz", "--tolerance", "5%", "--json"])
        == 0
    )
    assert "the worst group by camera" in capsys.readouterr().out


def test_the_page_replaces_no_input(zoo, capsys):
    before = (zoo.root / ORIGINAL).read_bytes()
    assert main(["equal", ORIGINAL, "--original", ORIGINAL, "--data", zoo.data, "--output", ORIGINAL]) == 4
    assert "is an input of this command" in capsys.readouterr().err
    assert (zoo.root / ORIGINAL).read_bytes() == before


CODE = """
import numpy as np

MEANS = np.load("means.npz")["means"]

class Labels:
    outputs = "labels"
    shift = 0

    def predict(self, pixels):
        flat = pixels.reshape(len(pixels), -1).astype(np.float32) + self.shift
        return ((flat[:, None] - MEANS) ** 2).sum(axis=2).argmin(axis=1)

class Dimmed(Labels):
    shift = -60
"""


@pytest.fixture
def callables(zoo):
    images = images_of()
    pixels = images.pixels.flatten(1).float().numpy()
    means = np.stack([pixels[images.labels.numpy() == label].mean(axis=0) for label in range(4)])
    np.savez(zoo.root / "means.npz", means=means)
    (zoo.root / "served.py").write_text(CODE)
    return zoo


@pytest.mark.parametrize(("artifact", "status"), [("Labels", 0), ("Dimmed", 1)])
def test_either_side_may_be_a_predictor_of_labels(callables, capsys, artifact, status):
    line = ["equal", f"python:served:{artifact}", "--original", "python:served:Labels", "--data", callables.data]
    assert main([*line, "--tolerance", "2%"]) == status, capsys.readouterr().err
    page = (callables.root / "reports/equal.html").read_text()
    assert "Classes and groups" in page
