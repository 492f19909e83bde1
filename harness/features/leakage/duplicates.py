"""Near-duplicates of images.

Small descriptors find candidates, and a comparison of aligned pixels judges them. Re-encoded,
resized, slightly cropped and flipped copies count. No model is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, interpolate, pad

from harness.base.progress import Progress
from harness.data.rows import parts_of

SIDE = 32
"""Height and width of images in the comparison; larger ones are made smaller."""
_CELLS = 12
"""Cells of a descriptor in each direction."""
_QUERIES = 512
"""Images whose nearest others are searched at a time."""
_ROWS = 8_192
"""Images that a search compares them with at a time."""
NEIGHBORS = 8
"""Candidates of an image: the nearest by their descriptors."""
_REFERENCE = 2
"""Position of the candidate whose distance is the unit of the nearest one's."""
_STEPS = 5
"""Steps of an alignment."""
_STEP = 0.1
"""Largest change of a scale or shift in a step."""
_RIM = 2
"""Pixels at the rim that do not count."""
SMALLEST = 4 * _RIM
"""The fewest pixels in each direction that leave enough inside the rim."""
_SMALL = 1e-6
"""Smallest divisor."""
_COPY = 1e-3
"""Largest distance of a plain copy."""
_CERTAIN = 0.1
"""Ratio below which any image is a copy."""
_CROP = 0.05
_CORNERS = [(x, y) for x in (-_CROP, _CROP) for y in (-_CROP, _CROP)]
_VIEWS = [
    (1.0, 0.0, 0.0),
    (1 - _CROP, 0.0, 0.0),
    *((1 - _CROP, x, y) for x, y in _CORNERS),
]
"""Scale and shift of the views that the search compares: whole, cropped at center and corners."""
_LEVENBERG = 1e-4
"""Addend to the curvature in each step of an alignment, which may be singular."""
_RIDGE = 1e-5
"""Addend to the squares of the sharpness's basis, as a share of their mean."""


@dataclass(frozen=True)
class Nearest:
    """The nearest of other images for each of N images, (N,): its position and its distance.

    The distance is that of the aligned pixels. `ratio` divides it by the distance of a further
    neighbor of the same image. It means the same in dense and in sparse places: near 1 for images
    of one kind, and near 0 for a copy.
    """

    position: np.ndarray
    distance: np.ndarray
    ratio: np.ndarray


@dataclass(frozen=True)
class Leaks:
    """The nearest training image of each test image, and which of them are near-duplicates.

    Near-duplicates, `found`, (N,) bool, have a ratio below the `threshold`. `copies` is the number
    of those without any visible change, and `inside` is the number of test images with a copy among
    the others. `p` is the probability of so many near-duplicates by chance.
    """

    nearest: Nearest
    threshold: float
    found: np.ndarray
    copies: int
    inside: int
    p: float


def small(pixels: Tensor) -> Tensor:
    """Return images, (N, C, H, W) uint8, of at most `SIDE` pixels in each direction, also uint8.

    Colors lose their detail, as in a JPEG.
    """
    count, channels, height, width = pixels.shape
    shape = (count, channels, min(height, SIDE), min(width, SIDE))
    images = torch.empty(shape, dtype=torch.uint8)
    for part in parts_of(count, channels * height * width * 4):
        resized = interpolate(pixels[part].float(), shape[2:], mode="area")
        gray = resized.mean(dim=1, keepdim=True)
        colors = _blur(_blur(resized - gray))
        images[part] = (gray + colors).clamp(0, 255).round().to(torch.uint8)
    return images


def varied(images: Tensor) -> Tensor:
    """Return which images, (N, C, H, W) uint8, have more than one color inside the rim, (N,) bool.

    Images of one color resemble nothing.
    """
    inside = images[:, :, _RIM:-_RIM, _RIM:-_RIM].flatten(2)
    return (inside.amax(dim=2) > inside.amin(dim=2)).any(dim=1)


def leaked(test: Tensor, training: Tensor, chance: float) -> Leaks:
    """Return the near-duplicates of test images among the training images.

    Args:
        test: The test images, (N, C, H, W) uint8.
        training: The training images, (M, C, H, W) uint8.
        chance: The share of test images, with their neighbors in the test set, whose ratio is below
            the threshold. Copies among those do not count, because they would lower it.
    """
    from scipy.stats import betabinom

    own = nearest(test, test, same=True, desc="test images")
    copied = (own.distance <= _COPY) | (own.ratio < _CERTAIN)
    distinct = own.ratio[~copied]
    threshold = _CERTAIN
    if len(distinct):
        threshold = float(np.quantile(distinct, chance))

    others = nearest(test, training, desc="training images")
    copies = others.distance <= _COPY
    found = copies | (others.ratio < threshold)

    # A share that an order statistic of n values cuts off has a beta distribution, and is not
    # exactly `chance`.
    below = int((distinct < threshold).sum())
    above = max(len(distinct) - below, 1)
    p = float(betabinom.sf(found.sum() - 1, len(found), below + 1, above))
    return Leaks(others, threshold, found, int(copies.sum()), int(copied.sum()), p)


