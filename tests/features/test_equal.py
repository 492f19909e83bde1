"""The command `equal`: an artifact beside its original, as a sentence, page and exit status."""

import json
import re
import warnings
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from artifacts import means_of, save_artifact, save_groups, save_predictors
from zoo import ARGUMENTS, CLASSES, Zoo, images_of, network, role_model

from harness.base.records import as_json
from harness.cli import main
from harness.data import LabelledImages
from harness.data.stages import NORMALISATIONS
from harness.features.equivalence.normalization import fitted_normalization
from harness.networks.checkpoints import Record, save_checkpoint
from harness.run.history import HistoryLine

ORIGINAL = "models/augmented.safetensors"
SWAPPED = [1, 0, 2, 3]


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """The zoo, where a user's code is asked again in this process alone.

    `asked` counts these models.
    """
    monkeypatch.chdir(tmp_path)
    zoo = Zoo(tmp_path)
    zoo.asked = []
    monkeypatch.setattr(
        "harness.run.steadiness.asked_elsewhere",
        lambda openings, _: zoo.asked.extend(openings) or [],
    )
    return zoo


@pytest.fixture
def equal(zoo, capsys):
    """Run the command on files, the first one beside the second.

    Returns its exit status and what it printed.
    """

    def run(artifact, *more, original=ORIGINAL, tolerance="5%", data=zoo.data):
        line = ["equal", artifact, "--original", original, "--data", data, "--tolerance", tolerance]
        status = main([*line, *more])
        out, err = capsys.readouterr()
        return status, out.removeprefix(f"data: {data} (from the command line)\n"), err

    return run


def saved(zoo, **how):
    return save_artifact(zoo.root, **how)


def swap(layer):
    """Put the classes into another order."""
    layer.weight.copy_(layer.weight[SWAPPED])
    layer.bias.copy_(layer.bias[SWAPPED])


def test_an_artifact_that_changes_nothing_is_equal(equal, zoo):
    status, out, _ = equal(saved(zoo, jitter=1e-6), "--json")
    done = json.loads(out)
    assert (status, done["outcome"], done["changed"], done["page"]) == (
        0,
        "equal",
        [],
        "reports/equal.html",
    )
    titles = ["all predictions", "the worst class", "correct predictions, net"]
    assert [check["title"] for check in done["checks"]] == titles
    assert done["checks"][0]["bounds"] == [0.0, pytest.approx(0.01145, abs=1e-5)]
    assert done["sentence"] == (
        "Equal: the artifact changes 0 of 400 predictions (0.0%, at most 1.1% with 99% "
        "confidence, tolerance 5.0%); 0 correct predictions are lost, 0 gained."
    )
    assert done["sentence"] in (zoo.root / "reports/equal.html").read_text()


def test_an_artifact_that_changes_much_is_different_and_says_what(equal, zoo):
    status, out, _ = equal(saved(zoo, jitter=1.0))
    assert status == 1
    assert re.match(
        r"Different: the artifact changes \d+ of 400 predictions \([\d.]+%, tolerance 5\.0%\), "
        r"most often \w+ → \w+; \d+ correct predictions are lost, \d+ gained\.\npage: "
        r"reports/equal\.html\n",
        out,
    )
    page = (zoo.root / "reports/equal.html").read_text()
    for title in (
        "The checks",
        "Changed predictions",
        "Changes from class to class",
        "Classes and groups",
    ):
        assert title in page
    assert "the most confident first" in page
    surest = [max(map(int, pair)) for pair in re.findall(r"(\d+)% → (\d+)% · ", page)]
    assert len(surest) > 2
    assert surest == sorted(surest, reverse=True)
    assert "http" not in re.sub(r"http://www\.w3\.org\S*", "", page)


def test_what_cannot_be_told_is_4_and_names_the_images(equal, zoo):
    status, out, _ = equal(saved(zoo, jitter=1e-6), tolerance="0.1%")
    assert status == 4
    assert out.startswith(
        "Cannot tell: the artifact changes 0 of 400 predictions (0.0%, between 0.0% and 1.1% with "
        "99%"
    )
    assert "about 4,203 more images would tell." in out


