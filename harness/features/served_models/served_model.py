"""A served model as a predictor.

Its predictions are of one version, audited, and stored one by one.
"""

from __future__ import annotations

import hashlib
import os
import threading
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.cache import CachedAnswers
from harness.base.codes import Code
from harness.base.errors import ServerError
from harness.features.served_models import open_inference
from harness.features.served_models.audit import Audit, differing
from harness.features.served_models.credentials import Address, credentials_for
from harness.features.served_models.exchange import Exchange, ServerLostError
from harness.features.served_models.open_inference import BINARY, FILES, Metadata
from harness.inference.engine import BackendLostError
from harness.inference.predictors.answers import provided
from harness.inference.predictors.encoded import EncodedPictures
from harness.inference.predictors.protocol import Identity, PredictorError, Provides

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.base.cache import Store
    from harness.data import LabelledImages
    from harness.networks.options import NetworkOptions

_PROBES = b"probes"
"""Key of the stored predictions for the probes."""
_FEW, _TILES = 4, 4
_ROOM, _NUMBER = 1 << 20, 40
"""Most bytes of an answer besides its numbers, and of each number."""
_MANY = 100_000
"""Most classes of an unknown model."""


class DoubtfulServerError(PredictorError):
    """A server that cannot be trusted.

    Its model changed, or it gives two predictions for one image.
    """

    code = Code.SERVER


