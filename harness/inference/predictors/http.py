"""A served model as a predictor: its predictions are of one version, audited, and stored one by one."""

from __future__ import annotations

import hashlib
import os
import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from harness.base.answers import AnswerStore
from harness.base.codes import Code
from harness.base.errors import ServerError
from harness.inference.backend import BackendLostError
from harness.inference.predictors.audit import Audit, differing, provided
from harness.inference.predictors.credentials import credentials_for
from harness.inference.predictors.encoded import key_of
from harness.inference.predictors.exchange import ServerLostError
from harness.inference.predictors.protocol import Identity, PredictorError
from harness.inference.predictors.served import ServedModel, address_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.base import PredictionCache
    from harness.base.answers import Answers
    from harness.data import LabelledImages
    from harness.networks.options import NetworkOptions

_PROBES = b"probes"
"""Key of the stored predictions for the probes."""
_FEW, _TILES = 4, 4


class DoubtfulServerError(PredictorError):
    """A server that cannot be trusted: its model changed, or it gives two predictions for one image."""

    code = Code.SERVER


class HttpPredictor:
    """A served model; threads may share it.

    All predictions are of the version at the time of opening. Some images of each call are sent again, and `confirm`
    raises unless their predictions are the same.
    """

    def __init__(self, served: ServedModel, *, outputs: str | None, calls: int) -> None:
        self._served = served
        self._lock, self._lost = threading.Lock(), ""
        probes = served.encoded(_probes(served.shape))
        first, self._named = served.infer(self._repeated(probes[:1]))
        self._like = first[:1]
        versions = served.metadata.versions
        version = self._named or served.address.version or (versions[0] if len(versions) == 1 else None)
        self.version = version and served.credentials.hidden_in(version)
        self._probed = np.concatenate([self._infer(self._repeated(each[None]))[:1] for each in probes])
        if wrong := int(differing(self._probed, self._infer(self._repeated(probes))[:_FEW]).sum()):
            raise PredictorError(
                f"the server gives other predictions for {wrong} of {_FEW} images in one batch than alone. It mixes up "
                "their order, or images of a batch affect each other"
            )
        self._audit = Audit(probes, self._probed)
        self.provides = replace(provided(self._probed, outputs, None), calls=calls)
        self._answers: Answers | None = None

    @property
    def identity(self) -> Identity:
        """Return the URL, the version, the metadata, and the tensors used.

        It is not lasting without a version, nor for a model that takes files, since several files may have the same
        pixels.
        """
        served = self._served
        hidden = served.credentials.hidden_in
        facts = {
            "url": served.address.url,
            "version": self.version or "unknown",
            "metadata": hashlib.sha256(repr(replace(served.metadata, versions=())).encode()).hexdigest(),
            "input": hidden(f"{served.input.name} {served.input.datatype} {served.input.layout}"),
            "output": hidden(served.output.name) if served.output else "the only one",
        }
        return Identity("http", facts, lasting=self.version is not None and not served.decodes)

    def keep_in(self, cache: PredictionCache) -> None:
        """Store predictions beside a cache from now on, and use stored ones; without a version do nothing.

        Raises `InputError` if the predictions for fixed images differ from the stored ones.
        """
        if self.version is None:
            return
        store = AnswerStore.beside(cache)
        store.prune()
        answers = store.of(self.identity.sha256)
        kept = answers.find([_PROBES]).get(_PROBES)
        if kept is None:
            answers.add({_PROBES: self._probed.tobytes()})
        elif len(kept) != self._probed.nbytes or differing(self._read(kept), self._probed).any():
            raise ServerError(
                f"the server gives other predictions than in an earlier run, but its version is still {self.version}. "
                "Predictions of both models would mix. Give the new model another version, or empty the cache with "
                "`stress-harness cache --clear`"
            )
        self._answers = answers

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """Return the predictions for pixels (N, C, H, W), float32 in [0, 1]; stored ones need no request.

        Raises `PredictorError` for an invalid answer. Raises `BackendLostError`, which ends the run, if the server is
        lost or can no longer be trusted.
        """
        values = self._served.encoded(pixels)
        keys = [key_of(each) for each in values]
        with self._ending_the_run():
            kept = {} if self._answers is None else self._answers.find(keys)
            size = self._like.nbytes
            found = {key: self._read(content)[0] for key, content in kept.items() if len(content) == size}
            if missing := {key: at for at, key in enumerate(keys) if key not in found}:
                asked = values if len(missing) == len(values) else values[list(missing.values())]
                answers = self._infer(asked, size=len(values))
                found |= dict(zip(missing, answers, strict=True))
                with self._lock:
                    due = self._audit.note(asked, answers, missing)
                    if self._answers is not None and not self._lost:
                        self._answers.add({key: answer.tobytes() for key, answer in zip(missing, answers, strict=True)})
                if due:
                    self._ask_again()
        return np.stack([found[key] for key in keys])

    def confirm(self) -> None:
        """Send some of the images since the last audit again; raises `BackendLostError` for other predictions."""
        with self._ending_the_run():
            self._ask_again()

    def close(self) -> None:
        """Close all connections; may be called twice."""
        self._served.close()

    def _infer(self, values: np.ndarray, *, size: int | None = None) -> np.ndarray:
        """Return the predictions for images in the input tensor's form, in validated requests of one size.

        The last request is padded with black images or a repeated file.
        """
        size = self._served.input.batch or size or len(values)
        found = []
        for start in range(0, len(values), size):
            part = values[start : start + size]
            more = part[:1].repeat(size - len(part), axis=0)
            whole = np.concatenate([part, more if self._served.decodes else np.zeros_like(more)])
            answers, version = self._served.infer(whole)
            if version != self._named:
                raise DoubtfulServerError(
                    f"the model changed during the run: its version was {self._named}, and now is {version}"
                )
            if version is None:
                self._expect_metadata()
            like = self._like
            if answers.shape[1:] != like.shape[1:] or answers.dtype != like.dtype:
                raise DoubtfulServerError(
                    f"the server answers an image with {answers.dtype} {list(answers.shape[1:])}, expected "
                    f"{like.dtype} {list(like.shape[1:])} as before"
                )
            found.append(answers[: len(part)])
        return np.concatenate(found)

    def _repeated(self, values: np.ndarray) -> np.ndarray:
        """Return images, repeated up to the model's batch size if that is fixed."""
        size = max(len(values), self._served.input.batch or 0)
        return values[np.arange(size) % len(values)]

    def _expect_metadata(self) -> None:
        now, before = self._served.read_metadata(), self._served.metadata
        if self._named is not None:  # The server may load and unload other versions.
            now, before = replace(now, versions=()), replace(before, versions=())
        if now != before:
            raise DoubtfulServerError(f"the model's metadata changed during the run: from {before} to {now}")

    def _ask_again(self) -> None:
        begun = self._audit.begin()
        if begun is None:
            return
        images, before, keys = begun
        again = self._infer(self._repeated(images), size=self._audit.largest)[: len(images)]
        if self._named is not None:
            self._expect_metadata()
        if wrong := int(differing(before, again).sum()):
            raise DoubtfulServerError(
                f"the server gives other predictions for {wrong} of {len(images)} images that were sent again in "
                "another order. It mixes up its predictions, or its model changed"
            )
        self._audit.unconfirmed.difference_update(keys)

    def _read(self, content: bytes) -> np.ndarray:
        return np.frombuffer(content, self._like.dtype).reshape(-1, *self._like.shape[1:])

    @contextmanager
    def _ending_the_run(self) -> Iterator[None]:
        """Turn the loss of the server into an error that ends the run, for this and every later call."""
        if self._lost:
            raise BackendLostError(self._lost)
        try:
            with self._served.credentials.hidden():
                yield
        except (ServerLostError, DoubtfulServerError) as error:
            gone = isinstance(error, ServerLostError)
            kept = ". Its predictions so far are stored; run again to continue" if gone and self._answers else ""
            with self._lock:
                self._lost = self._lost or f"{self._served.address.url}: {error}{kept}"
                if self._answers and not gone:
                    self._answers.drop(list(self._audit.unconfirmed))
            raise BackendLostError(self._lost) from error


def open_http(spec: str, options: NetworkOptions, images: LabelledImages | None) -> HttpPredictor:
    """Open the model of a URL, for images or only for its identity; raises `InputError` if that fails."""
    address = address_of(spec)
    concurrency, rate = options.shared_by(int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    options = options.but(http_concurrency=concurrency, http_rate=rate)
    credentials = credentials_for(address.host)
    with credentials.hidden():
        served = ServedModel(address, options, credentials, images=images)
        return HttpPredictor(served, outputs=options.model_outputs, calls=concurrency)


def _probes(shape: tuple[int, ...]) -> np.ndarray:
    """Return images (4, C, H, W) of tiles with random brightness, the same in every run."""
    channels, height, width = shape
    tiles = np.random.default_rng(0).random((_FEW, channels, _TILES, _TILES), dtype=np.float32)
    down, across = (np.arange(size) * _TILES // size for size in (height, width))
    return tiles[:, :, down[:, None], across]
