"""The user's own code as a predictor, in a child process that imports nothing of this package."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base import imports
from harness.base.errors import UnusableModelError
from harness.base.files import hash_of_file
from harness.base.launcher import Child, ChildError
from harness.base.user_code import is_name
from harness.data.exported import FLOAT32, UINT8, as_stored
from harness.data.images import unit_range
from harness.inference.predictors.answers import provided
from harness.inference.predictors.encoded import EncodedPictures
from harness.inference.predictors.protocol import Identity, PredictorError, Provides
from harness.inference.predictors.user_callable import (
    LARGEST,
    open_callable,
    predict_files,
    predict_pixels,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.data import LabelledImages
    from harness.networks.options import NetworkOptions

_ENCODED = "encoded"
_PIXELS = (UINT8, FLOAT32, _ENCODED)
_BYTES_OF_LABEL = 8


class CallablePredictor:
    """A callable in a child process; it gets pixels (N, H, W, C), uint8 or float32 as declared.

    If it declares encoded pictures, it gets a list of N files as bytes, see `EncodedPictures`. The
    code can only affect its own process. Once it crashes or hangs, every later call fails with the
    same error.

    Raises `InputError` for a SPEC other than `python:package.module:callable`, and `PredictorError`
    for code that cannot be imported.
    """

    def __init__(self, spec: str, options: NetworkOptions, images: LabelledImages | None) -> None:
        self._name = spec.partition(":")[2]
        if not is_name(self._name):
            raise UnusableModelError("expected python:package.module:callable")
        self._options = options
        self._images = images
        self._files = EncodedPictures(images)
        self._code: dict[str, str] = {}
        classes: tuple[str, ...] = ()
        if images is not None:
            classes = tuple(options.class_names or images.classes)

        here = str(Path.cwd())
        others = [folder for folder in sys.path if folder not in {"", here}]
        self._child = Child(path=[here, *others], alone=True)
        facts = self._answer("import", open_callable, self._name, classes)["facts"]
        self._facts, self._classes = facts, tuple(facts["classes"] or classes)
        self._pixels = UINT8 if facts["pixels"] is None else str(facts["pixels"])
        if self._pixels not in _PIXELS:
            self.close()
            raise PredictorError(
                f"declares pixels = {facts['pixels']!r}, expected {' or '.join(_PIXELS)}"
            )

    @cached_property
    def identity(self) -> Identity:
        """Return the hashes of the code and of the declared files; lasting only with such files."""
        _ = self.provides  # The first answers import the rest of the code.
        code = sorted(
            (Path(file).name, sha256)
            for file, sha256 in self._code.items()
            if not file.endswith(os.sep)
        )
        facts = {"callable": self._name, "sources_sha256": _hash_of(code), "pixels": self._pixels}
        if files := sorted(Path(file) for file in self._facts["files"] or ()):
            if gone := [file for file in files if not file.is_file()]:
                raise UnusableModelError(f"declares the file {gone[0]}, which does not exist")
            facts["files_sha256"] = _hash_of([(file.name, hash_of_file(file)) for file in files])
        # Different files may have the same pixels, and a cache only knows pixels.
        lasting = self._facts["files"] is not None and self._pixels != _ENCODED
        versions = [platform.python_version(), *self._facts["versions"]]
        return Identity("python", facts, lasting=lasting, runtime="\n".join(versions))

    @cached_property
    def provides(self) -> Provides:
        """Return the kind of the answers, by those for the first images and the declarations."""
        if self._images is None:
            return Provides("scores") if self._facts["outputs"] == "scores" else Provides()
        some = self._images.pixels[: self._options.images_per_call]
        first = self.predict(unit_range(some).numpy())
        found = provided(
            first, self._options.model_outputs, self._facts["outputs"], top=self._facts["top"]
        )
        return replace(found, classes=tuple(self._facts["classes"] or ()))

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """Return the callable's answers for pixels (N, C, H, W); see `Predictor`."""
        what = f"{len(pixels)} images"
        values = max(LARGEST, len(pixels) * len(self._classes))
        most_bytes = _BYTES_OF_LABEL * values
        if self._pixels == _ENCODED:
            files = self._files.of(pixels)
            lengths = [len(file) for file in files]
            arguments: tuple[Any, ...] = (b"".join(files), lengths)
            answer = self._answer(what, predict_files, *arguments, most_bytes=most_bytes)
        else:
            laid_out = pixels.transpose(0, 2, 3, 1)
            if self._pixels == UINT8:
                laid_out = as_stored(pixels, UINT8)
            arguments = (laid_out.tobytes(), self._pixels, laid_out.shape)
            answer = self._answer(what, predict_pixels, *arguments, most_bytes=most_bytes)
        return np.frombuffer(answer["answer"], dtype=answer["dtype"]).reshape(answer["shape"])

    def close(self) -> None:
        """End the child, and the processes that it started."""
        self._child.close()

    def _answer(
        self,
        what: str,
        function: Callable[..., dict[str, Any]],
        *arguments: Any,
        most_bytes: int = 0,
    ) -> dict[str, Any]:
        """Return the child's answer about `what`; raises `PredictorError` without one."""
        try:
            answer = self._child.call(
                function,
                *arguments,
                timeout_s=self._options.predictor_timeout,
                timeout_name="predictor_timeout",
                most_bytes=most_bytes,
            )
        except ChildError as error:
            raise PredictorError(f"on {what} {error}") from None
        self._code |= answer["code"]
        imports.include(answer["code"])
        return answer


def _hash_of(files: Sequence[tuple[str, str | None]]) -> str:
    return hashlib.sha256(repr(files).encode()).hexdigest()
