"""The script and the page that an export brings along: how to answer its images, and how to have the answers judged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.base.markdown import plain

if TYPE_CHECKING:
    from collections.abc import Mapping

SCRIPT, PAGE = "answer.py", "README.md"

_NPZ = '''\
"""Predicts the images of this export: put your model in place of `predict`, then run this file."""

import json
from pathlib import Path

import numpy as np


def predict(pixels):
    """Return the probability of each class, (N, {classes}), for pixels (N, {shape}) float32 in [0, 1]."""
    raise NotImplementedError("put your model here")


here, names, answers = Path(__file__).parent, [], []
for path in sorted(here.glob("shard-*.npz")):
    with np.load(path) as shard:
        names.append(shard["image"])
        answers.append(predict(shard["pixels"]))
export = json.loads((here / "manifest.json").read_text())["export"]
np.savez("answers.npz", export=export, image=np.concatenate(names), probabilities=np.concatenate(answers))
'''

_PNG = '''\
"""Predicts the images of this export: put your model in place of `predict`, then run this file."""

import csv
import json
import zipfile
from pathlib import Path


def predict(picture):
    """Return the name of the class of one picture; `picture` is the content of a PNG file ({shape})."""
    raise NotImplementedError("put your model here")


here = Path(__file__).parent
export = json.loads((here / "manifest.json").read_text())["export"]
with open("answers.csv", "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["image", "label", "export"])
    for path in sorted(here.glob("shard-*.zip")):
        with zipfile.ZipFile(path) as shard:
            for name in shard.namelist():
                if name.endswith(".png"):
                    table.writerow([name.removesuffix(".png"), predict(shard.read(name)), export])
                    export = ""
'''

_PAGE = """\
# Exported images

{images:,} images, {how}. Each has {shape}.
`manifest.json` lists the classes, the perturbations with their checks, and the SHA-256 of each file.

{layout}

## How to predict

`answer.py` reads every image and writes the predictions. Put your model in place of its function `predict`, and run it:

```
python answer.py
```

The predictions may come in any order. A file of predictions is one of:

- **`.npz`** with the arrays `export` (the line of that name in `manifest.json`), `image` (the names, N), and one of
  `probabilities` (N, {classes}), `logits` (N, {classes}) or `labels` (N). Labels are numbers of classes from 0.
  An array `classes` with the names of the classes may say in which order the columns stand.
- **`.csv`** or **`.parquet`** with the columns `export` (the line, which only the first row needs), `image`, and either
  `label`, the name or number of the class, or one column of probabilities for each class, named like the class.

The classes are, from 0: {names}.

## How to gate the predictions

```
stress-harness gate --candidate predictions:{file}
```
"""
_LISTED = 100
"""Classes whose names the page lists."""
_LAYOUTS = {
    "npz": """\
A file `shard-NNNNN.npz` holds the arrays `image` (N, the name of each image, a SHA-256 of its pixels), `pixels`
(N, channels, height, width; float32 in [0, 1]), `index` (N, the number of the image in the data set) and `perturbation`
(N, a number in the manifest's list).""",
    "png": """\
A file `shard-NNNNN.zip` holds a PNG for each image, named by the SHA-256 of its pixels, and `rows.csv` with the columns
`image`, `index` (the number of the image in the data set) and `perturbation` (a number in the manifest's list). Pixels
are rounded to 8 bits.""",
}


def files_for(form: str, manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the texts of the script and the page of an export, by name."""
    (channels, height, width), classes = manifest["shape"], manifest["classes"]
    shape, names = f"{height} x {width} pixels, channels: {channels}", "those of the manifest"
    if len(classes) <= _LISTED:
        names = ", ".join(f"{number} {plain(name)}" for number, name in enumerate(classes))
    facts = {"images": manifest["images"], "shape": shape, "classes": len(classes), "names": names}
    how, file, script = "as PNG files in zip archives", "answers.csv", _PNG.format(shape=shape)
    if form == "npz":
        how, file = "as float32 in npz files", "answers.npz"
        script = _NPZ.format(shape=f"{channels}, {height}, {width}", classes=len(classes))
    return {SCRIPT: script, PAGE: _PAGE.format(how=how, layout=_LAYOUTS[form], file=file, **facts)}
