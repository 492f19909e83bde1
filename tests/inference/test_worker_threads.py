"""Threads that run batches: in order, on one core each; they may be left behind, and may ask for more of themselves."""

import os
import threading

import numpy as np
import pytest
import torch

from harness.inference.devices import in_batches


def names(batch):
    return threading.get_ident()


def test_results_come_in_the_order_of_the_batches():
    sums = in_batches(lambda batch: int(batch.sum()), np.arange(10), size=3, workers=3)
    assert sums == [3, 12, 21, 9]


def test_work_may_ask_for_work_side_by_side():
    def outer(batch):
        return sum(in_batches(lambda inner: int(inner.sum()), batch, size=1, workers=2))

    assert in_batches(outer, np.arange(9), size=3, workers=2) == [3, 12, 21]


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


def test_a_batch_computes_on_one_thread_whatever_the_one_before_has_set():
    def greedy(batch):
        found = torch.get_num_threads()
        torch.set_num_threads(3)
        return found

    before = torch.get_num_threads()
    for _ in range(2):
        assert in_batches(greedy, np.arange(1), size=1, workers=1) == [1]
    assert torch.get_num_threads() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this platform")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_has_threads_of_its_own():
    in_batches(names, np.arange(2), size=1, workers=2)
    child = os.fork()
    if not child:
        os._exit(0 if in_batches(lambda batch: 7, np.arange(2), size=1, workers=2) == [7, 7] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
