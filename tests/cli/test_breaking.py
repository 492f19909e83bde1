"""The command `break`: the smallest pose for one image, and the survival of all."""

import json
from functools import partial

import cv2
import numpy as np
import pytest
import torch

from harness import cli
from harness.data import LabelledImages
from harness.features.evaluation import breaking_poses
from harness.inference import Classifier
from harness.networks.architectures import FashionCNN
from harness.networks.checkpoints import Record, save_checkpoint
from harness.perturb import Pose
from harness.report.pictures import wrapped


def images(count=30):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return LabelledImages(pixels, torch.arange(count) % 3, ("a", "b", "c"), "some", "test")


@pytest.fixture
def shop(tmp_path):
    arguments = {"conv_channels": [1], "fc_sizes": [], "image_size": [8, 8], "classes": 3}
    torch.manual_seed(3)
    model = FashionCNN(**arguments).eval()
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, model, Record("fashion-cnn", arguments, ("a", "b", "c")))
    some = images()
    labels = Classifier(model).predict(some).predicted.copy()
    labels[0] = (labels[0] + 1) % 3
    np.savez(
        tmp_path / "shop.npz",
        images=some.pixels[:, 0].numpy(),
        labels=labels,
        classes=np.array(["a", "b", "c"]),
    )
    return path, f"npz:{tmp_path / 'shop.npz'}"


def test_break_finds_the_smallest_pose_of_one_image(shop, tmp_path, capsys, monkeypatch):
    """Its picture has the words of the report."""
    path, data = shop
    shown, drawn = [], breaking_poses.strip
    monkeypatch.setattr(breaking_poses, "strip", lambda tiles: shown.extend(tiles) or drawn(tiles))
    picture = tmp_path / "out/broken.png"
    arguments = ["break", str(path), "--image", "1", "--data", data, "--output", str(picture)]
    assert cli.main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["true"] == found["predicted"]
    hits = [found[name] for name in ("rotation", "shift", "joint") if found[name]]
    assert hits
    assert cv2.imread(str(picture)).shape[1] >= 168 * (1 + len(hits))
    first, *moved = [(title, caption) for _, title, caption in shown]
    assert first == (
        "image 1",
        f"true: {found['true']}\n✓ {found['predicted']} {first[1].split()[-1]}",
    )
    poses = [Pose(hit["degrees"], hit["dx"], hit["dy"]).in_words() for hit in hits]
    assert moved == [
        (words, f"✗ {hit['prediction']}") for words, hit in zip(poses, hits, strict=True)
    ]
    assert all(" ".join(wrapped(title).split()) == title for title, _ in moved), (
        "nothing is cut off"
    )
    assert cli.main(arguments) == 0
    assert "image 1: " in capsys.readouterr().out


def test_break_says_that_an_image_is_wrong_as_it_is(shop, tmp_path, capsys):
    path, data = shop
    output = tmp_path / "none.png"
    assert (
        cli.main(["break", str(path), "--image", "0", "--data", data, "--output", str(output)]) == 1
    )
    assert "without any change; there is nothing to break" in capsys.readouterr().out
    assert (
        cli.main(
            ["break", str(path), "--image", "0", "--data", data, "--output", str(output), "--json"]
        )
        == 1
    )
    said = json.loads(capsys.readouterr().out)
    assert said["image"] == 0
    assert said["predicted"] != said["true"]
    assert said["picture"] is None
    assert not output.exists()


def test_a_model_that_gets_no_image_right_is_refused(shop, tmp_path, capsys):
    path, data = shop
    with np.load(tmp_path / "shop.npz") as arrays:
        wrong = {
            "images": arrays["images"][:1],
            "labels": arrays["labels"][:1],
            "classes": arrays["classes"],
        }
    np.savez(tmp_path / "shop.npz", **wrong)
    output = tmp_path / "survival.png"
    assert cli.main(["break", str(path), "--data", data, "--output", str(output)]) == 2
    assert "none of 1 clean images is correct" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize("number", ["-1", "30"])
def test_break_refuses_an_image_that_is_not_there(shop, capsys, number):
    path, data = shop
    assert cli.main(["break", str(path), "--image", number, "--data", data]) == 2
    assert f"--image {number}: the data have images 0 to 29" in capsys.readouterr().err


def test_break_draws_the_survival_of_all(shop, tmp_path, capsys):
    path, data = shop
    output = tmp_path / "survival.png"
    assert cli.main(["break", str(path), "--data", data, "--output", str(output), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == 30
    for name in ("rotation", "shift", "joint"):
        curve = list(found["paths"][name]["survival"].values())
        assert curve[0] == 1.0
        assert curve == sorted(curve, reverse=True)
    assert output.read_bytes().startswith(b"\x89PNG")


def test_the_search_over_all_images_shows_progress_before_a_pose_is_done(
    shop, tmp_path, capsys, monkeypatch
):
    """A pose of many images takes seconds: its batches count. Here nothing is waited for."""
    path, data = shop
    monkeypatch.setattr("harness.base.progress._FIRST_S", 0.0)
    monkeypatch.setattr(breaking_poses, "Progress", partial(breaking_poses.Progress, mininterval=0))
    output = tmp_path / "survival.png"
    assert cli.main(["break", str(path), "--data", data, "--output", str(output)]) == 0
    first, *_, last = [
        line for line in capsys.readouterr().err.splitlines() if line.startswith("rotating and")
    ]
    assert first.startswith("rotating and shifting:   0%")
    assert last.startswith("rotating and shifting: 100%")
