"""Threads that run batches on one core each, accelerators, and screening.

Accelerators have large batches and no TF32.
"""

import os
import threading

import numpy as np
import pytest
import torch
from torch import nn
from zoo import images_of, network

from harness.inference import Classifier, devices, screening
from harness.inference.devices import batch_size, in_batches, moved, watched, without_tf32
from harness.inference.engine import Engine, Perturbed
from harness.inference.screening import clear_lead, lowered, multiplications_per_image
from harness.perturb import Pose, pose_each

CPU, CUDA, MPS = (torch.device(name) for name in ("cpu", "cuda", "mps"))


@pytest.mark.parametrize(
    ("shape", "device", "low", "expected"),
    [
        ((1, 28, 28), CPU, False, 32),
        ((1, 28, 28), CPU, True, 125),
        ((3, 64, 64), CPU, False, 32),
        ((3, 224, 224), CPU, False, 8),
        ((3, 224, 224), CPU, True, 16),
        ((3, 4000, 4000), CPU, False, 1),
        ((1, 28, 28), CUDA, False, 128),
        ((3, 224, 224), CUDA, True, 512),
        ((3, 224, 224), MPS, False, 128),
        ((3, 1024, 1024), CUDA, False, 16),
    ],
)
def test_batches_go_by_the_size_of_the_images_and_the_device(shape, device, low, expected):
    assert batch_size(shape, device, screening=low) == expected


@pytest.mark.parametrize("device", [CUDA, MPS, CPU], ids=str)
def test_pixels_go_to_cuda_from_pinned_memory(device):
    class Pixels:
        device, calls = CPU, ()

        def pin_memory(self):
            self.calls += ("pinned",)
            return self

        def to(self, device, **how):
            return (*self.calls, device, how)

    expected = ("pinned", CUDA, {"non_blocking": True}) if device == CUDA else (device, {})
    assert moved(Pixels(), device) == expected


def test_tf32_is_off_and_then_as_it_was(monkeypatch):
    settings = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [each.allow_tf32 for each in settings]
    with without_tf32():
        assert [each.allow_tf32 for each in settings] == [False, False]
    assert [each.allow_tf32 for each in settings] == before


class Narrow(nn.Module):
    """A network on a device whose memory takes three images."""

    def __init__(self):
        super().__init__()
        self.network, self.sizes = network(), []

    def forward(self, pixels):
        self.sizes.append(len(pixels))
        if len(pixels) > 3:
            raise torch.OutOfMemoryError("no room")
        return self.network(pixels)


def test_batches_halve_until_they_fit_and_the_cache_knows():
    images, narrow = images_of(40), Narrow()
    wide = Classifier(network(), workers=1)
    backend = Engine(narrow, device=CPU, workers=1)
    before = backend.decides

    inputs = wide.inputs(images)
    logits = backend.logits(inputs, classes=4, exact=True)
    np.testing.assert_allclose(logits, wide.predict(images).logits, rtol=1e-5, atol=1e-5)
    assert set(narrow.sizes) == {32, 16, 8, 4, 2}
    assert backend.decides != before
    narrow.sizes.clear()
    backend.logits(inputs, classes=4, exact=True)
    assert set(narrow.sizes) == {2}


def test_memory_that_is_short_for_one_image_is_an_error():
    class Full(nn.Module):
        def forward(self, pixels):
            raise torch.OutOfMemoryError("no room at all")

    with pytest.raises(Exception, match=r"the model failed on images .*no room at all"):
        Classifier(Full(), workers=1).predict(images_of(4))


@pytest.mark.parametrize("supported", [True, False])
def test_cuda_screens_where_it_has_bfloat16(monkeypatch, supported):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: supported)
    assert screening.has_bfloat16(CUDA) is supported
    assert not screening.has_bfloat16(MPS)


def names(batch):
    return threading.get_ident()


