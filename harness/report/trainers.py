"""Callbacks of trainers.

A gate after each save, and an early end of a training that makes a worse model.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_QUIET = {"progress": False, "history": "none"}


def _is_worse(weights: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Gate weights in a file of their own, and print the verdict.

    An inconclusive run does not end a training.
    """
    import torch

    from harness.report.api import gate

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "saved.pth")
        torch.save(
            {name: value.detach().cpu().contiguous() for name, value in weights.items()}, path
        )
        result = gate(path, **{**_QUIET, **settings})
    print(result.headline, *result.errors, sep="\n", flush=True)
    return result.verdict == "fail"


def lightning_callback(**settings: Any) -> Any:
    """Return a `lightning.Callback` that gates the module at each save, on the first process alone.

    `settings` are those of `harness.gate`, such as `profile="quick"`. The training stops at the
    verdict `fail`.
    """
    from lightning.pytorch import Callback

    class GateCallback(Callback):  # type: ignore[misc]
        def on_save_checkpoint(
            self,
            trainer: Any,
            pl_module: Any,  # noqa: ARG002
            checkpoint: dict[str, Any],
        ) -> None:
            worse = trainer.is_global_zero and _is_worse(checkpoint["state_dict"], settings)
            trainer.should_stop = trainer.should_stop or trainer.strategy.broadcast(worse)

    return GateCallback()


def transformers_callback(**settings: Any) -> Any:
    """Return a `transformers.TrainerCallback` that gates the model at each save.

    See `lightning_callback`.
    """
    from transformers import TrainerCallback

    class GateCallback(TrainerCallback):  # type: ignore[misc]
        def on_save(self, _: Any, state: Any, control: Any, **given: Any) -> None:
            if state.is_world_process_zero and _is_worse(given["model"].state_dict(), settings):
                control.should_training_stop = True

    return GateCallback()
