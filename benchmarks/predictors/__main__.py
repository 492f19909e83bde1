"""A ResNet-18 at 224 px behind HTTP beside the same network in this process.

They take turns, in batches of 32. Run `python -m benchmarks.predictors` on an idle machine with the
extras `http` and `bench`.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.predictors.server import SIZE, answered, network
from benchmarks.runner import few, keep, option, run, status, table, versions, write_between
from harness.features.served_models.served_model import ServedModel
from harness.inference.devices import in_batches
from harness.networks import NetworkOptions

HERE = Path(__file__).parent
BATCH, MOST = few(32, 4), 1.2
"""Images at a time, and the largest ratio to the model's own time that is wanted with binary
tensors.
"""


@contextmanager
def served(tensors: str) -> Iterator[str]:
    """Give the URL of the network in another process.

    It takes `binary` tensors, or `json` alone.
    """
    command = [sys.executable, "-m", "benchmarks.predictors.server", tensors]
    with subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v2/models/resnet18"
        process.kill()


def asked(url: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return what predicts images with the served network, as a run does.

    Batches side by side, and then confirmed.
    """
    predictor = ServedModel(url, NetworkOptions(), None)

    def predict(images: np.ndarray) -> np.ndarray:
        calls = predictor.provides.calls
        parts = in_batches(
            lambda at: predictor.predict(images[at]),
            np.arange(len(images)),
            size=BATCH,
            workers=calls,
        )
        predictor.confirm()
        return np.concatenate(parts)

    return predict


def own() -> Callable[[np.ndarray], np.ndarray]:
    """Return what predicts images with the network in this process, on one thread."""
    model = network().to(memory_format=torch.channels_last)
    return lambda images: np.concatenate(
        [answered(model, images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    )


def seconds(
    predict: Callable[[np.ndarray], np.ndarray], images: np.ndarray
) -> tuple[float, np.ndarray]:
    """Return how long predictions take, and the predictions."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    scores = predict(images)
    return time.perf_counter() - started, scores


def measured(*, images: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each way, by rounds.

    Each round has images of its own, and the first one warms up.
    """
    with served("binary") as binary, served("json") as text:
        ways = {"own": own(), "binary": asked(binary), "json": asked(text)}
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds + 1):
            pixels = np.random.default_rng(number).random((images, 3, SIZE, SIZE), dtype=np.float32)
            found = {}
            for name, predict in ways.items():
                some = pixels[: max(BATCH, images // 4)] if name == "json" else pixels
                took, found[name] = seconds(predict, some)
                took *= len(pixels) / len(some)
                print(f"{name}: {took / images * 1e3:.1f} ms an image", flush=True)
                if number:
                    taken[name].append(took)
            np.testing.assert_array_equal(found["own"], found["binary"])
            np.testing.assert_array_equal(found["own"][: len(found["json"])], found["json"])
    return taken


def page(facts: Mapping[str, Any]) -> str:
    """Return the results as Markdown."""
    taken, rows = facts["seconds"], []
    names = {
        "own": "the network's own time",
        "binary": "HTTP, binary tensors",
        "json": "HTTP, JSON tensors",
    }
    for name, words in names.items():
        one = statistics.median(taken[name]) / facts["images"] * 1e3
        rows.append((words, f"{one:.1f}", f"{ratio(taken, name):.2f}"))
    where = (
        f"{facts['cores']} cores, at a load of {facts['load']:.1f} when it began. Versions: "
        f"{facts['versions']}"
    )
    what = f"A ResNet-18 on {facts['images']} images of {SIZE} px in batches of {BATCH}"
    rounds = f"medians of {facts['rounds']} rounds by turns"
    return (
        f"Measured on {where}.\n\n{what}, "
        f"{rounds}:\n\n{table(('way', 'ms an image', 'ratio'), rows)}"
    )


def ratio(taken: Mapping[str, Sequence[float]], way: str) -> float:
    """Return the median ratio of a way to the network's own time."""
    return statistics.median(a / b for a, b in zip(taken[way], taken["own"], strict=True))


def main(*, images: int, rounds: int) -> int:
    """Measure, write the results, and return 1 where binary tensors cost more than wanted."""
    facts: dict[str, Any] = {"cores": os.cpu_count(), "load": os.getloadavg()[0]}
    facts |= {"versions": versions("torch", "httpx"), "images": images, "rounds": rounds}
    facts["seconds"] = measured(images=images, rounds=rounds)
    print(page(facts))
    keep(HERE / "results.json", facts)
    write_between(HERE / "README.md", "results", page(facts))
    return status(ratio(facts["seconds"], "binary") > MOST)


COMMANDS = {
    "": (main, option("--images", type=int, default=512), option("--rounds", type=int, default=5))
}

if __name__ == "__main__":
    sys.exit(run(COMMANDS, "--images 4 --rounds 1"))
