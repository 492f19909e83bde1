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
_PICTURE_KEYS = (*PICTURE_KEYS, "pixel_values")


def read_named(spec: str, *, otherwise: str = "") -> Pictures:
    """Return the pictures of the data set that `package.module:name` names, an object or a callable that returns one.

    Items are (picture, label), or dicts with an image and a label. A picture is a PIL image, an array (H, W, C) uint8,
    or a tensor (C, H, W), uint8 or in [0, 1]. The data set's `classes` name the classes, or its `features` as in
    Hugging Face's. A data set with a text `fingerprint` of its content is decoded once, any other in each run. Raises
    `InputError` for any exception of its code, and for other items; `otherwise` ends the message for a missing module.
    """
    dataset = _dataset(spec, otherwise)
    count = _called(spec, "its length", lambda: len(dataset))
    if not count:
        raise DataError(f"is empty; {_EXPECTED}", setting=f"data {spec}")
    labels: list[Any] = [None] * count

    def where(position: int) -> str:
        return f"{spec}: item {position}"

    def read(position: int) -> Any:
        item = _called(spec, f"item {position}", lambda: dataset[position])
        picture, labels[position] = _pair(item, where(position))
        return picture

    names = _called(spec, "the names of its classes", lambda: _names(dataset))
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


def _dataset(spec: str, otherwise: str) -> Any:
    named = imported(spec, setting="data", otherwise=otherwise)
    if not isinstance(named, type) and hasattr(named, "__getitem__"):
        dataset = named
    elif callable(named):
        dataset = _called(spec, "the data set", named)
    else:
        raise DataError(f"is a {type(named).__name__}; {_EXPECTED}", setting=f"data {spec}")
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")) or isinstance(dataset, Mapping):
        several = f" with {', '.join(map(str, dataset))}; name one of them" if isinstance(dataset, Mapping) else ""
        raise DataError(f"gives a {type(dataset).__name__}{several}; {_EXPECTED}", setting=f"data {spec}")
    return dataset


def _called(spec: str, what: str, call: Any) -> Any:
    try:
        with foreign_code():
            return call()
    except Exception as error:  # The user's code may raise any exception.
        raise DataError(f"cannot give {what} ({error!r})", setting=f"data {spec}") from error


def _pair(item: Any, where: str) -> tuple[Any, Any]:
    """Return the picture and the label of an item."""
    if isinstance(item, Mapping):
        keys = [next((name for name in names if name in item), None) for names in (_PICTURE_KEYS, LABEL_KEYS)]
        if None not in keys:
            return item[keys[0]], _label(item[keys[1]])
        raise DataError(f"{where}: has {', '.join(map(str, item))}; {_EXPECTED}")
    if isinstance(item, tuple | list) and len(item) >= 2:  # noqa: PLR2004  Further elements are ignored.
        return item[0], _label(item[1])
    raise DataError(f"{where}: is a {type(item).__name__}; {_EXPECTED}")


def _label(value: Any) -> Any:
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value


def _names(dataset: Any) -> list[str] | None:
    """Return the names of the classes that a data set declares; None without any."""
    classes = getattr(dataset, "classes", None)
    if isinstance(classes, list | tuple) and classes:
        return [str(name) for name in classes]
    features = getattr(dataset, "features", None)
    if isinstance(features, Mapping):
        for key in LABEL_KEYS:
            if names := getattr(features.get(key), "names", None):
                return [str(name) for name in names]
    return None
