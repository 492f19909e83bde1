"""Training of the panel: one recipe with seeds 1 to K, a network per core, in half precision."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, replace
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from harness.base.errors import CalibrationError
from harness.base.launcher import Child, ChildError
from harness.base.progress import Progress
from harness.inference import available_cores, pick_device
from harness.networks.training import SHIPPED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from harness.checks import ChecksFile
    from harness.networks.training import TrainingConfig


def train_reference_models(
    checks: ChecksFile,
    folder: Path,
    *,
    reference_models: int,
    jobs: int | None = None,
    device: str = "auto",
) -> list[Path]:
    """Train the seeds 1 to `reference_models` of the shipped recipe, and return their checkpoints.

    `jobs` networks train at a time, by default one per core, or one on another device than the CPU.
    Existing checkpoints of exactly this recipe are kept, and a killed training is resumed. Raises
    `InputError` for a checks file of other data than the recipe's, and if a checkpoint of another
    recipe is in the way.
    """
    device = pick_device(device)
    config = SHIPPED["augmented"].resolved(device)
    if checks.data.name != "fashion-mnist":
        raise CalibrationError(
            f"{checks.path} is for {checks.data.name}, but this command only trains networks for "
            "Fashion-MNIST; name at least three reference models of your own, --checkpoints FILE "
            "FILE FILE"
        )
    models = {
        seed: folder / f"seed-{seed:03}.safetensors" for seed in range(1, reference_models + 1)
    }
    missing = [
        seed for seed, path in models.items() if not _is_done(path, replace(config, seed=seed))
    ]
    if not missing:
        return list(models.values())
    if jobs is None:
        jobs = available_cores() if device == "cpu" else 1
    children = [Child(path=sys.path) for _ in range(min(jobs, len(missing)))]
    with Progress(total=reference_models, unit="network", desc="training", smoothing=0) as bar:
        bar.update(reference_models - len(missing))
        tasks = [(replace(config, seed=seed), models[seed], device) for seed in missing]
        _train_models(children, tasks, on_model=bar.update)
    return list(models.values())


def _train_models(
    children: Sequence[Child],
    tasks: Sequence[tuple[TrainingConfig, Path, str]],
    on_model: Callable[[], object],
) -> None:
    """Train one network at a time in each child; the first error, and Ctrl-C, end all trainings."""
    idle: SimpleQueue[Child] = SimpleQueue()
    for child in children:
        idle.put(child)

    def train_in_child(task: tuple[TrainingConfig, Path, str]) -> None:
        child = idle.get()
        try:
            child.call(train_model, *task)
        finally:
            idle.put(child)

    with ThreadPoolExecutor(len(children)) as threads:
        paths = {threads.submit(train_in_child, task): task[1] for task in tasks}
        try:
            for future in as_completed(paths):
                try:
                    future.result()
                except ChildError as error:
                    raise CalibrationError(
                        f"{paths[future]}: the training failed: {error}"
                    ) from None
                on_model()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            for child in children:
                child.close()


def _is_done(path: Path, config: TrainingConfig) -> bool:
    from harness.networks.checkpoints import load_checkpoint

    if not path.exists():
        return False
    record = load_checkpoint(path).record
    found: dict[str, Any] = dict(record.training or {}) if record else {}
    if found != asdict(config):
        differing = sorted(
            name for name in asdict(config) if found.get(name) != asdict(config)[name]
        )
        raise CalibrationError(
            f"{path}: a checkpoint of another recipe (differs in {', '.join(differing)}) is in "
            "the way; "
            "move it, or name another folder with --panel"
        )
    return True


def train_model(config: TrainingConfig, path: Path, device: str) -> None:
    """Train a network, or resume its training, and save it in half precision."""
    from harness.data import load_fashion_mnist
    from harness.networks.checkpoints import load_checkpoint, save_checkpoint
    from harness.networks.training import train, write_history

    # The file gets its name only in half precision, so an existing file is complete.
    full = path.with_name(f".{path.name}.full.safetensors")
    if not full.exists():
        write_history(path, train(config, load_fashion_mnist("train"), full, device=device))
    trained = load_checkpoint(full)
    assert trained.record is not None
    save_checkpoint(path, trained.model.half(), trained.record)
    full.unlink()