class ServedModel:
    """A served model; threads may share it. It is opened for images, or only for its identity.

    Its metadata are read first, and must fit the images before any is sent. All predictions are of
    the version at the time of opening. Some images of each call are sent again, and `confirm`
    raises unless their predictions are the same. A model that takes files gets those of the images,
    see `EncodedPictures`.
    """

    def __init__(self, spec: str, options: NetworkOptions, images: LabelledImages | None) -> None:
        self._address = address = Address.of(spec)
        concurrency, rate = options.shared_by(int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
        self._credentials = credentials_for(address)
        self._exchange = Exchange(
            address.root, self._credentials, options.but(http_rate=rate), local=address.local
        )
        self._lock, self._lost, self._requests = threading.Lock(), "", count(1)
        self._named: str | None = None
        self._like: Any = None
        """The version that answers name, and an answer for one image: all others must be like the
        first one.
        """
        self._answers: CachedAnswers | None = None
        self._added: set[bytes] = set()
        """The keys of all predictions that this process has stored."""
        with self._credentials.hidden():
            self._open(options, images)
            self.provides = replace(
                provided(self._probed, options.model_outputs), calls=concurrency
            )

    def _open(self, options: NetworkOptions, images: LabelledImages | None) -> None:
        """Read the metadata, and request the probes alone and together."""
        self._metadata = self._read(self._address.path, "the model's metadata")
        self._classes = None if images is None else len(images.classes)
        shape = None if images is None else tuple(images.pixels.shape[1:])
        self._input, shape = open_inference.input_of(self._metadata, shape)
        self._output = open_inference.output_of(
            self._metadata, options.http_output, classes=self._classes
        )
        self._files = EncodedPictures(images) if self._input.layout == FILES else None
        self._binary = False
        with suppress(PredictorError):  # Not every server has metadata of its own.
            self._binary = BINARY in self._read("", "the server's metadata").extensions
        # Tiles of random brightness, the same in each run.
        tiles = np.random.default_rng(0).random((_FEW, shape[0], _TILES, _TILES), dtype=np.float32)
        down, across = (np.arange(size) * _TILES // size for size in shape[1:])
        probes = self._encoded(tiles[:, :, down[:, None], across])
        self._probed = np.concatenate(
            [self._infer(self._repeated(each[None]))[:1] for each in probes]
        )
        versions = self._metadata.versions
        version = (
            self._named or self._address.version or (versions[0] if len(versions) == 1 else None)
        )
        self.version = version and self._credentials.hidden_in(version)
        # A model that is served one image at a time may answer otherwise in larger batches.
        alone = 1 if options.predictor_batch == 1 else None
        again = self._infer(self._repeated(probes), size=alone)[:_FEW]
        if wrong := int(differing(self._probed, again).sum()):
            raise PredictorError(
                f"the server gives other predictions for {wrong} of {_FEW} images in one batch "
                "than alone. It mixes up their order, or images of a batch affect each other. "
                f"{Provides().batch_advice}"
            )
        self._audit = Audit(probes, self._probed)

    @property
    def identity(self) -> Identity:
        """Return the URL, the version, the metadata, and the tensors used.

        It is not lasting without a version, nor for a model that takes files, since several files
        may have the same pixels.
        """
        hidden, taken = self._credentials.hidden_in, self._input
        facts = {
            "url": self._address.url,
            "version": self.version or "unknown",
            "metadata": hashlib.sha256(
                repr(replace(self._metadata, versions=())).encode()
            ).hexdigest(),
            "input": hidden(f"{taken.name} {taken.datatype} {taken.layout}"),
            "output": hidden(self._output.name) if self._output else "the only one",
        }
        return Identity("http", facts, lasting=self.version is not None and self._files is None)

    def keep_in(self, cache: Store) -> None:
        """Store predictions beside a cache from now on, and use stored ones.

        Without a version do nothing.

        Raises `InputError` if the predictions for fixed images differ from the stored ones.
        """
        if self.version is None:
            return
        answers = CachedAnswers(cache, self.identity.sha256)
        kept = answers.find([_PROBES]).get(_PROBES)
        if kept is None:
            answers.add({_PROBES: self._probed.tobytes()})
        elif len(kept) != self._probed.nbytes or differing(self._kept(kept), self._probed).any():
            raise ServerError(
                "the server gives other predictions than in an earlier run, but its version is "
                f"still {self.version}. Predictions of both models would mix. Give the new model "
                "another version, or empty the cache with `stress-harness cache --clear`"
            )
        self._answers = answers

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """Return the predictions for pixels (N, C, H, W), float32 in [0, 1].

        Stored ones need no request.

        Raises `PredictorError` for an invalid answer. Raises `BackendLostError`, which ends the
        run, if the server is lost or can no longer be trusted.
        """
        values = self._encoded(pixels)
        keys = [
            hashlib.sha256(each.item() if self._files else each.tobytes()).digest()
            for each in values
        ]
        with self._ending_the_run():
            kept = {} if self._answers is None else self._answers.find(keys)
            size = self._like.nbytes
            found = {
                key: self._kept(content)[0] for key, content in kept.items() if len(content) == size
            }
            if missing := {key: at for at, key in enumerate(keys) if key not in found}:
                asked = values if len(missing) == len(values) else values[list(missing.values())]
                new = dict(
                    zip(missing, answers := self._infer(asked, size=len(values)), strict=True)
                )
                found |= new
                with self._lock:
                    due = self._audit.note(asked, answers)
                    if self._answers is not None and not self._lost:
                        self._added |= new.keys()
                        self._answers.add({key: answer.tobytes() for key, answer in new.items()})
                if due:
                    self._ask_again()
        return np.stack([found[key] for key in keys])

    def confirm(self) -> None:
        """Send some of the images since the last audit again.

        Raises:
            BackendLostError: For other predictions.
        """
        with self._ending_the_run():
            self._ask_again()

    def close(self) -> None:
        """Close all connections; it may be called twice."""
        self._exchange.close()

    def _read(self, path: str, what: str) -> Metadata:
        return open_inference.read_message(
            Metadata, self._exchange.ask(path, what, most_bytes=_ROOM).content, what
        )

    def _encoded(self, pixels: np.ndarray) -> np.ndarray:
        """Return images, (N, C, H, W) float32 in [0, 1], in the input tensor's form.

        Files are (N, 1) objects.
        """
        if self._files is None:
            return self._input.encoded(pixels)
        values = np.empty(
            (len(pixels), 1), dtype=object
        )  # NumPy's byte strings would lose final zeros.
        values[:, 0] = self._files.of(pixels)
        return values

    def _infer(self, values: np.ndarray, *, size: int | None = None) -> np.ndarray:
        """Return the predictions for images in the input tensor's form.

        The requests are validated and of one size. The last request is padded with black images or
        a repeated file.
        """
        size = self._input.batch or size or len(values)
        room = _ROOM + size * (self._classes or _MANY) * _NUMBER
        found, given, output = [], self._input, self._output
        for start in range(0, len(values), size):
            part, number = values[start : start + size], str(next(self._requests))
            more = part[:1].repeat(size - len(part), axis=0)
            whole = np.concatenate([part, more if self._files else np.zeros_like(more)])
            body, headers = open_inference.request_of(
                whole, given, output, number=number, binary=self._binary
            )
            path, what = f"{self._address.path}/infer", f"inference of {size} images"
            response = self._exchange.ask(path, what, most_bytes=room, body=body, headers=headers)
            answers, version = open_inference.read_answer(
                response.content,
                response.headers.get(open_inference.HEADER_LENGTH),
                images=size,
                classes=self._classes,
                name=self._metadata.name or self._address.name,
                number=number,
                output=output,
            )
            if self._like is None:
                self._like, self._named = answers[:1], version
            if version != self._named:
                raise DoubtfulServerError(
                    f"the model changed during the run: its version was {self._named}, and now is "
                    f"{version}"
                )
            if version is None:
                self._expect_metadata()
            like = self._like
            if answers.shape[1:] != like.shape[1:] or answers.dtype != like.dtype:
                raise DoubtfulServerError(
                    f"the server answers an image with {answers.dtype} {list(answers.shape[1:])}, "
                    f"expected {like.dtype} {list(like.shape[1:])} as before"
                )
            found.append(answers[: len(part)])
        return np.concatenate(found)

    def _repeated(self, values: np.ndarray) -> np.ndarray:
        """Return images, repeated up to the model's batch size if that is fixed."""
        return values[np.arange(max(len(values), self._input.batch or 0)) % len(values)]

    def _expect_metadata(self) -> None:
        now, before = self._read(self._address.path, "the model's metadata"), self._metadata
        if self._named is not None:  # The server may load and unload other versions.
            now, before = replace(now, versions=()), replace(before, versions=())
        if now != before:
            raise DoubtfulServerError(
                f"the model's metadata changed during the run: from {before} to {now}"
            )

    def _ask_again(self) -> None:
        with self._lock:
            if (begun := self._audit.begin()) is None:
                return
            audited, self._added = self._added, set()
        images, before = begun
        try:
            again = self._infer(self._repeated(images), size=self._audit.largest)[: len(images)]
            if self._named is not None:
                self._expect_metadata()
            if wrong := int(differing(before, again).sum()):
                raise DoubtfulServerError(
                    f"the server gives other predictions for {wrong} of {len(images)} images that "
                    "were sent again in another order. It mixes up its predictions, or its model "
                    f"changed. {Provides().batch_advice}"
                )
        except BaseException:
            with self._lock:
                self._added |= audited
            raise

    def _kept(self, content: bytes) -> np.ndarray:
        return np.frombuffer(content, self._like.dtype).reshape(-1, *self._like.shape[1:])

    @contextmanager
    def _ending_the_run(self) -> Iterator[None]:
        """Turn the loss of the server into an error that ends the run, now and in later calls."""
        if self._lost:
            raise BackendLostError(self._lost)
        try:
            with self._credentials.hidden():
                yield
        except (ServerLostError, DoubtfulServerError) as error:
            gone = isinstance(error, ServerLostError)
            kept = (
                ". Its predictions so far are stored; run again to continue"
                if gone and self._answers
                else ""
            )
            with self._lock:
                self._lost = self._lost or f"{self._address.url}: {error}{kept}"
                if self._answers and not gone:
                    self._answers.drop(self._added)
            raise BackendLostError(self._lost) from error
