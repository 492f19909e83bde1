"""Ray on one node beside one process, in one run, and a model of more nodes from what was measured.

Run `python -m benchmarks.scale` on an idle machine with the extras `ray` and `bench`. The table has
the start-up in a column of its own.
"""

from __future__ import annotations

import io
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import ray
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.real.speed import POSES, made, pictures
from benchmarks.runner import keep, load, option, read, run, table, write_between
from benchmarks.scale.model import Constants, predicted
from harness.data import LabelledImages
from harness.data.options import DataOptions
from harness.data.rows import rows_of_file
from harness.features.cluster.backend import RayCluster, ranges
from harness.inference import Classifier
from harness.inference.devices import batch_size
from harness.inference.engine import Engine
from harness.networks.options import BackendOptions
from harness.perturb import Pose

PAGE, RESULTS = (Path(__file__).parent / name for name in ("README.md", "results.json"))
IMAGENET, PERTURBATIONS, CORES = 1_300_000, 20, 32
"""Size of the prediction: images, perturbations, and cores per node."""
NAMES = {
    "decode_ms": "decoding and cropping a JPEG of 500 × 375, ms",
    "compute_ms": "predicting an image on one core, ms",
    "image_bytes": "an image's pixels, bytes",
    "file_mb_s": "reading pixels from a file in the page cache, MB/s",
    "call_ms": "a call without work, ms",
    "range_ms": "each range of it, ms",
    "merge_us": "joining an image's 1,000 logits, µs",
    "batch": "images of a batch",
}


class Nothing(nn.Module):
    """A network that takes no time."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Return ten logits of each image, of its first pixels."""
        return pixels.flatten(1)[:, :10]


