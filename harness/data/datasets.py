"""Images of a map-style data set that the user names: of torchvision, of Hugging Face, or of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.base.errors import DataError, foreign_code
from harness.base.user_code import imported, source_digest
from harness.data.pictures import LABEL_KEYS, PICTURE_KEYS, Pictures

_EXPECTED = (
    "expected an object with __len__ and __getitem__, or a callable that returns one, whose items are (picture, label) "
    "or dicts with image and label"
)


def read_named(spec: str, *, otherwise: str = "") -> Pictures:
    """Return the pictures of the data set that `package.module:name` names, an object or a callable that returns one.

    Items are (picture, label), or dicts with an image and a label. A picture is a PIL image, an array (H, W, C) uint8,
    or a tensor (C, H, W), uint8 or in [0, 1]. The data set's `classes` name the classes, or its `features` as in
    Hugging Face's. A data set with a text `fingerprint` of its content is decoded once, any other in each run. Raises
    `InputError` for any exception of its code, and for other items; `otherwise` ends the message for a missing module.
    """

    def called(what: str, call: Any) -> Any:
        try:
            with foreign_code():
                return call()
        except Exception as error:  # The user's code may raise any exception.
            raise DataError(f"cannot give {what} ({error!r})", setting=f"data {spec}") from error

    dataset = imported(spec, setting="data", otherwise=otherwise)
    wrong = ""
    if isinstance(dataset, type) or not hasattr(dataset, "__getitem__"):
        wrong = "" if callable(dataset) else f"is a {type(dataset).__name__}"
        dataset = dataset if wrong else called("the data set", dataset)
    if not wrong and not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        wrong = f"gives a {type(dataset).__name__}"
    elif isinstance(dataset, Mapping):
        wrong = f"gives a {type(dataset).__name__} with {', '.join(map(str, dataset))}; name one of them"
    count = 0 if wrong else called("its length", lambda: len(dataset))
    if not count:
        raise DataError(f"{wrong or 'is empty'}; {_EXPECTED}", setting=f"data {spec}")
    labels: list[Any] = [None] * count

    def where(position: int) -> str:
        return f"{spec}: item {position}"

    def read(position: int) -> Any:
        item = called(f"item {position}", lambda: dataset[position])
        picture, labels[position] = _pair(item, where(position))
        return picture

    names = called("the names of its classes", lambda: _names(dataset))
    fingerprint = getattr(dataset, "fingerprint", None) or getattr(dataset, "_fingerprint", None)
    known = isinstance(fingerprint, str)
    unknown = f"{spec} is decoded again in each run; to avoid this, give it a text `fingerprint` of its content"
    return Pictures(
        read=read,
        labels=labels,
        names=names,
        name=spec.rpartition(":")[2],
        whole=spec,
        where=where,
        made_of=f"{spec} {source_digest(spec)} {fingerprint} {count} {names}" if known else None,
        notes=() if known else (unknown,),
        threads=False,
        foreign=True,
    )


def _pair(item: Any, where: str) -> tuple[Any, Any]:
    """Return the picture and the label of an item."""
    found = f"is a {type(item).__name__}"
    if isinstance(item, Mapping):
        keys = [next((k for k in names if k in item), None) for names in ((*PICTURE_KEYS, "pixel_values"), LABEL_KEYS)]
        found, item = f"has {', '.join(map(str, item))}", [item[key] for key in keys if key is not None]
    if not isinstance(item, tuple | list) or len(item) < 2:  # noqa: PLR2004  Further elements are ignored.
        raise DataError(f"{where}: {found}; {_EXPECTED}")
    picture, label = item[:2]
    return picture, label.item() if hasattr(label, "item") and getattr(label, "ndim", 0) == 0 else label


def _names(dataset: Any) -> list[str] | None:
    """Return the names of the classes that a data set declares; None without any."""
    classes = getattr(dataset, "classes", None)
    if not (isinstance(classes, list | tuple) and classes):
        features = getattr(dataset, "features", None)
        features = features if isinstance(features, Mapping) else {}
        classes = next(filter(None, (getattr(features.get(key), "names", None) for key in LABEL_KEYS)), None)
    return [str(name) for name in classes] if classes else None
