"""The script and the page that an export brings along.

How to answer its images, and how to have the answers judged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.base.markdown import plain

if TYPE_CHECKING:
    from collections.abc import Mapping

SAID = "export-inputs: "
"""Prefix of the lines of an exporting process that are for a person."""
_SCRIPT = '''\
"""Predicts the images of this export: put your model in place of `predict`, then run this file."""

import json
from pathlib import Path

import numpy as np


def predict(pixels):
    """Return class probabilities, (N, {classes}), for pixels (N, {shape}) float32 in [0, 1]."""
    raise NotImplementedError("put your model here")


here = Path(__file__).parent
manifest = json.loads((here / "manifest.json").read_text())
names, answers = [], []
for path in sorted(here.glob("shard-*.npz")):
    with np.load(path) as shard:
        names.append(shard["image"])
        answers.append(predict(shard["pixels"]))
np.savez(
    "answers.npz",
    export=manifest["export"],
    image=np.concatenate(names),
    probabilities=np.concatenate(answers),
)
'''
_PAGE = """\
# Exported images

{images:,} images, as float32 in npz files. Each has {size} pixels, channels: {channels}.
`manifest.json` lists the classes, the perturbations with their checks, and the SHA-256 of each
file.

A file `shard-NNNNN.npz` holds four arrays:

- `image` (N): the name of each image, a SHA-256 of its pixels
- `pixels` (N, channels, height, width): float32 in [0, 1]
- `index` (N): the number of the image in the data set
- `perturbation` (N): a number in the manifest's list

## How to predict

`answer.py` reads every image and writes the predictions. Put your model in place of its function
`predict`, and run it:

```
python answer.py
```

The predictions may come in any order. A file of predictions is one of:

- **`.npz`** with the arrays `export` (the line of that name in `manifest.json`), `image` (the
  names, N), and one of `probabilities` (N, {classes}), `logits` (N, {classes}) or `labels` (N).
  Labels are numbers of classes from 0. An array `classes` with the names of the classes may say in
  which order the columns stand.
- **`.csv`** or **`.parquet`** with the columns `export` (the line, which only the first row needs),
  `image`, and either `label`, the name or number of the class, or one column of probabilities for
  each class, named like the class.

The classes are, from 0: {names}.

## How to gate the predictions

```
stress-harness gate --candidate predictions:answers.npz
```
"""
_LISTED = 100
"""Classes whose names the page lists."""


def files_for(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the texts of the script and the page of an export, by name."""
    (channels, height, width), classes = manifest["shape"], manifest["classes"]
    names = ", ".join(f"{number} {plain(name)}" for number, name in enumerate(classes))
    names = names if len(classes) <= _LISTED else "those of the manifest"
    page = {
        "images": manifest["images"],
        "size": f"{height} x {width}",
        "channels": channels,
        "names": names,
    }
    script = _SCRIPT.format(shape=f"{channels}, {height}, {width}", classes=len(classes))
    return {"answer.py": script, "README.md": _PAGE.format(classes=len(classes), **page)}