def test_a_class_that_is_hit_is_named(equal, zoo):
    status, out, _ = equal(saved(zoo, change=lambda layer: layer.bias[1].sub_(90)), tolerance="40%")
    assert status == 1
    assert re.search(r"; the worst class \(bee\): [\d.]+%, tolerance 40.0%", out)


def exported(model, path, *, of=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The exporter's own.
        torch.onnx.export(
            model,
            (torch.rand(2, 1, 16, 16) if of is None else of,),
            str(path),
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
            dynamo=False,
        )


@pytest.mark.parametrize("kind", ["safetensors", "onnx"])
def test_another_order_of_the_classes_is_said_before_anything_is_counted(equal, zoo, kind):
    name = saved(zoo, change=swap)
    if kind == "onnx":
        model = network()
        with torch.no_grad():
            swap(model.fc1)
        exported(model, zoo.root / (name := "a.onnx"))
    status, out, _ = equal(name, "--json")
    said = (
        "the artifact has its classes in another order: ant is predicted as bee, bee is predicted "
        "as ant; "
    )
    done = json.loads(out)
    assert status == 1
    assert done["sentence"].startswith(f"Different: {said}")
    assert done["checks"][0]["detail"].startswith(said)


class OfBytes(torch.nn.Module):
    """A network behind its own scaling of images (N, H, W, C) uint8, as it ships."""

    def __init__(self):
        super().__init__()
        self.network = network()

    def forward(self, pixels):
        return self.network(pixels.permute(0, 3, 1, 2).float() / 255)


def test_a_lossless_export_is_equal(equal, zoo):
    exported(network(), zoo.root / "a.onnx")
    exported(
        OfBytes().eval(), zoo.root / "bytes.onnx", of=torch.zeros(2, 16, 16, 1, dtype=torch.uint8)
    )
    for name, *more in (("a.onnx",), ("bytes.onnx", "--set", "normalization=0.3,0.4")):
        status, out, _ = equal(name, *more, tolerance="2%")
        assert (status, "changes 0 of 400 predictions" in out) == (0, True)


class Shipped(torch.nn.Module):
    """A network behind its own normalization and before a softmax, as it ships."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, pixels):
        return self.network((pixels - 0.6) / 0.1).softmax(dim=1)


def test_an_artifact_may_have_other_outputs_and_normalization(equal, zoo, monkeypatch):
    """A user's network of normalized pixels, exported as it ships."""
    means = means_of(images_of()) / 255
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 4)).eval()
    with torch.no_grad():  # The class of the nearest mean, of pixels (x - 0.6) / 0.1.
        model[1].weight.copy_(0.2 * means)
        model[1].bias.copy_(1.2 * means.sum(dim=1) - means.square().sum(dim=1))
    torch.save(model.state_dict(), zoo.root / "own.pth")
    (zoo.root / "own_network.py").write_text(
        "from torch import nn\n\ndef build():\n    return nn.Sequential(nn.Flatten(), "
        "nn.Linear(256, 4))\n"
    )
    monkeypatch.syspath_prepend(zoo.root)
    exported(Shipped(model), zoo.root / "a.onnx")
    asked = ("a.onnx", "--model", "own_network:build", "--set", "normalization=0.6,0.1")
    status, _, err = equal(*asked, original="own.pth")
    assert (status, "; set --artifact-outputs for outputs of the artifact alone" in err) == (
        4,
        True,
    )
    asked = (*asked, "--artifact-outputs", "probabilities")
    status, out, _ = equal(*asked, original="own.pth", tolerance="2%")
    hint = (
        "The artifact normalizes by itself: without the declared normalization, it changes 0 of "
        "400 predictions. Add --artifact-normalization none."
    )
    assert (status, hint in out.splitlines()) == (1, True)
    assert hint in (zoo.root / "reports/equal.html").read_text()
    status, out, _ = equal(
        *asked, "--artifact-normalization", "none", original="own.pth", tolerance="2%"
    )
    assert (status, "changes 0 of 400 predictions" in out) == (0, True)
    assert zoo.asked


