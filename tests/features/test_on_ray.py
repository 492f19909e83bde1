"""On a cluster of Ray's: the same bits as in one process, whichever worker or node dies."""

import contextlib
import os
import random
import signal
import threading
import time

import numpy as np
import pytest
import torch
from rays import wait_until, workers
from torch import nn
from zoo import images_of, network

from harness.base.errors import InputError
from harness.data import LabelledImages
from harness.data.rows import rows_of_file
from harness.features.cluster import nodes as calls
from harness.features.cluster import serialization
from harness.features.cluster.backend import RayCluster
from harness.features.cluster.nodes import connect
from harness.inference import Classifier, ModelError
from harness.inference.attention import attend
from harness.inference.engine import BackendLostError
from harness.inference.search import first_failures
from harness.networks.options import BackendOptions
from harness.perturb import Pose
from harness.perturb.corruptions import CORRUPTIONS, Corruption, corruption

pytestmark = pytest.mark.cluster
KILLS = 4
NO_NODE = r"images \(2000, 1, 16, 16\) under Slowly\(\): images \d+ to \d+: no node is left"


@pytest.fixture(scope="module")
def nodes(two_nodes):
    """A cluster of two nodes, which this process has joined; the last tests here take them away."""
    connect(BackendOptions(ray_address=two_nodes.address))
    return two_nodes


@pytest.fixture(scope="module")
def shared(nodes):
    return RayCluster(BackendOptions(ray_address=nodes.address))


@pytest.fixture
def pair(shared):
    """Return what makes the same model for this process and for the cluster."""

    def make(model=None, **facts):
        model = network() if model is None else model
        return Classifier(model, workers=1, **facts), Classifier(model, backend=shared, **facts)

    return make


class Turned:
    """A perturbation of somebody's own, whose module no worker can import."""

    def __call__(self, pixels):
        return pixels.flip(-2)

    def __repr__(self):
        return "Turned()"


class Slowly:
    """A perturbation that takes its time."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __call__(self, pixels):
        time.sleep(self.seconds)
        return pixels

    def __repr__(self):
        return "Slowly()"


class Crashing(nn.Module):
    """Ends its process where it sees an image that is all white."""

    def forward(self, pixels):
        if bool((pixels.flatten(1).amin(1) == 1).any()):
            os._exit(1)
        return pixels.flatten(1)[:, :4]


def large(count):
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, 128, 128), dtype=np.uint8)
    return pixels, torch.arange(count) % 4


class Small(nn.Module):
    """Takes images of 128 pixels, and little time."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 8, stride=8)

    def forward(self, pixels):
        return self.conv(pixels).relu().mean(dim=(2, 3))


def labelled(pixels, labels):
    return LabelledImages(pixels, labels, ("a", "b", "c", "d"), "large", "test")


def test_predictions_have_the_same_bits(pair, shared):
    images = images_of(1_000)
    here, there = pair()
    for each in (here, there):
        each.measure_precision_on(images)
    for perturbation in (Pose(7.0, 1.0), Corruption("fog", 3), Turned()):
        mine, theirs = here.predict(images, perturbation), there.predict(images, perturbation)
        assert np.array_equal(mine.answers, theirs.answers)
        assert np.array_equal(mine.errors, theirs.errors)
        assert np.array_equal(mine.logits, theirs.logits)
    assert (shared.workers, shared.kinds.total()) == (2, 2)
    assert here.backend.decides == there.backend.decides, (
        "so that each finds what the other left in the cache"
    )


def test_corruptions_of_ones_own_and_halved_batches_have_the_same_bits(pair):
    try:

        @corruption("ever-darker", levels=(0.1, 0.2, 0.3, 0.4, 0.5))
        def darker(images, level, draws):
            return images * (1 - level)

        images = images_of(100)
        mine, theirs = (
            each.predict(images, Corruption("ever-darker", 4)).answers for each in pair()
        )
        assert np.array_equal(mine, theirs)
    finally:
        CORRUPTIONS._declared.pop("ever-darker", None)
    images = images_of(100)
    here, there = pair(Hungry(), screen=False)
    assert np.array_equal(here.predict(images).answers, there.predict(images).answers)
    assert here.backend.decides == there.backend.decides


def test_searches_and_maps_have_the_same_bits(pair):
    images = images_of(300)
    here, there = pair()
    poses = tuple(Pose(degrees, dx) for degrees in (5.0, -25.0, 40.0) for dx in (0.0, 2.0))
    mine, theirs = (first_failures(each, images, poses).first for each in (here, there))
    assert (mine >= 0).any()
    assert np.array_equal(mine, theirs)
    mine, theirs = (attend(each, images, Pose(5.0)) for each in (here, there))
    assert np.array_equal(mine.maps, theirs.maps)
    assert np.array_equal(mine.predictions.answers, theirs.predictions.answers)


def test_images_in_a_file_are_read_where_they_are_needed(pair, tmp_path, monkeypatch):
    monkeypatch.setattr(serialization, "SentPixels", lambda *_: pytest.fail("no pixel is sent"))
    pixels, labels = large(600)
    (tmp_path / "pixels").write_bytes(pixels.tobytes())
    with (tmp_path / "pixels").open("rb") as file:
        rows = rows_of_file(file, pixels.shape, torch.uint8)
    here, there = pair(Small())
    mine = here.predict(labelled(torch.from_numpy(pixels), labels))
    theirs = there.predict(labelled(rows, labels))
    assert np.array_equal(mine.answers, theirs.answers)


