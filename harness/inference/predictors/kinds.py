"""The kinds of predictors, by the scheme of a SPEC such as `python:package.module:callable`."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from harness.base.errors import InputError, UnusableModelError
from harness.base.registry import Registry

if TYPE_CHECKING:
    from harness.data import LabelledImages
    from harness.inference.predictors.protocol import Predictor
    from harness.networks.options import NetworkOptions


@dataclass(frozen=True)
class PredictorKind:
    """One kind of predictor, which a SPEC names.

    Attributes:
        form: The form of a SPEC, as help shows it.
        help: A line of help.
        provides: A text on its answers.
        extra: The extra of this package that it needs, "" for none.
        open: A function of a SPEC, the options and the images of the run that returns the
            predictor, which without images only gives its identity. Or the `module:function` of
            this folder, which is imported at its first use. None for files of networks.
        before: The scheme of the kind that it stands before in lists, "" for the end.
    """

    form: str
    help: str
    provides: str
    extra: str = ""
    open: Any = None
    before: str = ""


OWN_KINDS: dict[str, PredictorKind] = {
    ".safetensors": PredictorKind(
        "runs/new.safetensors, .pth, .pt",
        "A PyTorch checkpoint, run in this process.",
        "logits or probabilities, attention",
    ),
    "python": PredictorKind(
        "python:package.module:callable",
        "Your own code, in a child process without PyTorch: "
        "pixels (N, H, W, C) in, scores or labels out.",
        "logits, probabilities, top-k or labels",
        open="callables:CallablePredictor",
    ),
    "predictions": PredictorKind(
        "predictions:answers.npz, .csv, .parquet",
        "Recorded predictions for exported images, or only for clean images. "
        "An npz file has one array of labels, probabilities and logits, "
        "and perhaps image, export and classes.",
        "logits, probabilities or labels, for the images of `export-inputs`",
        open="recorded:open_recorded",
    ),
    "scores": PredictorKind(
        "scores:scores.npz, .csv, .parquet",
        "A recorded score in [0, 1] for each exported image, such as a Dice coefficient; "
        "more is better. An npz file has the array scores, and perhaps image and export.",
        "one score per image, for the images of `export-inputs`",
        open="recorded:open_recorded",
    ),
}
"""The kinds of the harness itself, by the scheme of a SPEC, or by the suffix of a file."""
KINDS = Registry("kind of predictor", PredictorKind, OWN_KINDS, hook="stress_predictors")
"""The kinds by the scheme of a SPEC, or by the suffix of a file."""


def model_spec(text: str | Path) -> Path | str:
    """Return a SPEC as text if it begins with a scheme of `KINDS`, else as a path.

    A SPEC of the Hugging Face Hub becomes the path of its file. A drive letter, or any other name
    before a colon, is part of a path. `./python:x.pth` names a file.
    """
    if isinstance(text, Path):
        return text
    if text.startswith("hf:"):
        from harness.inference.predictors.hub import hub_file

        return hub_file(text)
    scheme, colon, _ = text.partition(":")
    if colon and scheme in KINDS:
        return text
    return Path(text)


def open_predictor(spec: str, options: NetworkOptions, images: LabelledImages | None) -> Predictor:
    """Return the predictor that a SPEC names; raises `InputError` if it cannot be opened."""
    kind = KINDS[spec.partition(":")[0]]
    opened = kind.open
    try:
        if isinstance(opened, str):
            module, name = opened.split(":")
            opened = getattr(import_module(f"{__package__}.{module}"), name)
        return cast("Predictor", opened(spec, options, images))
    except InputError:
        raise
    except ImportError as error:
        needs = f"; pip install 'stress-harness[{kind.extra}]'" if kind.extra else ""
        raise UnusableModelError(f"needs {error.name or error}{needs}") from error
    except Exception as error:  # A predictor may raise any exception.
        raise UnusableModelError(f"cannot be opened ({error!r})") from error
