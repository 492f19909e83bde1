"""Broken models and the gate's verdict on each: `python -m docs.broken_models`.

It writes gallery.md and its pictures. The models are the shipped one with damage, and the shipped
one without augmentation. Each has a run of the gate, about a minute of one core. A complete run is
not repeated, so the command is resumable. `--page` writes the page alone, from gallery.json.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from benchmarks.detection import weights
from harness import gate
from harness.base.files import write_atomically
from harness.measures import accuracy
from harness.networks.checkpoints import load_checkpoint, save_checkpoint
from harness.perturb import Pose
from harness.report import plots
from harness.report.cause_rules import (
    CALIBRATION,
    CLASSES,
    DRIFT,
    GEOMETRY,
    MISSING,
    PIPELINE,
    WEIGHTS,
)
from harness.report.pictures import SIZE, strip
from harness.run.opening import open_session
from harness.run.overview import Overview, Rate
from harness.run.request import RunRequest
from harness.run.shown import CaptionLine
from harness.run.side_by_side import measure_overview
from harness.run.status import report_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matplotlib.figure import Figure

    from harness.networks.checkpoints import Checkpoint

    Damage = Callable[[Checkpoint], Checkpoint]
    Turned = Callable[[], Mapping[str, Mapping[float, Rate]]]

DOCS = Path(__file__).parent
REPOSITORY = DOCS.parent
MODELS = REPOSITORY / "models"
PAGE, RECORD, PICTURES = DOCS / "gallery.md", DOCS / "gallery.json", DOCS / "gallery"
LARGEST = 15_000
"""Bytes of a picture."""
DEGREES = (-30.0, -20.0, -15.0, -10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0, 30.0)
FIRST = "consensus"
"""The family of a check whose picture is shown, if it fails."""
LOST = "Bag"
"""The class that one model never predicts."""


def damaged(
    mutate: Callable[[Checkpoint, Any, torch.Generator], Checkpoint], amount: object
) -> Damage:
    """Return a damage of the detection benchmark, by this amount."""
    return lambda healthy: mutate(healthy, amount, torch.Generator().manual_seed(0))


@torch.no_grad()
def without_class(healthy: Checkpoint) -> Checkpoint:
    """Make the model never predict one class."""
    assert healthy.record is not None, "the shipped checkpoint has a record"
    last = [layer for layer in healthy.model.modules() if isinstance(layer, nn.Linear)][-1]
    last.bias[healthy.record.classes.index(LOST)] -= 100
    return healthy


@dataclass(frozen=True)
class Broken:
    """A broken model.

    Its title, what was done to it, the right cause, a figure that shows it, and how it is made.

    It is made of the shipped model. Without a `damage` it is the shipped baseline, and with `int8`
    an ONNX file. The gate runs in this `profile`.
    """

    title: str
    done: str
    cause: str
    draw: Callable[[Overview, Turned], Figure]
    damage: Damage | None = None
    int8: bool = False
    profile: str = "default"


def confusions(overview: Overview, _: Turned) -> Figure:
    """Draw how the confusions of the candidate differ from those of the incumbent."""
    candidate, incumbent = (
        next(model for model in overview.models if role in model.roles)
        for role in ("candidate", "incumbent")
    )
    return plots.confusion_maps(plots.confusions(overview, candidate, incumbent))


def by_class(overview: Overview, _: Turned) -> Figure:
    """Draw the accuracy of each class."""
    return plots.class_accuracies(overview)


def by_rotation(_: Overview, turned: Turned) -> Figure:
    """Draw accuracy against the angle."""
    return plots.rotation_curves(turned())


def reliability(overview: Overview, _: Turned) -> Figure:
    """Draw accuracy against confidence."""
    return plots.reliability_diagrams(overview)


MEAN, STD = 0.2860, 0.3530
BROKEN = {
    "mixed-classes": Broken(
        "Two classes mixed",
        "The last layer takes 30% of the weights of Shirt from T-shirt/top, and the reverse.",
        CLASSES,
        confusions,
        damaged(weights.swapped_logits, 0.3),
    ),
    "missing-class": Broken(
        "One class never predicted",
        f"The bias of {LOST} in the last layer is lowered by 100.",
        MISSING,
        confusions,
        without_class,
        profile="quick",
    ),
    "no-augmentation": Broken(
        "Trained without augmentation",
        "The shipped baseline: the recipe of the shipped model without rotations, translations "
        "and flips.",
        GEOMETRY,
        by_rotation,
        profile="quick",
    ),
    "wrong-normalization": Broken(
        "Wrong normalization",
        "The pixels are normalized with MNIST's mean and standard deviation, not with those of "
        "training.",
        PIPELINE,
        by_class,
        damaged(weights.wrong_normalization, (0.1307, 0.3081)),
        profile="quick",
    ),
    "inverted-pixels": Broken(
        "Inverted pixels",
        "The model gets one minus each pixel, as if black and white were exchanged.",
        PIPELINE,
        confusions,
        damaged(weights.wrong_normalization, (1 - MEAN, -STD)),
        profile="quick",
    ),
    "weight-noise": Broken(
        "Noise on the weights",
        "Each weight has Gaussian noise of 20% of its tensor's standard deviation.",
        WEIGHTS,
        by_class,
        damaged(weights.weight_noise, 0.2),
        profile="quick",
    ),
    "stale-statistics": Broken(
        "Stale batch norms",
        "The statistics of the batch norms were reset 20 batches before the file was saved.",
        DRIFT,
        by_rotation,
        damaged(weights.stale_statistics, 20),
        profile="quick",
    ),
    "pruned-channels": Broken(
        "Pruned too far",
        "A quarter of the channels of each convolution is zero.",
        DRIFT,
        confusions,
        damaged(weights.pruned_channels, 0.25),
        profile="quick",
    ),
    "overconfident": Broken(
        "Overconfident",
        "All logits are multiplied by 3: no prediction changes, but every confidence does.",
        CALIBRATION,
        reliability,
        damaged(weights.logit_scaling, 3.0),
        profile="quick",
    ),
    "dimmed-int8": Broken(
        "Quantized on the wrong images",
        "An int8 ONNX file, with activation ranges from images at a third of their light.",
        DRIFT,
        confusions,
        int8=True,
        profile="quick",
    ),
}
"""The broken models, by file name."""


def main() -> int:
    """Make what is missing, and write the page; returns 0."""
    parser = argparse.ArgumentParser(
        prog="python -m docs.broken_models", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=REPOSITORY / "runs/gallery",
        metavar="DIR",
        help="models and reports",
    )
    parser.add_argument("--page", action="store_true", help="write the page alone")
    options = parser.parse_args()
    record = json.loads(RECORD.read_bytes()) if RECORD.exists() else {}
    for name, broken in BROKEN.items() if not options.page else ():
        path = made(name, broken, options.work)
        record[name] = entry(run_of(path, broken, options.work / name), options.work / name)
        for at, content in enumerate(pictures(path, broken, options.work / name), start=1):
            write_atomically(PICTURES / f"{name}-{at}.webp", content)
        write_atomically(RECORD, (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())
    write_atomically(PAGE, page_of(record).encode())
    return 0


def made(name: str, broken: Broken, folder: Path) -> Path:
    """Return the file of a broken model, made in the folder if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    shipped = MODELS / "augmented.safetensors"
    if broken.int8:
        from benchmarks.equivalence.exports import dimmed, int8
        from benchmarks.equivalence.networks import of_panel

        path = folder / name
        if not Path(f"{path}.onnx").exists():
            int8(dimmed)(of_panel(shipped), path)
        return Path(f"{path}.onnx")
    if broken.damage is None:
        return MODELS / "baseline.safetensors"
    path = folder / f"{name}.safetensors"
    if not path.exists():
        worse = broken.damage(load_checkpoint(shipped))
        assert worse.record is not None, "the shipped checkpoint has a record"
        save_checkpoint(path, worse.model, replace(worse.record, acceptance=None))
    return path