def test_a_file_that_a_node_does_not_have_is_sent(pair, tmp_path):
    """From then on files are not looked for.

    This comes after the test in which they are there.
    """
    pixels, labels = large(100)
    (tmp_path / "pixels").write_bytes(pixels.tobytes())
    with (tmp_path / "pixels").open("rb") as file:
        rows = rows_of_file(file, pixels.shape, torch.uint8)
    (tmp_path / "pixels").unlink()
    here, there = pair(Small())
    assert np.array_equal(
        here.predict(labelled(rows, labels)).answers, there.predict(labelled(rows, labels)).answers
    )


def test_what_goes_wrong_is_told_as_in_one_process(pair):
    class Broken(nn.Module):
        def forward(self, pixels):
            raise RuntimeError("out of order")

    messages = []
    for each in pair(Broken()):
        with pytest.raises(ModelError) as caught:
            each.predict(images_of(40))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]

    class Locked(Turned):
        def __init__(self):
            self.lock = threading.Lock()

    _, there = pair()
    with pytest.raises(
        InputError, match=r"cannot be sent to a worker .*run it without backend ray"
    ):
        there.predict(images_of(8), Locked())


class Hungry(nn.Module):
    """Takes at most eight images at a time."""

    def forward(self, pixels):
        if len(pixels) > 8:
            raise torch.OutOfMemoryError("out of memory")
        return pixels.flatten(1)[:, :4]


def test_workers_that_are_killed_change_no_bit(pair):
    images = images_of(2_000)
    here, there = pair(screen=False)
    expected = here.predict(images, Slowly(0)).answers
    draw, ended, kills = random.Random(0), threading.Event(), []

    def kill():
        while len(kills) < KILLS and not ended.wait(draw.uniform(0.3, 1.5)):
            # Both work, since a range whose worker dies three times ends the run, whatever the
            # cause.
            if len(there := workers()) == 2:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(chosen := draw.choice(there), signal.SIGKILL)
                    kills.append(chosen)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        rounds = 0
        while len(kills) < KILLS and rounds < 400:
            assert np.array_equal(
                there.predict(images, Slowly(0.02 + rounds * 1e-9)).answers, expected
            )
            rounds += 1
    finally:
        ended.set()
        thread.join()
    assert len(kills) == KILLS


def test_nodes_that_leave_and_come_change_no_bit(pair, nodes):
    images = images_of(2_000)
    here, there = pair(screen=False)
    expected = here.predict(images, Slowly(0)).answers

    def leave():
        time.sleep(1.0)
        nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)

    thread = threading.Thread(target=leave)
    thread.start()
    assert np.array_equal(there.predict(images, Slowly(0.1)).answers, expected)
    thread.join()
    nodes.add_node(num_cpus=1)
    assert np.array_equal(there.predict(images, Slowly(0.02)).answers, expected)


def test_a_node_of_another_kind_takes_no_part(nodes):
    cluster = RayCluster(BackendOptions(ray_address=nodes.address))
    classifier = Classifier(network(), backend=cluster)
    cluster.kinds.clear()
    cluster.kinds["other"] = 2
    with pytest.raises(InputError, match="unlike the nodes at the start of the run"):
        classifier.predict(images_of(100))


def test_a_range_that_fails_three_times_ends_the_run(nodes):
    images = images_of(200)
    pixels = images.pixels.clone()
    pixels[100] = 255
    classifier = Classifier(
        Crashing(), backend=RayCluster(BackendOptions(ray_address=nodes.address)), screen=False
    )
    began = time.monotonic()
    with pytest.raises(
        BackendLostError, match=r"images \(200, .* under .*: images \d+ to \d+ failed 3 times"
    ):
        classifier.predict(LabelledImages(pixels, images.labels, images.classes, "zoo", "test"))
    assert time.monotonic() - began < 60
    with pytest.raises(BackendLostError, match="the cluster failed"):
        classifier.predict(images)


def test_a_cluster_without_a_node_ends_the_run_within_a_minute(nodes, monkeypatch):
    assert calls.PATIENCE <= 30
    monkeypatch.setattr(calls, "PATIENCE", 2.0)
    classifier = Classifier(
        network(), backend=RayCluster(BackendOptions(ray_address=nodes.address)), screen=False
    )
    classifier.predict(images_of(40))

    def leave():
        time.sleep(0.5)
        for node in list(nodes.worker_nodes):
            nodes.remove_node(node, allow_graceful=False)

    thread = threading.Thread(target=leave)
    thread.start()
    began = time.monotonic()
    with pytest.raises(BackendLostError, match=NO_NODE):
        classifier.predict(images_of(2_000), Slowly(0.5))
    assert time.monotonic() - began < 35
    thread.join()


def test_nodes_that_do_not_answer_or_leave_at_the_start_end_the_run(nodes, monkeypatch, tmp_path):
    """The last one, with a node that leaves before it answers."""
    asked = tmp_path / "asked"
    monkeypatch.setattr(calls, "call_on_node", lambda *_: (asked.touch(), time.sleep(600)))
    calls._task.cache_clear()
    nodes.add_node(num_cpus=1)

    def leave():
        wait_until(asked.exists, seconds=100)
        for node in list(nodes.worker_nodes):
            nodes.remove_node(node, allow_graceful=False)

    thread = threading.Thread(target=leave)
    try:
        monkeypatch.setattr(calls, "STARTING", 1.0)
        with pytest.raises(
            BackendLostError, match="no node can work: none has answered within 1 s"
        ):
            RayCluster(BackendOptions(ray_address=nodes.address)).start()
        monkeypatch.setattr(calls, "STARTING", 100.0)
        thread.start()
        with pytest.raises(
            BackendLostError,
            match=r"no node can work: the last one was lost .*\(TaskUnschedulableError",
        ):
            RayCluster(BackendOptions(ray_address=nodes.address)).start()
    finally:
        calls._task.cache_clear()
        thread.join()
