"""Training of the panel: one recipe with seeds 1 to K, one network per core, stored in half precision."""

from __future__ import annotations

import multiprocessing
import queue
import signal
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from harness.base.errors import CalibrationError
from harness.base.progress import Progress
from harness.inference import available_cores, pick_device
from harness.networks.training.shipped import SHIPPED

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.queues import Queue
    from pathlib import Path

    from harness.checks import ChecksFile
    from harness.networks.training import TrainingConfig


def train_reference_models(
    checks: ChecksFile, folder: Path, *, reference_models: int, jobs: int | None = None, device: str = "auto"
) -> list[Path]:
    """Train reference models of the shipped recipe with a progress bar, and return their checkpoints.

    `jobs` networks train at a time, by default one per core, or one on another device than the CPU. Raises `InputError`
    for a checks file of other data than the recipe's.
    """
    config, device = SHIPPED["augmented"], pick_device(device)
    if checks.data.name != "fashion-mnist":
        raise CalibrationError(
            f"{checks.path} is for {checks.data.name}, but this command only trains networks for Fashion-MNIST; name "
            "at least three reference models of your own, --checkpoints FILE FILE FILE"
        )
    total = reference_models * config.epochs
    with Progress(total=total, unit="epoch", desc=f"training {reference_models} networks", smoothing=0) as bar:
        return train_panel(
            config,
            folder,
            reference_models=reference_models,
            jobs=jobs or (available_cores() if device == "cpu" else 1),
            device=device,
            on_epoch=bar.update,
        )


def train_panel(
    config: TrainingConfig,
    folder: Path,
    *,
    reference_models: int,
    jobs: int,
    device: str = "cpu",
    on_epoch: Callable[[int], object] | None = None,
) -> list[Path]:
    """Train the seeds 1 to `reference_models` of a recipe, `jobs` at a time; return their checkpoints in that order.

    Existing checkpoints of exactly this recipe are kept, and a killed training is resumed. `on_epoch` is called with
    the number of epochs since the last call. Raises `InputError` if a checkpoint of another recipe is in the way.
    """
    config = config.resolved(device)
    models = {seed: folder / f"seed-{seed:03}.safetensors" for seed in range(1, reference_models + 1)}
    missing = [seed for seed, path in models.items() if not _is_done(path, replace(config, seed=seed))]
    if on_epoch:
        on_epoch((reference_models - len(missing)) * config.epochs)
    if missing:
        context = multiprocessing.get_context("spawn")
        epochs: Queue[int] = context.Queue()
        with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=(epochs,)) as pool:
            futures = {pool.submit(_train_model, replace(config, seed=seed), models[seed], device) for seed in missing}
            try:
                _follow(futures, epochs, on_epoch)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in multiprocessing.active_children():
                    process.terminate()
                raise
    return list(models.values())


def _follow(futures: set[Future[None]], epochs: Queue[int], on_epoch: Callable[[int], object] | None) -> None:
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=1, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()
        with suppress(queue.Empty):
            while True:
                number = epochs.get_nowait()
                if on_epoch:
                    on_epoch(number)


def _is_done(path: Path, config: TrainingConfig) -> bool:
    from harness.networks.checkpoints import load_checkpoint

    if not path.exists():
        return False
    record = load_checkpoint(path).record
    found: dict[str, Any] = dict(record.training or {}) if record else {}
    if found != asdict(config):
        differing = sorted(name for name in asdict(config) if found.get(name) != asdict(config)[name])
        raise CalibrationError(
            f"{path}: a checkpoint of another recipe (differs in {', '.join(differing)}) is in the way; "
            "move it, or name another folder with --panel"
        )
    return True


_epochs: Queue[int] | None = None


def _start_worker(epochs: Queue[int]) -> None:
    global _epochs  # noqa: PLW0603  A pool's worker gets a queue only from its initializer.
    _epochs = epochs
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent handles Ctrl-C and ends its workers.


def _train_model(config: TrainingConfig, path: Path, device: str) -> None:
    from harness.data import load_fashion_mnist
    from harness.networks.checkpoints import load_checkpoint, save_checkpoint
    from harness.networks.training import train, write_history

    # The file gets its name only in half precision, so an existing file is complete.
    full = path.with_name(f".{path.name}.full.safetensors")
    if not full.exists():
        images = load_fashion_mnist("train")
        history = train(config, images, full, device=device, on_epoch=lambda _: _epochs.put(1) if _epochs else None)
        write_history(path, history)
    trained = load_checkpoint(full)
    assert trained.record is not None
    save_checkpoint(path, trained.model.half(), trained.record)
    full.unlink()