def run_of(path: Path, broken: Broken, folder: Path) -> dict[str, Any]:
    """Return the report of a model's run of the gate in this folder.

    The run is repeated only if it is not complete.
    """
    if (found := report_in(folder)).get("verdict") == "fail":
        return found
    result = gate(
        path,
        tests=REPOSITORY / "stress_tests",
        profile=broken.profile,
        reports=folder,
        history="none",
    )
    assert result.report is not None, result.printed
    return dict(result.report)


def entry(report: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return what the page says of a run.

    The lines of stress.md below its title, and the failing checks.
    """
    _, lines, *_ = (folder / "stress.md").read_text("utf-8").split("\n\n")
    statuses = [each["status"] for each in report["checks"]]
    failing = f"{statuses.count('fail')} of {statuses.count('fail') + statuses.count('pass')}"
    return {"headline": report["headline"], "lines": lines.splitlines()[:-1], "failing": failing}


def pictures(path: Path, broken: Broken, folder: Path) -> list[bytes]:
    """Return a picture of a failure in the report, and the model's figure, as WebP files."""
    return [
        as_webp(drawn)
        for drawn in (failure(report_in(folder), folder), broken.draw(*measured(path)))
    ]


def failure(report: Mapping[str, Any], folder: Path) -> Figure:
    """Draw the first image of a failing check as the report shows it.

    It is one of the consensus set if possible.
    """
    failing = [check for check in report["checks"] if check["status"] == "fail"]
    shown = (
        report["pictures"].get(check["id"])
        for check in sorted(failing, key=lambda each: each["family"] != FIRST)
    )
    case = next(each["cases"][0] for each in shown if each and each["cases"])
    tiles = []
    for column in case["columns"]:
        pixels = np.full((SIZE, SIZE, 3), 255, np.uint8)
        if column["image"]:
            pixels = np.asarray(
                Image.open(folder / column["image"], formats=["WEBP"]).convert("RGB")
            )
        lines = (CaptionLine(**line) for line in column["lines"])
        tiles.append(
            (pixels, column["title"], "\n".join(f"{line.text} {line.percent}" for line in lines))
        )
    return strip(tiles)


def measured(path: Path) -> tuple[Overview, Turned]:
    """Measure a model beside the incumbent on clean images, and, when asked, on rotated ones."""
    roles = {"candidate": path, "incumbent": MODELS / "augmented.safetensors", "baseline": "none"}
    session = open_session(RunRequest(roles=roles, checks=REPOSITORY / "stress_tests/checks.toml"))
    models = {role: session.roles[role] for role in ("candidate", "incumbent")}

    def turned() -> Mapping[str, Mapping[float, Rate]]:
        rates: dict[str, dict[float, Rate]] = {role: {} for role in models}
        for role, model in models.items():
            for degrees in DEGREES:
                found = accuracy(model.predict(session.images, Pose(degrees)))
                rates[role][degrees] = Rate(found.value, *found.interval, found.n)
        return rates

    return measure_overview(models, session.images, corners=0), turned


def as_webp(figure: Figure) -> bytes:
    """Return a figure as the content of a WebP file that is no larger than allowed."""
    drawn, content = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=120)
    for quality in (80, 60, 40, 20):
        content = io.BytesIO()
        Image.open(drawn).convert("RGB").save(content, "WEBP", quality=quality, method=6)
        if content.tell() <= LARGEST:
            break
    return content.getvalue()


