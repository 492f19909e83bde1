"""Workers of a cluster: their ranges, their messages, and the options that are refused."""

import sys

import numpy as np
import pytest
import torch

from harness.base.errors import InputError
from harness.inference import placed
from harness.inference.backend import Perturbed
from harness.inference.cluster.scheduling import Ranges, Throughput, speeds
from harness.inference.platforms import note_on_platforms
from harness.networks.options import BackendOptions
from harness.perturb import Pose


@pytest.mark.parametrize(("count", "size", "workers"), [(1, 8, 2), (100, 8, 3), (1000, 32, 2), (7, 8, 1), (64, 8, 8)])
def test_each_input_is_handed_out_once_in_whole_batches(count, size, workers):
    ranges, draw, taken = Ranges(count, size=size, workers=workers, most=5), np.random.default_rng(0), []
    while (some := ranges.next(int(draw.integers(workers)))) is not None:
        taken.append(some)
    assert [number for some in sorted(taken) for number in range(some.start, some.stop)] == list(range(count))
    assert all(some.start % size == 0 and (some.stop % size == 0 or some.stop == count) for some in taken)
    assert max(map(len, taken)) <= 5 * size


def test_a_worker_takes_its_share_then_lost_work_then_that_of_others():
    ranges = Ranges(800, size=10, workers=2, most=100)
    mine = [ranges.next(1) for _ in range(3)]
    assert [some.start for some in mine] == [400, 500, 570]
    ranges.again(mine[0])
    assert ranges.next(0) == mine[0]
    assert ranges.next(0).start == 0
    rest = []
    while (some := ranges.next(1)) is not None:
        rest.append(some)
    assert {some.start < 400 for some in rest} == {True, False}


def test_inputs_are_cut_into_parts_that_are_the_same_inputs():
    pixels = torch.arange(5 * 4 * 4, dtype=torch.uint8).view(5, 1, 4, 4)
    at, which = np.array([4, 0, 0, 2, 3]), np.array([0, 0, 1, 1, 0])
    inputs = Perturbed(pixels, at, torch.device("cpu"), (Pose(), Pose(dx=1.0)), which)
    whole, some = inputs(np.arange(5)), np.array([1, 2, 4])
    assert torch.equal(inputs.only(some)(np.arange(3)), whole[some])
    assert torch.equal(whole[2], Pose(dx=1.0)(pixels[:1].float() / 255)[0])


def test_stragglers_are_named():
    done = [
        Throughput("worker 0 on a", 900, 9.0),
        Throughput("worker 1 on b", 900, 10.0),
        Throughput("worker 2 on c", 100, 10.0),
    ]
    assert speeds(done) == "100, 90, 10 images/s; slow: worker 2 on c (10/s)"
    assert speeds([]) == "nothing done yet"


def test_workers_of_several_kinds_are_told_with_the_verdicts_margin():
    assert note_on_platforms({"a": 4}, [("clean", 0.00001)]) == ""
    close = note_on_platforms({"a": 4, "b": 1}, [("clean", 0.01), ("bee", 0.0001)])
    assert "4 on a; 1 on b" in close
    assert "checks within this margin of their threshold: bee (0.0001)" in close
    far = note_on_platforms({"a": 4, "b": 1}, [("clean", 0.02), ("bee", 0.01)])
    assert "no check is so close to its threshold, the closest is bee (0.0100)" in far


def test_options_of_a_cluster_have_no_effect_on_another_backend():
    assert not BackendOptions(ray_workers=2).on_ray
    assert BackendOptions(backend="ray", ray_gpus=0.5).on_ray


def test_without_ray_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"not installed.*pip install 'stress-harness\[ray\]'"):
        placed(BackendOptions(backend="ray", ray_address="nowhere:1"), "auto")


def test_a_device_beside_a_cluster_is_refused():
    with pytest.raises(InputError, match="get GPUs from ray_gpus"):
        placed(BackendOptions(backend="ray"), "cuda")
