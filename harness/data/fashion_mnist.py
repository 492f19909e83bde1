"""Fashion-MNIST (Xiao, Rasul & Vollgraf 2017): places of its files, verification and download.

The 10,000 test images ship with this package. The 60,000 training images are searched in a fixed
order of places. Files are gzipped IDX (http://yann.lecun.com/exdb/mnist/). The SHA-256 of their
decompressed bytes verifies them, since gzip headers differ between distributors.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import struct
import urllib.error
import urllib.request
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from harness.base.errors import DataError, InputError, OutputError
from harness.base.files import user_folder, write_atomically
from harness.data.images import LabelledImages

if TYPE_CHECKING:
    from torch import Tensor

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
Split = Literal["train", "test"]
_FILES: dict[Split, tuple[str, str]] = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
"""The files of images and of labels by split."""
_SHA256 = {
    "train-images-idx3-ubyte.gz": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
    ),
    "train-labels-idx1-ubyte.gz": (
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
    ),
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
EMBEDDED = Path(__file__).parent / "fashion_mnist_files"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
DOWNLOAD_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_REMEDY = "Restore it from the distribution, or run `stress-harness fetch-data` for a fresh copy."


def load_fashion_mnist(split: Split = "test", *, data_dir: Path | None = None) -> LabelledImages:
    """Load and verify one split: 10,000 images for "test" (embedded), 60,000 for "train".

    Raises `InputError`, which lists the places, if none has the files, and for files that are not
    intact. Damaged files end the search with an error, so they never go unnoticed.
    """
    if split == "test" and data_dir is None:
        folder = EMBEDDED
    else:
        folder = _place_of(split, data_dir)
    images_file, labels_file = _FILES[split]
    pixels = _read(folder / images_file)
    labels = _read(folder / labels_file)
    return LabelledImages(pixels.unsqueeze(1), labels.long(), CLASSES, "fashion-mnist", split)


def _place_of(split: Split, data_dir: Path | None) -> Path:
    """Return the first folder with the files of a split; raises `InputError` without one."""
    places = {}
    if data_dir is not None:
        places["--data-dir"] = data_dir
    if os.environ.get("FASHION_MNIST_DIR"):
        places["$FASHION_MNIST_DIR"] = Path(os.environ["FASHION_MNIST_DIR"])
    places["the user's cache"] = user_folder("fashion-mnist")
    places["Debian's package dataset-fashion-mnist"] = DEBIAN

    names = _FILES[split]
    for folder in places.values():
        if all((folder / name).exists() for name in names):
            return folder
    raise DataError(
        f"Fashion-MNIST's {split} images ({', '.join(names)}) are in none of these places:",
        below=[
            *(f"  {name}: {folder}" for name, folder in places.items()),
            "Run `stress-harness fetch-data` to download them, on Debian or Ubuntu `apt-get "
            "install dataset-fashion-mnist`, or name their folder with `--data-dir`.",
        ],
    )


def _read(path: Path) -> Tensor:
    try:
        return _unpacked(path.read_bytes(), path.name, where=str(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). {_REMEDY}") from None


def _unpacked(content: bytes, name: str, *, where: str) -> Tensor:
    """Return the array of unsigned bytes in a gzipped IDX file.

    Raises `InputError` for another or a damaged file.
    """
    import torch

    try:
        content = gzip.decompress(content)
    except EOFError:
        raise DataError(
            f"{where}: truncated, the gzip stream ends before its end marker. {_REMEDY}"
        ) from None
    except (OSError, zlib.error) as error:
        raise DataError(f"{where}: not an intact gzip file ({error}). {_REMEDY}") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != _SHA256[name]:
        raise DataError(
            f"{where}: wrong content, SHA-256 {digest} instead of {_SHA256[name]}. {_REMEDY}"
        )
    # IDX: the fourth byte is the number of dimensions, whose lengths follow, then the bytes.
    shape = struct.unpack_from(f">{content[3]}I", content, 4)
    pixels = np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * len(shape))
    return torch.from_numpy(pixels.reshape(shape).copy())


def fetch_fashion_mnist(destination: Path | None = None, *, url: str = DOWNLOAD_URL) -> Path:
    """Download the four files into `destination` (default: the user's cache) and return it.

    Each file is verified before an atomic rename; intact files are kept. Raises `InputError` if the
    download fails or its content is not Fashion-MNIST.
    """
    if destination is None:
        destination = user_folder("fashion-mnist")
    try:
        destination.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{destination}: the folder cannot be created ({error.strerror}); "
            "name another with --data-dir"
        ) from None
    for name in _SHA256:
        try:
            _read(destination / name)
        except InputError:
            _download(f"{url.rstrip('/')}/{name}", destination / name)
    return destination


def _download(url: str, target: Path) -> None:
    from harness.base.progress import Progress

    remedy = (
        "Check the connection and run the command again, or on Debian `apt-get install "
        "dataset-fashion-mnist`."
    )
    try:
        with urllib.request.urlopen(url, timeout=60) as response:  # noqa: S310  The caller gives the address.
            total = int(response.headers.get("Content-Length") or 0) or None
            with Progress(total=total, desc=target.name, unit="B", unit_scale=True) as progress:
                content = b""
                while chunk := response.read(1 << 16):
                    content += chunk
                    progress.update(len(chunk))
        _unpacked(content, target.name, where=url)
        write_atomically(target, content)
    except (http.client.HTTPException, OSError, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # This error is also the open response.
        raise DataError(f"{url}: download failed ({error}). {remedy}") from None
    except InputError as error:
        raise DataError(f"{url}: the download is not Fashion-MNIST ({error}). {remedy}") from None
