"""Workers of a cluster: their ranges, their messages, and the options that are refused."""

import sys

import numpy as np
import pytest
import torch

from harness.base.errors import InputError
from harness.features.cluster.backend import ranges
from harness.inference import placed
from harness.inference.engine import Perturbed
from harness.inference.platforms import note_on_platforms
from harness.networks.options import BackendOptions
from harness.perturb import Pose


@pytest.mark.parametrize(
    ("count", "size", "workers"), [(1, 8, 2), (100, 8, 3), (1000, 32, 2), (7, 8, 1), (64, 8, 8)]
)
def test_ranges_are_whole_batches_of_each_input_once(count, size, workers):
    found = list(ranges(count, size=size, workers=workers, most=5))
    assert [number for start, stop in found for number in range(start, stop)] == list(range(count))
    assert all(start % size == 0 and (stop % size == 0 or stop == count) for start, stop in found)
    lengths = [stop - start for start, stop in found]
    assert lengths == sorted(lengths, reverse=True)
    assert max(lengths) <= 5 * size


def test_inputs_are_cut_into_parts_and_workers_of_several_kinds_are_told():
    pixels = torch.arange(5 * 4 * 4, dtype=torch.uint8).view(5, 1, 4, 4)
    at, which = np.array([4, 0, 0, 2, 3]), np.array([0, 0, 1, 1, 0])
    inputs = Perturbed(pixels, at, torch.device("cpu"), (Pose(), Pose(dx=1.0)), which)
    whole, some = inputs(np.arange(5)), np.array([1, 2, 4])
    assert torch.equal(inputs.only(some)(np.arange(3)), whole[some])
    assert torch.equal(whole[2], Pose(dx=1.0)(pixels[:1].float() / 255)[0])
    assert note_on_platforms({"a": 4}, [("clean", 0.00001)]) == ""
    close = note_on_platforms({"a": 4, "b": 1}, [("clean", 0.01), ("bee", 0.0001)])
    assert "4 on a; 1 on b" in close
    assert "checks within this margin of their threshold: bee (0.0001)" in close
    far = note_on_platforms({"a": 4, "b": 1}, [("clean", 0.02), ("bee", 0.01)])
    assert "no check is so close to its threshold, the closest is bee (0.0100)" in far


def test_options_of_a_cluster_count_with_ray_alone_and_need_it(monkeypatch):
    assert not BackendOptions(ray_workers=2).on_cluster
    assert BackendOptions(backend="ray", ray_gpus=0.5).on_cluster
    with pytest.raises(InputError, match="get GPUs from ray_gpus"):
        placed(BackendOptions(backend="ray"), "cuda")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"not installed.*pip install 'stress-harness\[ray\]'"):
        placed(BackendOptions(backend="ray", ray_address="nowhere:1"), "auto")
