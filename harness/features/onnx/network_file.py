"""Networks in ONNX files, for predictions only, with weights from files beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.errors import PackageError
from harness.features.onnx.quantization import has_dynamic_ranges
from harness.features.onnx.session import compute_one_image, input_of, open_session
from harness.features.onnx.weights import with_weights_inside
from harness.networks.checkpoints import Checkpoint
from harness.networks.checkpoints.files import Refusal, read_regular, refusals_of, shown
from harness.networks.native_code import NativeLibrary, NativeNetwork, Runner, expect_moderate

if TYPE_CHECKING:
    from pathlib import Path

ONNX_RUNTIME = NativeLibrary("onnxruntime", compute_one_image, megabytes=1_500, seconds=25)
_EXPORT = (
    "Export it by torch.onnx.export(..., dynamo=True, external_data=False): its weights inside, "
    "one input of images in float32, float16 or uint8, and one output per class."
)
_USUAL_IMAGE = (3, 32, 32)
"""The (C, H, W) of the first image, where the file fixes no other sizes."""


class OnnxRunner(Runner):
    """A network that ONNX Runtime computes.

    Args:
        content: The file, with all weights inside.
        batch: The size of a batch, unless the file fixes one; None for any.

    Attributes:
        sizes: The (C, H, W) that the file fixes, each None for any.

    Raises:
        ValueError: Without one input of images and one output.
        Exception: Any of ONNX Runtime, for an invalid file.
    """

    def __init__(self, content: bytes, batch: int | None = None) -> None:
        self._content = content
        self._session = open_session(content)
        images = input_of(self._session)
        self._input = images.name
        self.kind = images.kind
        self.batch = images.batch or batch
        self.sizes = images.sizes
        self.last = images.last

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the bytes, which this process has validated: another one makes a new session."""
        return OnnxRunner, (self._content, self.batch)

    def run(self, part: np.ndarray) -> np.ndarray:
        """Return the answers for one batch."""
        outputs = self._session.run(None, {self._input: part})
        return np.asarray(outputs[0])


def load_onnx(path: Path, *, batch: int | None = None) -> Checkpoint:
    """Load a network from an ONNX file and from files of weights beside it, and from no other file.

    Args:
        path: The ONNX file.
        batch: The size of each batch of a network with dynamic ranges, unless the file fixes one;
            by default 1.

    Returns:
        The network, with a `sha256` over all files.

    Raises:
        CheckpointRefused: For an irregular file, for weights elsewhere, and unless it has one input
            of images in float32, float16 or uint8 and one output.
        InputError: When the packages of the extra `onnx` are missing.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401  A missing package is an error here, not at its use.
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise PackageError(
            f"{path}: ONNX files need {error.name}; pip install 'stress-harness[onnx]'"
        ) from None

    content = read_regular(path)
    with refusals_of(path, _EXPORT):
        try:
            description = onnx.load_model_from_string(content)
        except DecodeError:
            raise Refusal("FORMAT", "not an ONNX file") from None
        content, sha256, note = with_weights_inside(description, content, path)
        dynamic = has_dynamic_ranges(description)
        expect_moderate(ONNX_RUNTIME, content, path, _USUAL_IMAGE, advice=_EXPORT)

        only_batch = None
        if dynamic:  # Each other batch would give an image other ranges, and so other logits.
            only_batch = batch or 1
        runner = _opened(content, only_batch)

    network = NativeNetwork(runner, bytes.fromhex(sha256), dynamic_ranges=dynamic).eval()
    return Checkpoint(path, sha256, network, "onnx", None, note)


def _opened(content: bytes, batch: int | None) -> OnnxRunner:
    """Return the runner of a file; raises `Refusal` for one that ONNX Runtime cannot run."""
    try:
        return OnnxRunner(content, batch)
    except ValueError as error:
        raise Refusal("ARCHITECTURE", shown(error)) from None
    except Exception as error:  # ONNX Runtime's exceptions have no common base class.
        raise Refusal("FORMAT", f"ONNX Runtime cannot run it ({shown(error)})") from None
