"""The pipeline of pictures.

The same pixels as torchvision's, and any transform that the user names.
"""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from harness.base.errors import InputError
from harness.data import load_images
from harness.data.options import DataOptions
from harness.data.pipeline import Pipeline
from harness.networks import NetworkOptions

NOISE = np.random.default_rng(0).integers(0, 256, (43, 61, 3), dtype=np.uint8)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a folder of pictures, in which modules of the user's are found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "photos" / "a").mkdir(parents=True)
    Image.fromarray(NOISE).save(tmp_path / "photos" / "a" / "0.png")
    Image.fromarray(NOISE[:, ::-1].copy()).save(tmp_path / "photos" / "a" / "1.png")
    yield tmp_path
    for name in ("steps", "mine"):
        sys.modules.pop(name, None)


def options(**given) -> DataOptions:
    """Return options by the values of settings."""
    return DataOptions(**{"data": "folder:photos", **given})


def seen(pipeline: Pipeline, picture=NOISE) -> torch.Tensor:
    return torch.from_numpy(
        pipeline.picture(Image.fromarray(picture), where="x").pixels.copy()
    ).permute(2, 0, 1)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_resizing_and_cropping_give_torchvisions_pixels(interpolation):
    from torchvision.transforms import InterpolationMode, v2

    for resize, crop in ((24, [20, 20]), (80, [64, 70]), (20, [30, 25]), (43, [41, 59])):
        steps = v2.Compose(
            [
                v2.Resize(resize, InterpolationMode(interpolation)),
                v2.CenterCrop(crop),
                v2.PILToTensor(),
            ]
        )
        pipeline = options(
            resize=resize, crop="x".join(map(str, crop)), interpolation=interpolation
        ).pipeline
        for picture in (NOISE, NOISE.transpose(1, 0, 2).copy(), NOISE[..., 0].copy()):
            assert torch.equal(seen(pipeline, picture), steps(Image.fromarray(picture)))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_without_antialiasing_it_is_what_torchvision_makes_of_tensors(interpolation):
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional

    tensor = torch.from_numpy(NOISE).permute(2, 0, 1).float()
    expected = (
        functional.resize(tensor, [20], InterpolationMode(interpolation), antialias=False)
        .round()
        .clamp(0, 255)
    )
    pipeline = options(resize="20", interpolation=interpolation, antialias="no").pipeline
    assert torch.equal(seen(pipeline).float(), expected)


CONTRADICTIONS = (
    ({"size": "8", "resize": "9"}, "size and resize: size stretches images"),
    ({"size": "8", "crop": "9"}, "size and crop"),
    ({"resize": "8x9"}, "^resize 8x9: expected the length of the shorter side"),
    ({"crop": "0"}, "^crop 0: expected a number of pixels, or HEIGHTxWIDTH"),
    ({"interpolation": "bicubic"}, "interpolation: has an effect only with resize or size"),
    ({"antialias": "no"}, "antialias: has an effect only with resize or size"),
    (
        {"antialias": "no", "resize": "8", "interpolation": "lanczos"},
        "lanczos is always antialiased",
    ),
    ({"transform": "steps:f", "size": "8"}, "transform steps:f and size: the transform makes"),
    ({"transform": "timm", "channels": 1}, "transform timm and channels"),
)


def test_what_contradicts_itself_is_said():
    for given, message in CONTRADICTIONS:
        with pytest.raises(InputError, match=message):
            options(**given)


def test_stretched_pictures_are_counted_and_masks_follow(here):
    images = options(size="20").load()
    assert images.notes == (
        "2 of 2 images are stretched by size, the worst by a factor of 1.42; resize and crop keep "
        "their shape",
    )
    assert options(resize="20", crop="20").load().notes == ()
    masks = np.zeros((1, 43, 61), dtype=bool)
    masks[:, :, 30:] = True
    made = options(resize="20", crop="20").pipeline.masks(masks)
    assert made.shape == (1, 20, 20)
    assert made[0, :, 11:].all()
    assert not made[0, :, :9].any()
    assert load_images("fashion-mnist").pipeline == ""