class Normalizing(torch.nn.Module):
    """A network behind a normalization of its own."""

    def __init__(self, network, mean, std):
        super().__init__()
        self.network, self.mean, self.std = network, mean, std

    def forward(self, pixels):
        return self.network((pixels - self.mean) / self.std)


class Unnormalized(torch.nn.Module):
    """A network of normalized pixels, which is given pixels in [0, 1].

    It undoes the normalization of the zoo's.
    """

    def __init__(self, network, mean, std):
        super().__init__()
        self.network, self.mean, self.std = network, mean, std

    def forward(self, pixels):
        return self.network(pixels * self.std + self.mean)


def normalized_original(zoo, mean, std):
    """Save the zoo's network as one that takes pixels normalized by these values.

    Return its name.
    """
    model = network()
    with torch.no_grad():
        model.mean.fill_(mean)
        model.std.fill_(std)
        # Weights of the class means, for pixels (x - mean) / std.
        rows = model.fc1.weight.sum(dim=1)
        model.fc1.bias.add_(mean * rows)
        model.fc1.weight.mul_(std)
    arguments = {**ARGUMENTS, "mean": mean, "std": std}
    save_checkpoint(
        zoo.root / "normalized.safetensors", model, Record("fashion-cnn", arguments, CLASSES)
    )
    return "normalized.safetensors", model


def equal_normalization(equal, *more, **how):
    """Return what the command finds, and its record."""
    status, out, _ = equal(*more, "--json", **how)
    return status, json.loads(out)["normalization"]


def test_a_normalization_inside_the_export_is_named_with_its_values(equal, zoo):
    exported(Normalizing(network(), 0.29, 0.35).eval(), zoo.root / "a.onnx")
    status, out, _ = equal("a.onnx")
    line = next(line for line in out.splitlines() if line.startswith("Normalization"))
    assert status == 1
    assert re.match(
        r"Normalization inside the export: about mean 0\.\d\d, std 0\.\d\d, and the original "
        r"normalizes",
        line,
    )
    assert line in (zoo.root / "reports/equal.html").read_text()
    status, found = equal_normalization(equal, "a.onnx")
    assert (status, found["kind"], found["sentence"]) == (1, "inside", line)
    assert (found["mean"], found["std"]) == (
        pytest.approx(0.29, abs=0.02),
        pytest.approx(0.35, abs=0.02),
    )


def test_a_normalization_that_is_applied_twice_or_missing_is_named(equal, zoo):
    name, model = normalized_original(zoo, 0.3, 0.2)
    exported(Normalizing(model, 0.3, 0.2).eval(), zoo.root / "twice.onnx")
    exported(Unnormalized(model, 0.2, 0.3).eval(), zoo.root / "other.onnx")
    with torch.no_grad():
        model.mean.zero_()
        model.std.fill_(1.0)
    exported(model, zoo.root / "missing.onnx")
    assert equal_normalization(equal, "twice.onnx", original=name)[1]["kind"] == "twice"
    assert equal_normalization(equal, "other.onnx", original=name)[1]["kind"] == "other"
    status, out, _ = equal("missing.onnx", original=name)
    assert (
        "Normalization missing: the original normalizes with mean 0.3 and std 0.2, the artifact "
        "does not; " in out
    )
    option = re.search(r"Add (--artifact-normalization) (\S+)\.\n", out)
    assert (status, option[2]) == (1, "0.3,0.2")
    assert equal("missing.onnx", option[1], option[2], original=name, tolerance="2%")[0] == 0


class OfColors(torch.nn.Module):
    """A linear network of color images, behind a normalization for each channel."""

    def __init__(self, mean, std):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self.last = torch.nn.Linear(3, 4)
        with torch.no_grad():
            self.last.weight.copy_(
                4 * torch.tensor([[1.0, -1, 0], [0, 1, -1], [-1, 0, 1], [0.5, 0.5, -1]])
            )
            self.last.bias.zero_()

    def forward(self, pixels):
        return self.last(((pixels - self.mean) / self.std).mean(dim=(2, 3)))