def test_results_come_in_the_order_of_the_batches():
    sums = in_batches(lambda batch: int(batch.sum()), np.arange(10), size=3, workers=3)
    assert sums == [3, 12, 21, 9]

    def outer(batch):
        return sum(in_batches(lambda inner: int(inner.sum()), batch, size=1, workers=2))

    assert in_batches(outer, np.arange(9), size=3, workers=2) == [3, 12, 21]
    told = []
    with watched(told.append):
        in_batches(torch.tensor, np.arange(10), size=4, workers=2)
    assert sorted(told) == [2, 4, 4]
    in_batches(torch.tensor, np.arange(10), size=4, workers=2)
    assert len(told) == 3

    def greedy(batch):
        found = torch.get_num_threads()
        torch.set_num_threads(3)
        return found

    before = torch.get_num_threads()
    for _ in range(2):
        assert in_batches(greedy, np.arange(1), size=1, workers=1) == [1]
    assert torch.get_num_threads() == before


def test_a_thread_that_hangs_is_left_behind(monkeypatch):
    monkeypatch.setattr("harness.inference.devices._PATIENCE", 0.05)
    gone = threading.Event()

    def hangs(batch):
        if batch[0] == 1:
            raise ValueError("enough")
        gone.wait(20)

    with pytest.raises(ValueError, match="enough"):
        in_batches(hangs, np.arange(2), size=1, workers=2)
    assert len(in_batches(names, np.arange(4), size=1, workers=2)) == 4
    gone.set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this platform")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_has_threads_of_its_own():
    in_batches(names, np.arange(2), size=1, workers=2)
    child = os.fork()
    if not child:
        os._exit(0 if in_batches(lambda batch: 7, np.arange(2), size=1, workers=2) == [7, 7] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_multiplications_and_leads_decide_when_to_screen():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 36, 5))
    assert multiplications_per_image(model, torch.zeros(1, 1, 8, 8)) == 36 * 2 * 9 + 72 * 5
    assert multiplications_per_image(nn.Linear(3, 3), torch.zeros(1, 1, 8, 8)) == 0
    screened = np.ones((250, 3), dtype=np.float32)
    assert clear_lead(screened, 0 * screened) == pytest.approx(4)
    assert clear_lead(screened[:64], 0 * screened[:64]) == pytest.approx(
        4 * np.log(250) / np.log(64)
    )
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 4)
    ).eval()
    pixels = images_of(5).pixels.float() / 255
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(lowered(model)(pixels), model(pixels))
    assert all(weights.dtype == torch.float32 for weights in model.parameters())


@pytest.mark.parametrize(
    ("count", "work", "expected"),
    [
        (63, 10**12, False),
        (64, 10**12, True),
        (100, 10**9, True),
        (250, 10**6, False),
        (251, 10**6, True),
        (251, 0, True),
    ],
)
def test_screening_is_decided_by_what_it_saves(monkeypatch, count, work, expected):
    monkeypatch.setattr(screening, "has_bfloat16", lambda _: True)
    monkeypatch.setattr(screening, "multiplications_per_image", lambda model, image: work)
    backend = Engine(network(), device=CPU, workers=1)
    backend.measure_precision_on(Perturbed(images_of(4).pixels, np.arange(4), CPU), name="some")
    assert backend.screens_for(count) is expected


@pytest.mark.parametrize("far", [False, True], ids=["as-measured", "farther"])
def test_a_large_network_that_is_farther_off_runs_in_float32(monkeypatch, far):
    """The answer that leads the least is done again.

    If it is farther off than measured, all are float32's.
    """
    monkeypatch.setattr(screening, "has_bfloat16", lambda _: True)
    monkeypatch.setattr(screening, "multiplications_per_image", lambda model, image: 10**9)

    class Off(nn.Module):
        """In bfloat16 off by a thousandth, and by 5 for images of a mean.

        All logits alike, so no margin shows it.
        """

        def __init__(self, mean):
            super().__init__()
            self.networks, self.mean = (
                [network()],
                mean,
            )  # Within a list its weights stay unchanged.

        def forward(self, pixels):
            logits = self.networks[0](pixels)
            if not torch.is_autocast_enabled("cpu"):
                return logits
            with torch.autocast("cpu", enabled=False):
                marked = ((pixels.mean((1, 2, 3)) - self.mean).abs() < 1e-6)[:, None] & far
                return self.networks[0](pixels.float()) + 1e-3 + 5 * marked

    images = images_of(100)
    exact = Classifier(network(), workers=1, screen=False).predict(images)
    runner_up, first = np.sort(exact.logits, axis=1)[:, -2:].T
    least = 64 + int((first - runner_up)[64:].argmin())
    classifier = Classifier(Off(float(images.pixels[least].float().mean() / 255)), workers=1)
    classifier.measure_precision_on(images.take(torch.arange(64)))
    found = classifier.predict(images)
    assert np.array_equal(found.predicted, exact.predicted)
    assert np.allclose(found.answers, exact.answers, rtol=0, atol=5e-4) is far