def nearest(images: Tensor, others: Tensor, *, same: bool = False, desc: str = "") -> Nearest:
    """Return the nearest of the other images, both (N, C, H, W) uint8, for each image.

    If both are the `same` images, none is its own neighbor. Memory does not grow with the product
    of the numbers.
    """
    count = min(NEIGHBORS, len(others) - same)
    parts = parts_of(len(others), others[0].numel() * 4)
    descriptors = torch.cat([_descriptors(others[part].float()) for part in parts])
    positions: list[Tensor] = []
    distances: list[Tensor] = []
    with Progress(total=len(images), unit="image", desc=desc, delay=2) as bar:
        for start in range(0, len(images), _QUERIES):
            block = images[start : start + _QUERIES].float()
            own = start if same else None
            candidates, views = _candidates(block, descriptors, count, own=own)
            away = _distances(_seen(block, views), others[candidates.flatten()].float())
            away, order = away.view(len(block), count).sort(dim=1)
            positions.append(candidates.gather(1, order)[:, 0])
            distances.append(away)
            bar.update(len(block))

    position, distance = torch.cat(positions).numpy(), torch.cat(distances).numpy()
    unit = np.maximum(distance[:, min(_REFERENCE, count - 1)], _SMALL)
    return Nearest(position, distance[:, 0], distance[:, 0] / unit)


