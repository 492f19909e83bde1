"""All measurements of the benchmark, one after another in this process, and the table that they make."""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn

from benchmarks.pages import write_between
from benchmarks.smoke import fashion_mnist, few
from benchmarks.speed.attention import attention
from benchmarks.speed.peers import PicturesOneByOne, foolbox_survivors, notebook_epoch, plain_loop
from benchmarks.speed.pictures import pictures
from benchmarks.speed.result import Result
from benchmarks.speed.stopwatch import best_float32_rate, cores, peak_memory_mb, timed
from harness.base.files import write_atomically
from harness.data import LabelledImages, stratified_sample
from harness.inference import Classifier
from harness.inference.search import first_failures
from harness.networks.architectures import build
from harness.networks.checkpoints import load_checkpoint
from harness.perturb.grids import classic_poses, most_dangerous_first

HERE = Path(__file__).parent
MODEL = HERE.parents[1] / "models/augmented.safetensors"
BEGIN, END = "<!-- results -->", "<!-- end of results -->"
FLOPS_PER_IMAGE = 2 * (784 * 9 * 32 + 196 * 9 * 32 * 64 + 49 * 9 * 64 * 128 + 1152 * 256 + 256 * 128 + 128 * 10)


def sweep(model: nn.Module, images: LabelledImages) -> Iterator[Result]:
    """Measure the 775 poses: against Foolbox, without and with early exit, and against the best this machine can do."""
    grid = classic_poses()
    evaluations = len(grid) * len(images)
    with cores(1):
        peer_survivors = foolbox_survivors(model, images)
        peer = timed(lambda: foolbox_survivors(model, images))

        def all_poses() -> None:
            classifier = Classifier(model, workers=1)
            for pose in grid:
                classifier.predict(images, pose)

        def with_early_exit() -> None:
            first_failures(Classifier(model, workers=1), images, most_dangerous_first(grid))

        ours, early = timed(all_poses), timed(with_early_exit)
        plain = Classifier(model, workers=1, screen=False)
        float32 = timed(lambda: [plain.predict(images, pose) for pose in grid])
        best = best_float32_rate()
        survivors = first_failures(Classifier(model, workers=1), images, most_dangerous_first(grid)).right_everywhere
    agreement = float((survivors == peer_survivors).mean())
    rate, peer_rate = evaluations / ours.cpu_seconds, evaluations / peer.cpu_seconds
    note = f"{len(images)} images; both say the same of {agreement:.1%} of them"
    yield Result(
        "775 poses, images × poses per CPU second",
        f"{rate:,.0f}",
        f"Foolbox {peer_rate:,.0f}",
        rate / peer_rate,
        5.0,
        note,
    )
    yield Result(
        "775 poses, CPU seconds to the answer, early exit",
        f"{early.cpu_seconds:.1f} s",
        f"Foolbox {peer.cpu_seconds:.1f} s",
        peer.cpu_seconds / early.cpu_seconds,
        8.0,
    )
    for name, timing in (("float32 alone", float32), ("bfloat16 first", ours)):
        share = evaluations * FLOPS_PER_IMAGE / timing.cpu_seconds / best
        achieved = f"{share * best / 1e9:.0f} GFLOP/s"
        wanted = 0.6 if name == "float32 alone" else None
        yield Result(
            f"775 poses, share of the best float32 rate, {name}", achieved, f"{best / 1e9:.0f} GFLOP/s", share, wanted
        )


def evaluation(model: nn.Module, images: LabelledImages) -> Iterator[Result]:
    """Measure one pass over clean images, compared with plain loops."""
    some = stratified_sample(images, few(1_000, 100))
    with cores(1):
        ours = timed(lambda: Classifier(model, workers=1).predict(images), repeats=3)
        for batch, data, wanted in ((1_000, images, 4.0), (1, some, 3.0)):
            peer = timed(lambda data=data, batch=batch: plain_loop(model, data, batch=batch), repeats=2)
            rate, peer_rate = len(images) / ours.cpu_seconds, len(data) / peer.cpu_seconds
            yield Result(
                f"images per CPU second, loop with batches of {batch:,}",
                f"{rate:,.0f}",
                f"{peer_rate:,.0f}",
                rate / peer_rate,
                wanted,
            )


