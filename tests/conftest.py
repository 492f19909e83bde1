"""Warnings are errors in these tests; a user's model, in the gate, may warn. Long tests run when asked for."""

import signal
from pathlib import Path

# `pytester` drops what a run inside this process imports; of these a part would stay, and then be there twice.
import matplotlib.backends.backend_agg
import matplotlib.backends.backend_svg  # noqa: F401
import pytest
import seaborn  # noqa: F401
import torch
import torch._dynamo  # Which torch imports late, on its own.

HERE = Path(__file__).parent
# Networks here are small, and a second thread waits for the first more than it helps, most of all beside other tests.
torch.set_num_threads(1)
ON_REQUEST = ("browser", "notebook", "docs", "faults", "wheel", "determinism", "cluster")


def pytest_collection_modifyitems(config, items):
    asked = [name for name in ON_REQUEST if name not in config.option.markexpr]
    left_out = [item for item in items if any(item.get_closest_marker(name) for name in asked)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.filterwarnings("error"), append=False)


@pytest.fixture(autouse=True)
def same_weights_in_every_run():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def interruptible():
    """Let children be interrupted: a shell that runs its commands in the background has them ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