def _seen(block: Tensor, views: Tensor) -> Tensor:
    """Return the images of a block in views, (B, K): one image for each, (B·K, C, H, W).

    The number of a view is twice that of its scale and shift, and odd if it is flipped.
    """
    queries = torch.arange(len(block)).repeat_interleave(views.shape[1])
    flipped = views.flatten() % 2 == 1
    scales = torch.tensor(_VIEWS)[views.flatten() // 2]
    shown = block[queries]
    shown[flipped] = shown[flipped].flip(3)
    return _warped(shown, scales)


def _descriptors(images: Tensor) -> Tensor:
    """Return a vector of unit length for each image, whatever its brightness and contrast."""
    cells = interpolate(images, (_CELLS, _CELLS), mode="area").flatten(1)
    cells = cells - cells.mean(dim=1, keepdim=True)
    vectors: Tensor = cells / cells.norm(dim=1, keepdim=True).clamp_min(_SMALL)
    return vectors


def _candidates(
    block: Tensor, descriptors: Tensor, count: int, *, own: int | None
) -> tuple[Tensor, Tensor]:
    """Return the most similar images for each of a block, and the views in which they are similar.

    Args:
        block: The images, (B, C, H, W).
        descriptors: Those of the other images, (M, V).
        count: How many to return for each image, K.
        own: Position of the first image of the block among the others; None if it is not there.

    Returns:
        Positions among the others and numbers of views, (B, K) each.
    """
    views = _descriptors_of_views(block)
    best = torch.full((len(block), 0), -1.0)
    positions = torch.empty((len(block), 0), dtype=torch.int64)
    numbers = torch.empty((len(block), 0), dtype=torch.int64)
    for start in range(0, len(descriptors), _ROWS):
        rows = descriptors[start : start + _ROWS].T
        similarities, view = _most_similar_views(views, rows)
        if own is not None:
            itself = torch.arange(own, own + len(block)) - start
            inside = (itself >= 0) & (itself < rows.shape[1])
            similarities[inside, itself[inside]] = -2.0

        values, place = similarities.topk(min(count, rows.shape[1]), dim=1)
        best = torch.cat([best, values], dim=1)
        positions = torch.cat([positions, place + start], dim=1)
        numbers = torch.cat([numbers, view.gather(1, place)], dim=1)

        best, order = best.topk(min(count, best.shape[1]), dim=1)
        positions = positions.gather(1, order)
        numbers = numbers.gather(1, order)
    return positions, numbers


def _descriptors_of_views(block: Tensor) -> list[Tensor]:
    """Return the descriptors of a block's views, (B, V) each: unchanged and flipped in turn."""
    descriptors = []
    for view in _VIEWS:
        scales = torch.tensor([view]).expand(len(block), 3)
        descriptors += [
            _descriptors(_warped(block, scales)),
            _descriptors(_warped(block.flip(3), scales)),
        ]
    return descriptors


def _most_similar_views(views: list[Tensor], rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest similarity over views to each of R others, (B, R), and the view."""
    similarities = views[0] @ rows
    numbers = torch.zeros(similarities.shape, dtype=torch.int64)
    for number, view in enumerate(views[1:], start=1):
        of_view = view @ rows
        numbers[of_view > similarities] = number
        similarities = torch.maximum(similarities, of_view)
    return similarities, numbers


def _warped(images: Tensor, transforms: Tensor) -> Tensor:
    """Return images, (P, C, H, W), each scaled and shifted.

    `transforms`, (P, 3), are a scale and the shifts to the right and down, or, (P, 4), the scales
    of both axes and the shifts.
    """
    *scales, x, y = transforms.unbind(1)
    x_scale, y_scale = scales[0], scales[-1]
    zero = torch.zeros_like(x)
    matrices = torch.stack([x_scale, zero, x, zero, y_scale, y], dim=1).view(-1, 2, 3)
    grid = affine_grid(matrices, list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)


def _centered(images: Tensor) -> Tensor:
    """Return the pixels inside the rim as vectors without their mean, (P, V)."""
    inside = images[:, :, _RIM:-_RIM, _RIM:-_RIM].flatten(1)
    return inside - inside.mean(dim=1, keepdim=True)


def _distances(images: Tensor, others: Tensor) -> Tensor:
    """Return the share of each image's variance that the other one does not explain, (P,).

    The other image is aligned first, and made equally sharp.
    """
    aligned = _aligned(images, others)
    return torch.minimum(_unexplained(images, aligned), _unexplained(aligned, images))


def _aligned(images: Tensor, others: Tensor) -> Tensor:
    """Return the other images, (P, C, H, W), scaled and shifted to resemble the images.

    The steps are those of Gauss and Newton on normalized pixels: a linear approximation of the
    other image by its slopes, solved for scales and shifts.
    """
    transforms = torch.tensor([1.0, 1.0, 0.0, 0.0]).repeat(len(images), 1)
    target = _centered(images)
    target = target / target.norm(dim=1, keepdim=True).clamp_min(_SMALL)
    best = torch.full((len(images),), -1.0)
    aligned = others
    for step in range(_STEPS + 1):
        moved = _warped(others, transforms)
        seen = _centered(moved)
        length = seen.norm(dim=1, keepdim=True).clamp_min(_SMALL)
        seen = seen / length

        similarity = (target * seen).sum(dim=1)
        is_better = (similarity > best).view(-1, 1, 1, 1)
        aligned = torch.where(is_better, moved, aligned)
        best = torch.maximum(best, similarity)
        if step < _STEPS:
            slopes = _slopes(moved) / length[:, None]
            # Of a normalized image, only what is at a right angle to it changes.
            slopes = slopes - (slopes * seen[:, None]).sum(dim=2, keepdim=True) * seen[:, None]
            curvature = slopes @ slopes.transpose(1, 2) + _LEVENBERG * torch.eye(4)
            gradient = slopes @ (target - seen)[:, :, None]
            change = torch.linalg.solve(curvature, gradient)[:, :, 0]
            transforms = transforms + change.clamp(-_STEP, _STEP)
    return aligned


def _slopes(images: Tensor) -> Tensor:
    """Return how pixels change with the scales of both axes and with the shifts, (P, 4, V)."""
    height, width = images.shape[2:]
    xs = torch.linspace(-1, 1, width).view(1, 1, 1, -1)
    ys = torch.linspace(-1, 1, height).view(1, 1, -1, 1)
    rim = pad(images, (1, 1, 1, 1), mode="replicate")
    dx = (rim[:, :, 1:-1, 2:] - rim[:, :, 1:-1, :-2]) * (width / 4)
    dy = (rim[:, :, 2:, 1:-1] - rim[:, :, :-2, 1:-1]) * (height / 4)
    slopes = [_centered(slope) for slope in (dx * xs, dy * ys, dx, dy)]
    return torch.stack(slopes, dim=1)


def _unexplained(images: Tensor, others: Tensor) -> Tensor:
    """Return the share of the variance that the other image, blurred or not, leaves, (P,).

    Least squares fit a weighted sum of the other image and of two blurred copies.
    """
    blurred = _blur(others)
    copies = (others, blurred, _blur(blurred))
    basis = torch.stack([_centered(copy) for copy in copies], dim=1)
    target = _centered(images)

    gram = basis @ basis.transpose(1, 2)
    mean_square = gram.diagonal(dim1=1, dim2=2).mean(dim=1).clamp_min(_SMALL)
    gram = gram + _RIDGE * mean_square.view(-1, 1, 1) * torch.eye(3)
    weights = torch.linalg.solve(gram, basis @ target[:, :, None])

    residual = target - (weights * basis).sum(dim=1)
    variance = target.square().sum(dim=1).clamp_min(_SMALL)
    share: Tensor = residual.square().sum(dim=1) / variance
    return share


def _blur(images: Tensor) -> Tensor:
    """Return images blurred by the weights 1, 2, 1 in each direction."""
    padded = pad(images, (1, 1, 1, 1), mode="replicate")
    return avg_pool2d(avg_pool2d(padded, 2, stride=1), 2, stride=1)
