"""A model behind a URL: its address, its metadata and single requests to it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from harness.base.errors import ServerError
from harness.inference.predictors.credentials import TOKEN
from harness.inference.predictors.encoded import EncodedPictures, tensor_of_files
from harness.inference.predictors.exchange import Exchange
from harness.inference.predictors.open_inference import (
    BINARY,
    FILES,
    HEADER_LENGTH,
    Metadata,
    ServerMetadata,
    input_of,
    output_of,
    read_answer,
    read_message,
    request_of,
)
from harness.inference.predictors.protocol import PredictorError

if TYPE_CHECKING:
    import numpy as np

    from harness.data import LabelledImages
    from harness.inference.predictors.credentials import Credentials
    from harness.networks.options import PredictorOptions

_PATH = re.compile(r"(?P<prefix>.*)/v2(?P<path>/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?)/?")
_ROOM, _NUMBER = 1 << 20, 40
"""Most bytes of an answer besides its numbers, and of each number."""
_MANY = 100_000
"""Most classes of an unknown model."""


@dataclass(frozen=True)
class Address:
    """The address of a served model: the root of the server's API, the model's path below it, its name and version."""

    root: str
    path: str
    name: str
    version: str | None
    host: str

    @property
    def url(self) -> str:
        """Return the model's URL."""
        return self.root + self.path

    @property
    def local(self) -> bool:
        """Return whether the server runs on this machine."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def address_of(url: str) -> Address:
    """Return the address in a URL; raises `InputError` for another form, and for credentials in it."""
    expected = "expected https://HOST/v2/models/NAME, perhaps with /versions/VERSION"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ServerError(f"is no URL; {expected}") from None
    if "@" in parts.netloc:
        raise ServerError(f"has credentials in the URL; remove them, and set {TOKEN} or write an entry of netrc")
    found = _PATH.fullmatch(parts.path)
    if not (host and found and url.isascii() and url.isprintable()) or set(url) & set(" ?#"):
        raise ServerError(f"is no address of a served model without a query or a fragment; {expected}")
    root = f"{parts.scheme}://{parts.netloc.lower()}{found['prefix']}/v2"
    version = found["version"]
    return Address(root, found["path"], unquote(found["name"]), version and unquote(version), host)


class ServedModel:
    """A model behind an address; threads may share it. Its errors quote the server, so callers hide the credentials.

    Its metadata are read first, and must fit the images of the run before any is sent. A model that takes files gets
    those of the images, see `EncodedPictures`.
    """

    def __init__(
        self,
        address: Address,
        options: PredictorOptions,
        credentials: Credentials,
        *,
        images: LabelledImages | None,
    ) -> None:
        if credentials.header and not (address.local or address.root.startswith("https:")):
            raise ServerError(f"would get the credentials of {credentials.source} unencrypted; use https://")
        self.address, self.credentials = address, credentials
        self._exchange = Exchange(address.root, credentials, options, local=address.local)
        self._numbers = count(1)
        self.metadata = self.read_metadata()
        self._classes = None if images is None else len(images.classes)
        self.input, self.shape = input_of(self.metadata, None if images is None else tuple(images.pixels.shape[1:]))
        self.output = output_of(self.metadata, options.http_output, classes=self._classes)
        self._files = EncodedPictures(images)
        what = "the server's metadata"
        try:
            found = read_message(ServerMetadata, self._exchange.ask("", what, most_bytes=_ROOM).content, what)
            self._binary = BINARY in found.extensions
        except PredictorError:  # Not every server has metadata of its own.
            self._binary = False

    @property
    def decodes(self) -> bool:
        """Return whether the model takes files and decodes them itself."""
        return self.input.layout == FILES

    def encoded(self, pixels: np.ndarray) -> np.ndarray:
        """Return images, (N, C, H, W) float32 in [0, 1], in the input tensor's form; files are (N, 1) objects."""
        return tensor_of_files(self._files.of(pixels)) if self.decodes else self.input.encoded(pixels)

    def read_metadata(self) -> Metadata:
        """Request the metadata; raises `PredictorError` if the server has none."""
        what = "the model's metadata"
        return read_message(Metadata, self._exchange.ask(self.address.path, what, most_bytes=_ROOM).content, what)

    def infer(self, values: np.ndarray) -> tuple[np.ndarray, str | None]:
        """Return the answer for images in the input tensor's form, and the version that the server names."""
        number = str(next(self._numbers))
        body, headers = request_of(values, self.input, self.output, number=number, binary=self._binary)
        response = self._exchange.ask(
            f"{self.address.path}/infer",
            f"inference of {len(values)} images",
            most_bytes=_ROOM + len(values) * (self._classes or _MANY) * _NUMBER,
            body=body,
            headers=headers,
        )
        return read_answer(
            response.content,
            response.headers.get(HEADER_LENGTH),
            images=len(values),
            classes=self._classes,
            name=self.metadata.name or self.address.name,
            number=number,
            output=self.output,
        )

    def close(self) -> None:
        """Close all connections; it may be called twice."""
        self._exchange.close()
