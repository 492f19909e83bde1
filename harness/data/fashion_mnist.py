"""Fashion-MNIST (Xiao, Rasul & Vollgraf 2017): places of its files, verification and download.

The 10,000 test images ship with this package. The 60,000 training images are searched in a fixed order of places. Files
are gzipped IDX (http://yann.lecun.com/exdb/mnist/). The SHA-256 of their decompressed bytes verifies them, since gzip
headers differ between distributors.
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
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from harness.base import user_folder
from harness.base.errors import DataError, InputError, OutputError
from harness.base.files import write_atomically
from harness.data.images import LabelledImages

if TYPE_CHECKING:
    import torch

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


class _File(NamedTuple):
    name: str
    sha256: str
    dimensions: int


_FILES: dict[Split, tuple[_File, _File]] = {
    "train": (
        _File("train-images-idx3-ubyte.gz", "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888", 3),
        _File("train-labels-idx1-ubyte.gz", "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9", 1),
    ),
    "test": (
        _File("t10k-images-idx3-ubyte.gz", "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b", 3),
        _File("t10k-labels-idx1-ubyte.gz", "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34", 1),
    ),
}

EMBEDDED = Path(__file__).parent / "fashion_mnist_files"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
DOWNLOAD_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_REMEDY = "Restore it from the distribution, or run `stress-harness fetch-data` for a fresh copy."


def cache_dir() -> Path:
    """Return the user's cache directory for Fashion-MNIST; `$XDG_CACHE_HOME` moves it on Linux."""
    return user_folder("fashion-mnist")


def load_fashion_mnist(split: Split = "test", *, data_dir: Path | None = None) -> LabelledImages:
    """Load and verify one split: 10,000 images for "test" (embedded), 60,000 for "train".

    Raises `InputError`, which lists the places, if none has the files, and for files that are not intact. Damaged files
    end the search with an error, so they never go unnoticed.
    """
    directory = EMBEDDED if split == "test" and data_dir is None else _find(split, data_dir)
    images_file, labels_file = _FILES[split]
    pixels, labels = (_read(directory / file.name, file) for file in (images_file, labels_file))
    return LabelledImages(
        pixels=pixels.unsqueeze(1),
        labels=labels.long(),
        classes=CLASSES,
        name="fashion-mnist",
        split=split,
    )


def _find(split: Split, data_dir: Path | None) -> Path:
    own = os.environ.get("FASHION_MNIST_DIR")
    looked_in = {
        "--data-dir": data_dir,
        "$FASHION_MNIST_DIR": Path(own) if own else None,
        "the user's cache": cache_dir(),
        "Debian's package dataset-fashion-mnist": DEBIAN,
    }
    for directory in filter(None, looked_in.values()):
        if all((directory / file.name).exists() for file in _FILES[split]):
            return directory
    remedy = (
        "Run `stress-harness fetch-data` to download them, on Debian or Ubuntu `apt-get install "
        "dataset-fashion-mnist`, or name their folder with `--data-dir`."
    )
    names = ", ".join(file.name for file in _FILES[split])
    raise DataError(
        f"Fashion-MNIST's {split} images ({names}) are in none of these places:",
        below=[*(f"  {name}: {directory}" for name, directory in looked_in.items() if directory), remedy],
    )


def _read(path: Path, file: _File) -> torch.Tensor:
    """Return the array of unsigned bytes in a gzipped IDX file; raises `InputError` for another or a damaged one."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). {_REMEDY}") from None
    return _unpacked(content, file, where=str(path))


def _unpacked(content: bytes, file: _File, *, where: str) -> torch.Tensor:
    try:
        content = gzip.decompress(content)
    except EOFError:
        raise DataError(f"{where}: truncated, the gzip stream ends before its end marker. {_REMEDY}") from None
    except (OSError, zlib.error) as error:
        raise DataError(f"{where}: not an intact gzip file ({error}). {_REMEDY}") from None
    if (found := hashlib.sha256(content).hexdigest()) != file.sha256:
        raise DataError(f"{where}: wrong content, SHA-256 {found} instead of {file.sha256}. {_REMEDY}")
    import torch

    header = 4 + 4 * file.dimensions
    shape = struct.unpack(f">{file.dimensions}I", content[4:header])
    return torch.from_numpy(np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape).copy())


def fetch_fashion_mnist(destination: Path | None = None, *, url: str = DOWNLOAD_URL) -> Path:
    """Download the four files into `destination` (default: the user's cache) and return it.

    Each file is verified before an atomic rename; intact files are kept. Raises `InputError` if the download fails or
    its content is not Fashion-MNIST.
    """
    destination = destination or cache_dir()
    try:
        destination.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{destination}: the folder cannot be created ({error.strerror}); name another with --data-dir"
        ) from None
    for file in (*_FILES["train"], *_FILES["test"]):
        target = destination / file.name
        try:
            _read(target, file)
        except InputError:
            _download(url.rstrip("/") + "/" + file.name, target, file)
    return destination


def _download(url: str, target: Path, file: _File) -> None:
    from harness.base.progress import Progress

    remedy = (
        "Check the connection and run the command again, or on Debian or Ubuntu "
        "`apt-get install dataset-fashion-mnist`."
    )
    try:
        with urllib.request.urlopen(url, timeout=60) as response:  # noqa: S310  The caller gives the address.
            total = int(response.headers.get("Content-Length") or 0) or None
            with Progress(total=total, desc=target.name, unit="B", unit_scale=True) as progress:
                content = b""
                while chunk := response.read(1 << 16):
                    content += chunk
                    progress.update(len(chunk))
        _unpacked(content, file, where=url)
        write_atomically(target, content)
    except (http.client.HTTPException, OSError, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # This error is also the open response.
        raise DataError(f"{url}: download failed ({error}). {remedy}") from None
    except InputError as error:
        raise DataError(f"{url}: the download is not Fashion-MNIST ({error}). {remedy}") from None