def test_a_normalization_of_each_channel_is_found():
    pixels = (
        np.random.default_rng(0)
        .integers(0, 256, (300, 3, 1, 1), dtype=np.uint8)
        .repeat(8, 2)
        .repeat(8, 3)
    )
    images = LabelledImages(
        torch.from_numpy(pixels), torch.arange(300) % 4, CLASSES, "colors", "test"
    )
    imagenet = NORMALISATIONS["ImageNet mean and std"]
    original = role_model(model=OfColors(imagenet.mean, imagenet.std).eval())
    artifact = role_model(model=OfColors((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)).eval()).predict(images)
    found = fitted_normalization(artifact, original)
    assert (found.kind, found.explained) == ("missing", found.changed)
    assert found.original_as_option == "[0.485,0.456,0.406],[0.229,0.224,0.225]"


@pytest.mark.parametrize("change", ["few", "biased", "swapped"])
def test_other_differences_have_no_normalization(equal, zoo, change):
    name = {
        "few": lambda: saved(zoo, jitter=0.3),
        "biased": lambda: saved(zoo, change=lambda layer: layer.bias[1].sub_(90)),
        "swapped": lambda: saved(zoo, change=swap),
    }[change]()
    status, found = equal_normalization(equal, name, tolerance="1.5%")
    assert (status in {1, 4}, found) == (True, None)


def test_a_tie_of_the_original_is_no_change(equal, zoo):
    """A network of constant logits has no prediction of its own: float noise decides."""

    def flatten(layer):
        layer.weight.zero_()
        layer.bias.fill_(1.0)

    def shake(layer):
        flatten(layer)
        layer.bias[3] += 1e-6

    flat, noise = saved(zoo, change=flatten), saved(zoo, change=shake, name="noise.safetensors")
    assert "changes 0 of 400 predictions" in equal(noise, original=flat)[1]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--tolerance", "much"], "no share"),
        (["--tolerance", "0"], "expected a share above 0%"),
        (["--tolerance", "150%"], "expected a share above 0%"),
        (["--original", "gone.safetensors"], "gone.safetensors"),
        (["--data", "npz:gone.npz"], "gone.npz"),
        (["--output", ORIGINAL], "is an input of this command"),
    ],
)
def test_refused_input_is_4_too(equal, zoo, capsys, more, said):
    before = (zoo.root / ORIGINAL).read_bytes()
    status, _, err = equal(ORIGINAL, *more)
    assert (status, said in err) == (4, True)
    assert (zoo.root / ORIGINAL).read_bytes() == before
    assert main(["equal", ORIGINAL, "--data", zoo.data]) == 4
    assert "--original" in capsys.readouterr().err


def test_an_original_that_failed_its_own_gate_is_said_first(equal, zoo):
    name = saved(zoo, jitter=1e-6)
    original = json.loads(equal(name, "--json")[1])["original"]["sha256"]
    at = datetime(2026, 11, 1, tzinfo=UTC)
    for verdict, said in (
        ("fail", "failed its own gate"),
        ("error", "has no verdict"),
        ("pass", "Equal"),
    ):
        line = HistoryLine(
            original, at, 2, ORIGINAL, verdict, "default", zoo.images.sha256, "0" * 64, 5
        )
        (zoo.root / "reports/history.jsonl").write_text(as_json(line) + "\n")
        assert said in equal(name)[1].splitlines()[0]


def test_groups_of_the_data_are_looked_at(equal, zoo):
    save_groups(zoo.root / "grouped.npz")
    status, out, _ = equal(ORIGINAL, "--json", data="npz:grouped.npz")
    assert (status, "the worst group by camera" in out) == (0, True)


@pytest.mark.parametrize(("artifact", "status"), [("Labels", 0), ("Dimmed", 1)])
def test_either_side_may_be_a_predictor_of_labels(equal, zoo, artifact, status):
    save_predictors(zoo.root)
    assert (
        equal(f"python:served:{artifact}", original="python:served:Labels", tolerance="2%")[0]
        == status
    )
    assert len(zoo.asked) == 2
    assert "Classes and groups" in (zoo.root / "reports/equal.html").read_text()