def test_clear_answers_are_done_again_only_when_their_logits_are_wanted(monkeypatch):
    monkeypatch.setattr(screening, "has_bfloat16", lambda _: True)

    class Counting(nn.Module):
        """Counts images other than padding in float32.

        One lead that is clear, in bfloat16 a thousandth off.
        """

        def __init__(self):
            super().__init__()
            self.exactly = []

        def forward(self, pixels):
            logits = pixels.flatten(1).mean(1, keepdim=True) + torch.tensor([[0.0, 9.0, 0.0, 0.0]])
            if torch.is_autocast_enabled("cpu"):
                return logits + 1e-3 * torch.tensor([[0.0, 1.0, 0.0, 0.0]])
            self.exactly.append(int(pixels.flatten(1).any(1).sum()))
            return logits

    images, model = images_of(300), Counting()
    classifier, reference = (
        Classifier(model, workers=1),
        Classifier(model, workers=1, screen=False).predict(images),
    )
    counted = classifier.plain.exactly

    def done_again():
        count = sum(counted)
        counted.clear()
        return count

    found = classifier.predict(images)
    assert done_again() == screening.TRIED
    wrong = np.flatnonzero(~found.correct)
    assert (found.confidence_as_answered > found.confidence_of_errors()).all()
    assert (found.confidence_of_errors() == reference.confidence_of_errors()).all()
    assert (found.probabilities_at(wrong[:2]) == reference.probabilities_at(wrong[:2])).all()
    assert done_again() == len(wrong) < 300
    assert (found.probabilities_at(np.arange(2)) == reference.probabilities_at(np.arange(2))).all()
    assert done_again() == 300


def test_an_accelerator_is_fed_by_one_thread_with_large_batches(monkeypatch):
    """This machine's processor counts as one."""
    monkeypatch.setattr(devices, "is_accelerator", lambda _: True)
    images, fed = images_of(300), []

    class Fed(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network()

        def forward(self, pixels):
            fed.append((threading.get_ident(), len(pixels)))
            return self.network(pixels)

    classifier = Classifier(Fed(), workers=4, screen=False)
    assert classifier.workers == 1
    found = classifier.predict(images, Pose(7.0, 1.0, -2.0))
    assert {size for _, size in fed} == {devices.ACCELERATOR_BATCHES[0]}
    assert len({thread for thread, _ in fed}) == 1
    monkeypatch.undo()
    expected = Classifier(network(), workers=2, screen=False).predict(images, Pose(7.0, 1.0, -2.0))
    np.testing.assert_allclose(found.logits, expected.logits, atol=1e-4)


def present_devices():
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return [
        pytest.param(name, marks=pytest.mark.skipif(not there, reason=f"there is no {name} device"))
        for name, there in found.items()
    ]


@pytest.mark.parametrize("device", present_devices())
def test_a_device_gives_the_answers_of_the_processor(device):
    images = images_of(300)
    ours, reference = (Classifier(network(), device=each) for each in (device, "cpu"))
    assert ours.workers == 1
    for perturbation in (Pose(), Pose(7.0, 1.0, -2.0)):
        found, expected = (
            ours.predict(images, perturbation),
            reference.predict(images, perturbation),
        )
        np.testing.assert_allclose(found.logits, expected.logits, atol=1e-3)
        assert (found.predicted != expected.predicted).sum() <= 1


@pytest.mark.parametrize("device", present_devices())
def test_poses_on_a_device_are_those_of_the_processor(device):
    pixels = images_of(4).pixels.float() / 255
    degrees, dx, dy = torch.tensor([7.0, -30.0, 90.0, 0.0]), torch.zeros(4), torch.ones(4)
    moved_there = pose_each(
        pixels.to(device), degrees.to(device), dx.to(device), dy.to(device)
    ).cpu()
    assert torch.allclose(moved_there, pose_each(pixels, degrees, dx, dy), atol=1e-6)
