"""Speed of the harness: ratios to peers, measured in one run on the same model, images and threads.

Run `python -m benchmarks.speed` on an idle machine; see the README beside this file.
"""

from __future__ import annotations

import io
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.runner import ROOT, fashion_mnist, few, keep, processor, run, table, write_between
from benchmarks.speed.peers import (
    HEIGHT,
    WIDTH,
    PicturesOneByOne,
    captums_maps,
    figure_of,
    foolbox_survivors,
    grad_cams_maps,
    notebook_epoch,
    plain_loop,
    some_cases,
)  # fmt: skip
from benchmarks.speed.stopwatch import Result, best_float32_rate, cores, peak_memory_mb, timed
from harness.data import LabelledImages, stratified_sample
from harness.inference import Classifier
from harness.inference.attention import attend
from harness.inference.search import first_failures
from harness.networks.architectures import build
from harness.networks.checkpoints import load_checkpoint
from harness.networks.training import SHIPPED, train
from harness.perturb.grids import classic_poses, most_dangerous_first
from harness.report.page import render
from harness.report.pictures import case_of
from harness.run.examples import Example

HERE = Path(__file__).parent
BATCH = few(125, 50)
FLOPS_PER_IMAGE = 2 * (
    784 * 9 * 32 + 196 * 9 * 32 * 64 + 49 * 9 * 64 * 128 + 1152 * 256 + 256 * 128 + 128 * 10
)


def sweep(model: nn.Module, images: LabelledImages) -> Iterator[Result]:
    """Measure the 775 poses.

    Against Foolbox, without and with early exit, and against the best this machine can do.
    """
    grid = classic_poses()[:: few(1, 31)]
    evaluations = len(grid) * len(images)
    with cores(1):
        peer_survivors = foolbox_survivors(model, images)
        peer = timed(lambda: foolbox_survivors(model, images))

        def all_poses(*, screen: bool = True) -> None:
            classifier = Classifier(model, workers=1, screen=screen)
            for pose in grid:
                classifier.predict(images, pose)

        def search() -> np.ndarray:
            classifier = Classifier(model, workers=1)
            return first_failures(classifier, images, most_dangerous_first(grid)).right_everywhere

        ours, early = timed(all_poses), timed(search)
        float32 = timed(lambda: all_poses(screen=False))
        best, agreement = best_float32_rate(), float((search() == peer_survivors).mean())
    rate, peer_rate = evaluations / ours.cpu_seconds, evaluations / peer.cpu_seconds
    what, note = (
        "775 poses, images × poses per CPU second",
        f"{len(images)} images; both say the same of {agreement:.1%} of them",
    )
    yield Result(what, f"{rate:,.0f}", f"Foolbox {peer_rate:,.0f}", rate / peer_rate, 5.0, note)
    what, seconds = "775 poses, CPU seconds to the answer, early exit", early.cpu_seconds
    yield Result(
        what,
        f"{seconds:.1f} s",
        f"Foolbox {peer.cpu_seconds:.1f} s",
        peer.cpu_seconds / seconds,
        8.0,
    )
    for name, timing in (("float32 alone", float32), ("bfloat16 first", ours)):
        share = evaluations * FLOPS_PER_IMAGE / timing.cpu_seconds / best
        what, wanted = (
            f"775 poses, share of the best float32 rate, {name}",
            0.6 if timing is float32 else None,
        )
        yield Result(
            what, f"{share * best / 1e9:.0f} GFLOP/s", f"{best / 1e9:.0f} GFLOP/s", share, wanted
        )


def evaluation(model: nn.Module, images: LabelledImages) -> Iterator[Result]:
    """Measure one pass over clean images, compared with plain loops."""
    some = stratified_sample(images, few(1_000, 50))
    with cores(1):
        ours = timed(lambda: Classifier(model, workers=1).predict(images), repeats=3)
        for batch, data, wanted in ((1_000, images, 4.0), (1, some, 3.0)):
            peer = timed(
                lambda data=data, batch=batch: plain_loop(model, data, batch=batch), repeats=2
            )
            rate, peer_rate = len(images) / ours.cpu_seconds, len(data) / peer.cpu_seconds
            what = f"images per CPU second, loop with batches of {batch:,}"
            yield Result(what, f"{rate:,.0f}", f"{peer_rate:,.0f}", rate / peer_rate, wanted)


