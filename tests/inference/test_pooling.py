"""Two by two pooling as maxima: the same values, wherever it stands in the network's code."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from harness.inference.graph import folded, max_of_two_by_two, pooled_by_maxima


class Net(nn.Module):
    def __init__(self, pool):
        super().__init__()
        self.pool = pool

    def forward(self, pixels):
        return self.pool(pixels)


SAME = {
    "function": lambda x: functional.max_pool2d(x, 2),
    "method-of-torch": lambda x: torch.max_pool2d(x, 2),
    "keywords": lambda x: functional.max_pool2d(x, kernel_size=(2, 2), stride=2),
    "layer": nn.MaxPool2d(2),
    "layer-of-pairs": nn.MaxPool2d((2, 2), stride=(2, 2)),
}
OTHER = {
    "three": lambda x: functional.max_pool2d(x, 3),
    "stride": lambda x: functional.max_pool2d(x, 2, 1),
    "padding": nn.MaxPool2d(2, padding=1),
    "threshold": nn.MaxPool2d(2, ceil_mode=True),
    "threshold-of-function": lambda x: functional.max_pool2d(x, 2, ceil_mode=True),
    "dilation": nn.MaxPool2d(2, dilation=2),
}


@pytest.mark.parametrize("size", [(8, 8), (7, 9)], ids=str)
@pytest.mark.parametrize("name", [*SAME, *OTHER])
def test_pooling_gives_the_same_bits(name, size):
    plain = Net((SAME | OTHER)[name])
    images = torch.randn(
        3, 4, *(each + 4 for each in size), generator=torch.Generator().manual_seed(0)
    )
    images = images.contiguous(memory_format=torch.channels_last)
    model = pooled_by_maxima(folded(plain))
    replaced = any(node.target is max_of_two_by_two for node in model.graph.nodes)
    assert replaced == (name in SAME and name != "method-of-torch")
    assert torch.equal(model(images), plain(images))
    traced_again = folded(model)
    assert torch.equal(traced_again(images), plain(images))


def test_gradients_and_refusals_are_those_of_pooling():
    images = torch.ones(1, 1, 2, 2).contiguous(memory_format=torch.channels_last).requires_grad_()
    max_of_two_by_two(images).sum().backward()
    assert images.grad.flatten().tolist() == [1, 0, 0, 0]
    with pytest.raises(RuntimeError, match="too small"):
        max_of_two_by_two(torch.zeros(1, 1, 1, 4))