def training(images: LabelledImages) -> Iterator[Result]:
    """Measure one augmented epoch, against the notebook's loop, on the same images and one core."""
    from harness.networks.training import SHIPPED, train

    count = len(images)
    config = replace(SHIPPED["augmented"], epochs=1, validation_size=min(100, count // 4))
    with cores(1):
        pictures = PicturesOneByOne(images)
        peer = timed(lambda: notebook_epoch(build("fashion-cnn", {}), pictures))
        folder = HERE.parents[1] / "runs"
        ours = timed(lambda: train(config, images, folder / "speed.safetensors"))
    (folder / "speed.safetensors").unlink()
    yield Result(
        "training, CPU seconds per augmented epoch of 54,000",
        f"{ours.cpu_seconds * 54_000 / count:.0f} s",
        f"notebook {peer.cpu_seconds * 54_000 / count:.0f} s",
        peer.cpu_seconds / ours.cpu_seconds,
        3.0,
        f"measured on {count:,} images",
    )


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

    fewer, more, poses = few(1_000, 10), few(10_000, 100), few(775, 155)
    small, large = seconds(fewer, 75, 1), seconds(more, 75, 1)
    yield Result(
        "time per image, 1,000 → 10,000 images, 75 poses", f"{large:.1f} s", f"{small:.1f} s", 10 * small / large, None
    )
    short, long = seconds(fewer, 75, 1), seconds(fewer, poses, 1)
    yield Result(
        "time per pose, 75 → 775 poses, 1,000 images",
        f"{long:.1f} s",
        f"{short:.1f} s",
        short / long * poses / 75,
        None,
    )
    one, two = seconds(more, 75, 1), seconds(more, 75, 2)
    yield Result("speed-up, 1 → 2 cores, 10,000 images, 75 poses", f"{two:.1f} s", f"{one:.1f} s", one / two, 1.8)


def memory(model: nn.Module, images: LabelledImages) -> Iterator[Result]:
    """Measure the most memory that the whole search of 10,000 images x 775 poses holds."""
    before = peak_memory_mb()
    first_failures(Classifier(model), images, most_dangerous_first(classic_poses()))
    peak = peak_memory_mb()
    note = f"{before:.0f} MB before the search"
    yield Result("peak memory, 10,000 images × 775 poses", f"{peak:.0f} MB", "1,500 MB", 1_500 / peak, 1.0, note)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure everything and write results and table; returns 0."""
    argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__).parse_args(arguments)
    model, images, train = load_checkpoint(MODEL).model, fashion_mnist("test"), fashion_mnist("train")
    parts: tuple[Callable[[], Iterator[Result]], ...] = (
        lambda: memory(model, images),
        lambda: sweep(model, stratified_sample(images, few(500, 10))),
        lambda: evaluation(model, images),
        lambda: attention(model, stratified_sample(images, few(2_000, 125))),
        lambda: training(stratified_sample(train, few(6_000, 200))),
        lambda: pictures(images, count=few(50, 3)),
        lambda: growth(model, images),
    )
    results = []
    for part in parts:
        for result in part():
            print(
                f"{result.what}: {result.ours} against {result.peer}: {result.ratio:.2f} {result.reached}", flush=True
            )
            results.append(result)
    _write(results)
    return 0


def _write(results: Sequence[Result]) -> None:
    machine = {
        "processor": _processor(),
        "cores": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    content = {"machine": machine, "results": [asdict(result) for result in results]}
    write_atomically(HERE / "results.json", (json.dumps(content, indent=1) + "\n").encode())
    lines = [f"Measured on {machine['processor']}, torch {machine['torch']}, Python {machine['python']}.", ""]
    lines += ["| what | harness | peer | ratio | wanted | reached |", "| --- | --- | --- | --- | --- | --- |"]
    for result in results:
        what = f"{result.what} ({result.note})" if result.note else result.what
        wanted = "" if result.wanted is None else f"{result.wanted:g}"
        lines.append(f"| {what} | {result.ours} | {result.peer} | {result.ratio:.2f} | {wanted} | {result.reached} |")
    write_between(HERE / "README.md", BEGIN, END, "\n".join(lines))


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