def training(images: LabelledImages) -> Iterator[Result]:
    """Measure one augmented epoch, against the notebook's loop, on the same images and one core."""
    count = len(images)
    config = replace(SHIPPED["augmented"], epochs=1, validation_size=min(100, count // 4))
    with cores(1):
        one_by_one, made = PicturesOneByOne(images), ROOT / "runs/speed.safetensors"
        peer = timed(lambda: notebook_epoch(build("fashion-cnn", {}), one_by_one)).cpu_seconds
        ours = timed(lambda: train(config, images, made)).cpu_seconds
    made.unlink()
    what, note = (
        "training, CPU seconds per augmented epoch of 54,000",
        f"measured on {count:,} images",
    )
    mine, theirs = f"{ours * 54_000 / count:.0f} s", f"notebook {peer * 54_000 / count:.0f} s"
    yield Result(what, mine, theirs, peer / ours, 3.0, note)


def growth(model: nn.Module, images: LabelledImages) -> Iterator[Result]:
    """Measure how time grows with images, poses and cores; a ratio of 1 is proportional growth."""
    grid = classic_poses()

    def seconds(count: int, poses: int, workers: int) -> float:
        data, some = stratified_sample(images, count), grid[:: len(grid) // poses][:poses]

        def run() -> None:
            classifier = Classifier(model, workers=workers)
            for pose in some:
                classifier.predict(data, pose)

        with cores(workers):
            return timed(run).seconds

    fewer, more, poses = few(1_000, 5), few(10_000, 20), few(775, 76)
    for what, after, before, ratio, wanted in (
        (
            "time per image, 1,000 → 10,000 images, 75 poses",
            (more, 75, 1),
            (fewer, 75, 1),
            10,
            None,
        ),
        (
            "time per pose, 75 → 775 poses, 1,000 images",
            (fewer, poses, 1),
            (fewer, 75, 1),
            poses / 75,
            None,
        ),
        ("speed-up, 1 → 2 cores, 10,000 images, 75 poses", (more, 75, 2), (more, 75, 1), 1, 1.8),
    ):
        first, second = seconds(*before), seconds(*after)
        yield Result(what, f"{second:.1f} s", f"{first:.1f} s", ratio * first / second, wanted)


def memory(model: nn.Module, images: LabelledImages) -> Iterator[Result]:
    """Measure the most memory that the whole search of 10,000 images x 775 poses holds."""
    before = peak_memory_mb()
    first_failures(Classifier(model), images, most_dangerous_first(classic_poses()))
    peak = peak_memory_mb()
    note = f"{before:.0f} MB before the search"
    yield Result(
        "peak memory, 10,000 images × 775 poses",
        f"{peak:.0f} MB",
        "1,500 MB",
        1_500 / peak,
        1.0,
        note,
    )


def attention(model: nn.Module, images: LabelledImages) -> Iterator[Result]:
    """Measure predictions with Grad-CAM of one layer, against two well-known libraries.

    Both must be installed.
    """
    layer = "bn3"
    with cores(1):
        ours = timed(lambda: attend(Classifier(model, workers=1), images, layer=layer), repeats=3)
        maps = attend(Classifier(model, workers=1), images, layer=layer).maps
        rate = len(images) / ours.cpu_seconds
        for name, peer in (("captum", captums_maps), ("pytorch-grad-cam", grad_cams_maps)):
            try:
                found = peer(model, images.take(torch.arange(BATCH)), layer=layer, batch=BATCH)
            except ImportError as error:
                print(f"Grad-CAM against {name}: left out, since {error}")
                continue
            timing = timed(
                lambda peer=peer: peer(model, images, layer=layer, batch=BATCH), repeats=3
            )
            peer_rate = len(images) / timing.cpu_seconds
            note = f"{len(images):,} images, batches of {BATCH}"
            if found.shape[1:] == maps.shape[1:]:
                note += f"; maps differ by at most {np.abs(found - maps[:BATCH]).max():.0e}"
            yield Result(
                "predictions and Grad-CAM, images per CPU second",
                f"{rate:,.0f}",
                f"{name} {peer_rate:,.0f}",
                rate / peer_rate,
                3.0,
                note,
            )


def pictures(images: LabelledImages, *, count: int) -> Iterator[Result]:
    """Measure making pictures, each of another image, to what a page holds of them."""
    cases = some_cases(images, count)

    def saved(case: Example) -> None:
        figure_of(case, WIDTH, HEIGHT).savefig(io.BytesIO(), format="png")

    with cores(1):
        fast = (
            timed(
                lambda: [render("picture", case=case_of(case)) for case in cases], repeats=3
            ).cpu_seconds
            / count
        )
        slow = timed(lambda: [saved(case) for case in cases], repeats=2).cpu_seconds / count
    what, note = "pictures, CPU milliseconds each, to what a page holds", f"{count} pictures"
    yield Result(
        what, f"{1e3 * fast:.1f} ms", f"Matplotlib {1e3 * slow:.0f} ms", slow / fast, None, note
    )


def main() -> None:
    """Measure everything and write results and table."""
    model, images = (
        load_checkpoint(ROOT / "models/augmented.safetensors").model,
        fashion_mnist("test"),
    )
    parts = (
        memory(model, images.take(torch.arange(few(len(images), 10)))),
        sweep(model, stratified_sample(images, few(500, 4))),
        evaluation(model, images),
        attention(model, stratified_sample(images, few(2_000, 100))),
        training(stratified_sample(fashion_mnist("train"), few(6_000, 100))),
        pictures(images, count=few(50, 3)),
        growth(model, images),
    )
    results = []
    for result in (result for part in parts for result in part):
        said = f"{result.ours} against {result.peer}: {result.ratio:.2f} {result.reached}"
        print(f"{result.what}: {said}", flush=True)
        results.append(result)
    about = {"python": platform.python_version(), "torch": torch.__version__}
    machine = {"processor": processor(), "cores": torch.get_num_threads(), **about}
    keep(HERE / "results.json", {"machine": machine, "results": results})
    write_page(machine, results)


def write_page(machine: Mapping[str, object], results: Sequence[Result]) -> None:
    """Write the table into the page."""
    rows = []
    for result in results:
        what = f"{result.what} ({result.note})" if result.note else result.what
        wanted = "" if result.wanted is None else f"{result.wanted:g}"
        rows.append((what, result.ours, result.peer, f"{result.ratio:.2f}", wanted, result.reached))
    said = (
        f"Measured on {machine['processor']}, torch {machine['torch']}, Python {machine['python']}."
    )
    head = ("what", "harness", "peer", "ratio", "wanted", "reached")
    write_between(HERE / "README.md", "results", f"{said}\n\n{table(head, rows)}")


COMMANDS = {"": (main,)}

if __name__ == "__main__":
    sys.exit(run(COMMANDS))