def cpu_seconds() -> float:
    """Return the processor time of this process and of its living children."""
    parents: dict[int, int] = {}
    spent: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
            spent[int(entry.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def ours(pid: int) -> bool:
        while pid > 1:
            if pid == os.getpid():
                return True
            pid = parents.get(pid, 0)
        return False

    return sum(seconds for pid, seconds in spent.items() if ours(pid))


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of the clock and of processors that a call takes."""
    cpu, clock = cpu_seconds(), time.perf_counter()
    call()
    return time.perf_counter() - clock, cpu_seconds() - cpu


def side_by_side(
    images: LabelledImages, *, workers: int, repeats: int
) -> dict[str, list[tuple[float, float]]]:
    """Return the seconds, of the clock and of processors, of rounds by turns.

    In one process, and on a cluster.

    Both have as many workers; the start of the cluster is apart.
    """
    model = made("resnet18", images.take(torch.arange(min(50, len(images)))))
    cluster = RayCluster(BackendOptions(ray_workers=workers))
    taken: dict[str, list[tuple[float, float]]] = {
        "process": [],
        "ray": [],
        "start": [timed(cluster.start)],
    }
    ways = {
        name: Classifier(model, workers=workers, backend=way)
        for name, way in (("process", Engine), ("ray", cluster))
    }
    for classifier in ways.values():
        classifier.measure_precision_on(images)
    for number, pose in enumerate(POSES[: repeats + 1]):
        for name, classifier in ways.items():
            seconds = timed(
                lambda classifier=classifier, pose=pose: classifier.predict(images, pose)
            )
            print(
                f"{workers} workers, {name}: {seconds[0]:.2f} s, {seconds[1]:.2f} s of processors",
                flush=True,
            )
            if number:  # The first warms up.
                taken[name].append(seconds)
    assert all(
        np.array_equal(*(way.predict(images, pose).answers for way in ways.values()))
        for pose in POSES[:2]
    )
    return taken


def constants(images: LabelledImages, *, compute_ms: float) -> Constants:
    """Return the time of each part on this machine, the fastest of several.

    Noise only adds.
    """
    cluster, device, count = RayCluster(BackendOptions(ray_workers=1)), torch.device("cpu"), 64
    cluster.start()
    classifier = Classifier(Nothing(), backend=cluster, screen=False)
    size = batch_size((3, 8, 8), device, screening=False)
    black = torch.zeros(count * size, 3, 8, 8, dtype=torch.uint8)
    tiny = LabelledImages(black, torch.zeros(count * size).long(), images.classes, "tiny", "test")
    one = tiny.take(torch.arange(1))
    call = fastest(lambda number: classifier.predict(one, Pose(dx=number / 100)))
    many = fastest(lambda number: classifier.predict(tiny, Pose(dx=number / 100)))
    alone = Classifier(Nothing(), screen=False, workers=1)
    work = fastest(lambda number: alone.predict(tiny, Pose(dx=number / 100)))
    with tempfile.TemporaryFile() as file:
        file.write(images.pixels.numpy().tobytes())
        file.flush()
        rows = rows_of_file(cast("BinaryIO", file), tuple(images.pixels.shape), torch.uint8)
        reading = fastest(lambda _: rows[np.arange(len(rows))])
    picture = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((500, 375), Image.Resampling.BICUBIC).save(
        picture, "JPEG", quality=90
    )
    pipeline = DataOptions(resize="256", crop="224").pipeline
    decode = fastest(
        lambda _: pipeline.picture(
            Image.open(io.BytesIO(picture.getvalue()), formats=["JPEG"]), where="one"
        )
    )
    parts = [np.zeros((16, 1_000), dtype=np.float32)] * 1_000
    return Constants(
        decode_ms=1e3 * decode,
        compute_ms=compute_ms,
        image_bytes=images.pixels[0].numel(),
        file_mb_s=images.pixels.numel() / reading / 1e6,
        call_ms=1e3 * call,
        range_ms=1e3
        * max(many - call - work, 0.0)
        / len(list(ranges(count, size=1, workers=1, most=64))),
        merge_us=1e6 * fastest(lambda _: np.concatenate(parts)) / 16_000,
        batch=batch_size(images.pixels.shape[1:], device, screening=True),
    )


def fastest(call: Callable[[int], object], *, repeats: int = 10) -> float:
    """Return the fewest seconds that a call takes, each with another number."""
    taken = []
    for number in range(1, repeats + 1):
        begun = time.perf_counter()
        call(number)
        taken.append(time.perf_counter() - begun)
    return min(taken)


def _measured(number: int, repeats: int, workers: Sequence[int]) -> dict[str, Any]:
    # Room for as many as are asked for, whether there are cores for them or not.
    ray.init("local", num_cpus=max(workers), include_dashboard=False, log_to_driver=False)
    images, machine = pictures(number), load()
    taken = {count: side_by_side(images, workers=count, repeats=repeats) for count in workers}
    cpu = statistics.median(seconds for _, seconds in taken[workers[0]]["process"])
    found = constants(images, compute_ms=1e3 * cpu / len(images))
    return {"machine": machine, "images": len(images), "taken": taken, "constants": found}


def _write(results: dict[str, Any]) -> None:
    found, count, overhead, checks = Constants(**results["constants"]), results["images"], [], []
    for workers, taken in results["taken"].items():
        (here, here_cpu), (there, there_cpu) = (
            [statistics.median(each[part] for each in taken[way]) for part in (0, 1)]
            for way in ("process", "ray")
        )
        clock = f"{here:.2f}", f"{there:.2f}", f"{there / here:.2f}"
        processors = f"{here_cpu:.2f}", f"{there_cpu:.2f}", f"{there_cpu / here_cpu:.3f}"
        overhead.append((workers, *clock, *processors, f"{taken['start'][0][0]:.0f}"))
        model = predicted(
            found, images=count, perturbations=1, nodes=1, cores=int(workers), decoded=True
        )
        spent = f"{model.compute * int(workers) + model.driver:.2f}"
        checks.append((workers, spent, f"{there_cpu:.2f}", f"{there:.2f}"))
    versions = (
        f"torch {torch.__version__}, Ray {ray.__version__}, Python {platform.python_version()}"
    )
    said = f"A ResNet-18 on {count} images of 224 px in a pose, medians of rounds by turns:"
    head = (
        "workers",
        "in one process, s",
        "on Ray",
        "ratio",
        "of processors, s",
        "on Ray",
        "ratio, ≤ 1.1",
        "start, s",
    )
    of_overhead = f"Measured on {results['machine']}; {versions}. {said}\n\n{table(head, overhead)}"
    write_between(PAGE, "results of overhead", of_overhead)
    constants_of = [(words, f"{getattr(found, name):,.4g}") for name, words in NAMES.items()]
    hours = []
    for nodes in (1, 8, 64):
        each = predicted(
            found, images=IMAGENET, perturbations=PERTURBATIONS, nodes=nodes, cores=CORES
        )
        parts = (f"{value / 3600:.3f}" for value in (*asdict(each).values(), each.total))
        hours.append((nodes, *parts, each.bottleneck))
    parts = ("decode", "transfer", "compute", "driver", "tail", "merge")
    of_model = [
        table(("constant", "value"), constants_of),
        table(("workers", "predicted, s of processors", "measured", "s of the clock"), checks),
        f"{IMAGENET:,} images × {PERTURBATIONS} perturbations, nodes of {CORES} cores, hours:",
        table(("nodes", *parts, "all", "longest"), hours),
    ]
    write_between(PAGE, "results of the model", "\n\n".join(of_model))


def main(*, images: int, repeats: int, workers: Sequence[int], report: bool) -> None:
    """Measure, unless only the report is wanted, and write results and tables."""
    if not report:
        keep(RESULTS, _measured(images, repeats, workers))
    _write(read(RESULTS))


COMMANDS = {
    "": (
        main,
        option(
            "--images", type=int, default=600, help="pictures of each prediction (default: 600)"
        ),
        option(
            "--repeats",
            type=int,
            default=5,
            choices=range(1, 6),
            help="rounds, after one to warm up",
        ),
        option(
            "--workers",
            type=int,
            nargs="+",
            default=[1, 2, 4],
            help="sizes of clusters (default: 1 2 4)",
        ),
        option("--report", action="store_true", help="only write the tables anew"),
    )
}

if __name__ == "__main__":
    sys.exit(run(COMMANDS, "--images 20 --repeats 1 --workers 1"))