def page_of(record: Mapping[str, Any]) -> str:
    """Return the page of the recorded runs."""
    rows = []
    for name, broken in BROKEN.items():
        link, found = f"[{broken.title}](#{anchor(broken.title)})", record[name]
        rows.append(f"| {link} | {found['failing']} | {named(found)} | {broken.cause} |")
    wrong = [broken.title for name, broken in BROKEN.items() if named(record[name]) != broken.cause]
    sections = [line for name in BROKEN for line in _section(name, record[name])]
    return "\n".join([*_OPENING, *rows, "", *_missed(wrong), *sections])


def named(found: Mapping[str, Any]) -> str:
    """Return the cause that a headline names; `none` without one."""
    causes = [
        line.removeprefix(_CAUSE).partition(".")[0]
        for line in found["lines"]
        if line.startswith(_CAUSE)
    ]
    return causes[0] if causes else "none"


def anchor(title: str) -> str:
    """Return the anchor of a heading."""
    return title.lower().replace(" ", "-")


def _missed(wrong: Sequence[str]) -> list[str]:
    if not wrong:
        return ["Every headline names the right cause.", ""]
    said = (
        f"The headline names another cause, or none, for {len(wrong)} of {len(BROKEN)}: "
        f"{', '.join(wrong)}."
    )
    return [said, "", *_ALIKE, ""]


def _section(name: str, found: Mapping[str, Any]) -> list[str]:
    broken = BROKEN[name]
    printed = (
        found["headline"].partition(";")[0],
        *(each for each in found["lines"] if each.startswith(_SHOWN)),
    )
    return [
        f"## {broken.title}",
        "",
        broken.done,
        "",
        "```text",
        *(textwrap.fill(line, 110, subsequent_indent="    ") for line in printed),
        "```",
        "",
        f"![An image that this model gets wrong, and what it predicts](gallery/{name}-1.webp)",
        f"![{_DRAWN[broken.draw]}](gallery/{name}-2.webp)",
        "",
    ]


_CAUSE = "Likely cause: "
_SHOWN = ("Clean accuracy", _CAUSE)
"""Beginnings of the lines that the page shows."""
_ALIKE = (
    "The checks of a pipeline that destroys the model look like those of destroyed weights: "
    "compare *Wrong",
    "normalization* with *Pruned too far*. The headline says so and names [`stress-harness "
    "skew`](skew.md). Given",
    "1,000 predictions of the model with the wrong normalization, that command names MNIST's mean "
    "and standard",
    "deviation.",
)
_DRAWN: dict[Callable[[Overview, Turned], Figure], str] = {
    confusions: "Confusions of this model minus those of the incumbent",
    by_rotation: "Accuracy against the angle of rotation",
    by_class: "Accuracy of each class",
    reliability: "Accuracy against confidence",
}
_OPENING = """\
# Gallery of failures

Broken models, and the verdict, clean accuracy and cause that the gate printed for each. The first
picture is from its report: an image that it gets wrong. The second shows the damage as a whole. The
models are the shipped one with damage, and the shipped baseline.

<!-- not run: a run of the gate for each model, about 10 minutes -->
```sh
# Make the models, run the gate on each, write this page; about 10 minutes of one core.
python -m docs.broken_models
```

| model | failing checks | cause in the headline | right cause |
| --- | --- | --- | --- |""".splitlines()


if __name__ == "__main__":
    sys.exit(main())