def test_a_transform_of_the_users_makes_the_pixels(here):
    (here / "steps.py").write_text(
        "from torchvision.transforms import v2\nimport torch\nwhole = v2.Compose([v2.Resize(24), "
        "v2.CenterCrop(20), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),\n    "
        "v2.Normalize([0.5, 0.4, 0.3], [0.25, 0.2, 0.1])])\n"
    )
    images = options(transform="steps:whole").load()
    assert torch.equal(images.pixels, options(resize="24", crop="20").load().pixels)
    assert images.normalization == ((0.5, 0.4, 0.3), (0.25, 0.2, 0.1))
    assert NetworkOptions().after(images).normalization == "[0.5, 0.4, 0.3],[0.25, 0.2, 0.1]"
    assert NetworkOptions(normalization="imagenet").after(images).normalization == "imagenet"
    assert images.pipeline.startswith("steps:whole (Compose(")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "return np.asarray(picture, np.float32) - 100",
            r"from -100 to 155, expected \[0, 1\], .*Remove Normalize",
        ),
        (
            "return np.random.rand(4, 4)",
            r"gives other pixels for .*0\.png the second time; remove random steps",
        ),
        (
            "raise SystemExit(0)",
            r"steps:f: failed on .*0\.png \(RuntimeError\('it raised SystemExit",
        ),
        ("return 'text'", "of .*png: is "),
        ("return np.full((4, 4), np.nan)", "from nan to nan, expected"),
        (
            "return np.zeros((2, 4, 4), int)",
            r"is int64 of shape \(2, 4, 4\); expected a picture of 1 or 3 channels",
        ),
    ],
)
def test_what_a_transform_must_not_do_is_said(here, code, message):
    (here / "steps.py").write_text(f"import numpy as np\ndef f(picture):\n    {code}\n")
    with pytest.raises(InputError, match=message):
        options(transform="steps:f").load()


def test_what_is_rounded_is_said(here):
    (here / "steps.py").write_text(
        "import numpy as np\ndef f(picture):\n    return np.asarray(picture) / 255 * 0.9\n"
    )
    assert options(transform="steps:f").load().notes == (
        "2 of 2 images are rounded to 8 bits: steps:f gives levels between them",
    )


def test_torchvision_and_timm_name_their_pipelines(here):
    images = options(transform="torchvision").load(
        NetworkOptions(model="torchvision.models:resnet18").transform_named
    )
    assert images.pixels.shape == (2, 3, 224, 224)
    expected = (
        options(resize="256", crop="224").pipeline.picture(Image.fromarray(NOISE), where="x").pixels
    )
    assert np.array_equal(images.pixels[0].permute(1, 2, 0).numpy(), expected)
    assert images.normalization == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    pytest.importorskip("timm")
    network = NetworkOptions(model="timm:create_model", model_args={"model_name": "test_convnext2"})
    images = options(transform="timm").load(network.transform_named)
    assert images.pixels.shape[0:2] == (2, 3)
    assert images.normalization is not None


@pytest.mark.parametrize(
    ("word", "network", "message"),
    [
        ("timm", NetworkOptions(), "belongs to the network of the option model, which is not set"),
        (
            "torchvision",
            NetworkOptions(model="json:loads"),
            r"model json:loads has none \(model is no builder of torchvision.models",
        ),
        (
            "torchvision",
            NetworkOptions(model="torchvision.models:nothing"),
            "torchvision.models:nothing",
        ),
    ],
)
def test_a_network_without_a_pipeline_is_said(here, word, network, message):
    for spec in ("steps", "steps:", "nowhere:f", "json:__name__"):
        with pytest.raises(InputError, match=f"transform {spec}: "):
            options(transform=spec).load()
    with pytest.raises(InputError, match=message):
        options(transform=word).load(network.transform_named)


def test_a_pipeline_that_changed_decodes_anew(here, monkeypatch):
    """Though the code that changed is not in the file that is named."""
    from harness.data import decoding

    monkeypatch.setattr(decoding, "SMALL", 0)
    (here / "mine.py").write_text("LEVEL = 10\n")
    (here / "steps.py").write_text(
        "import mine, numpy as np\ndef f(_):\n    return np.full((4, 4), mine.LEVEL, np.uint8)\n"
    )
    assert options(transform="steps:f").load().pixels.max() == 10
    sys.modules["mine"].LEVEL = 20
    assert options(transform="steps:f").load().pixels.max() == 20


def test_a_transform_gets_a_picture_of_its_own(here):
    """It may change it in place, and the picture may be the data set's."""
    (here / "steps.py").write_text(
        "def shrink(picture):\n    picture.thumbnail((8, 8))\n    return picture\n"
    )
    data = options(transform="steps:shrink")
    picture = Image.fromarray(NOISE)
    found = data.whole_pipeline().picture(picture, where="x")
    assert max(found.pixels.shape[:2]) == 8
    assert picture.size == (61, 43)
