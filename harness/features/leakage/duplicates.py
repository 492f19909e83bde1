"""Near-duplicates of images: small descriptors find candidates, and a comparison of aligned pixels judges them.

Re-encoded, resized, slightly cropped and flipped copies count. No model is needed.
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
_CELLS, _QUERIES, _ROWS = 12, 512, 8_192
"""Cells of a descriptor in each direction, and images in a block of the search."""
NEIGHBORS, _REFERENCE = 8, 2
"""Candidates of an image, the nearest by their descriptors; the one after so many is the unit of the distance."""
_STEPS, _STEP, _RIM = 5, 0.1, 2
"""Steps of an alignment, the largest change in one, and pixels at the rim that do not count."""
SMALLEST = 4 * _RIM
"""The fewest pixels in each direction that leave enough inside the rim."""
_SMALL, _COPY, _CERTAIN = 1e-6, 1e-3, 0.1
"""The smallest divisor, the largest distance of a plain copy, and a ratio below which any image is a copy."""
_CROP = 0.05
_VIEWS = [(1.0, 0.0, 0.0), (1 - _CROP, 0.0, 0.0)]
_VIEWS += [(1 - _CROP, x, y) for x in (-_CROP, _CROP) for y in (-_CROP, _CROP)]
"""Scale and shift of the views of an image that the search compares: whole, and crops at the center and corners."""


@dataclass(frozen=True)
class Nearest:
    """The nearest of other images for each of N images: its position, and the distance of the aligned pixels.

    `ratio` divides that by the distance of a further neighbor of the same image. It means the same in dense and in
    sparse places: near 1 for images of one kind, and near 0 for a copy.
    """

    position: np.ndarray
    distance: np.ndarray
    ratio: np.ndarray


@dataclass(frozen=True)
class Leaks:
    """The nearest training image of each test image, and which of them are near-duplicates: those below a threshold.

    `copies` are those without any visible change, and `inside` is the number of test images with a copy among the
    others. `p` is the probability of so many near-duplicates by chance.
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
    made = torch.empty((count, channels, min(height, SIDE), min(width, SIDE)), dtype=torch.uint8)
    for part in parts_of(count, channels * height * width * 4):
        each = interpolate(pixels[part].float(), made.shape[2:], mode="area")
        gray = each.mean(dim=1, keepdim=True)
        made[part] = (gray + _blur(_blur(each - gray))).clamp(0, 255).round().to(torch.uint8)
    return made


def varied(images: Tensor) -> Tensor:
    """Return which images, (N, C, H, W) uint8, have more than one color inside the rim; others resemble nothing."""
    inside = images[:, :, _RIM:-_RIM, _RIM:-_RIM].flatten(2)
    return (inside.amax(dim=2) > inside.amin(dim=2)).any(dim=1)


def leaked(test: Tensor, training: Tensor, chance: float) -> Leaks:
    """Return the near-duplicates of test images among the training images.

    Below the threshold are so many of the test images with their neighbors in the test set, without copies among those:
    they would lower it. It is not below what a copy has in any set.
    """
    from scipy.stats import betabinom

    own = nearest(test, test, same=True, desc="test images")
    copied = (own.distance <= _COPY) | (own.ratio < _CERTAIN)
    distinct = own.ratio[~copied]
    threshold = float(np.quantile(distinct, chance)) if len(distinct) else _CERTAIN
    others = nearest(test, training, desc="training images")
    copies = others.distance <= _COPY
    found = copies | (others.ratio < threshold)
    # A share that an order statistic of n values cuts off has a beta distribution, and is not exactly `chance`.
    below = int((distinct < threshold).sum())
    p = float(betabinom.sf(found.sum() - 1, len(found), below + 1, max(len(distinct) - below, 1)))
    return Leaks(others, threshold, found, int(copies.sum()), int(copied.sum()), p)


def nearest(images: Tensor, others: Tensor, *, same: bool = False, desc: str = "") -> Nearest:
    """Return the nearest of the other images, both (N, C, H, W) uint8, for each image.

    If both are the `same` images, none is its own neighbor. Memory does not grow with the product of the numbers.
    """
    many = min(NEIGHBORS, len(others) - same)
    known = torch.cat(
        [
            _descriptors(others[part].float())
            for part in parts_of(len(others), others[0].numel() * 4)
        ]
    )
    found: list[tuple[Tensor, Tensor]] = []
    with Progress(total=len(images), unit="image", desc=desc, delay=2) as bar:
        for start in range(0, len(images), _QUERIES):
            block = images[start : start + _QUERIES].float()
            at, view = _candidates(block, known, many, own=start if same else None)
            queries = torch.arange(len(block)).repeat_interleave(many)
            mirrored, scales = view.flatten() % 2 == 1, torch.tensor(_VIEWS)[view.flatten() // 2]
            shown = block[queries]
            shown[mirrored] = shown[mirrored].flip(3)
            away = _distances(_warped(shown, scales), others[at.flatten()].float()).view(
                len(block), many
            )
            away, order = away.sort(dim=1)
            found.append((at.gather(1, order)[:, 0], away))
            bar.update(len(block))
    position, distance = (torch.cat(each).numpy() for each in zip(*found, strict=True))
    unit = np.maximum(distance[:, min(_REFERENCE, many - 1)], _SMALL)
    return Nearest(position, distance[:, 0], distance[:, 0] / unit)


def _descriptors(images: Tensor) -> Tensor:
    """Return a vector of unit length for each image, whatever its brightness and contrast."""
    cells = interpolate(images, (_CELLS, _CELLS), mode="area").flatten(1)
    cells = cells - cells.mean(dim=1, keepdim=True)
    vectors: Tensor = cells / cells.norm(dim=1, keepdim=True).clamp_min(_SMALL)
    return vectors


def _candidates(
    block: Tensor, known: Tensor, many: int, *, own: int | None
) -> tuple[Tensor, Tensor]:
    """Return the most similar images for each of a block, (B, K), and the number of the view that is similar."""
    views = [
        _descriptors(_warped(each, torch.tensor([view]).expand(len(block), 3)))
        for view in _VIEWS
        for each in (block, block.flip(3))
    ]
    best = torch.full((len(block), 0), -1.0)
    at = view = torch.empty((len(block), 0), dtype=torch.int64)
    for start in range(0, len(known), _ROWS):
        rows = known[start : start + _ROWS].T
        similar, which = (
            views[0] @ rows,
            torch.zeros((len(block), rows.shape[1]), dtype=torch.int64),
        )
        for number, each in enumerate(views[1:], start=1):
            other = each @ rows
            which[other > similar] = number
            similar = torch.maximum(similar, other)
        if own is not None:
            mine = torch.arange(own, own + len(block)) - start
            inside = (mine >= 0) & (mine < rows.shape[1])
            similar[inside, mine[inside]] = -2.0
        values, place = similar.topk(min(many, rows.shape[1]), dim=1)
        best = torch.cat([best, values], dim=1)
        at, view = (
            torch.cat([at, place + start], dim=1),
            torch.cat([view, which.gather(1, place)], dim=1),
        )
        best, order = best.topk(min(many, best.shape[1]), dim=1)
        at, view = at.gather(1, order), view.gather(1, order)
    return at, view


def _warped(images: Tensor, how: Tensor) -> Tensor:
    """Return images, (P, C, H, W), scaled and shifted by (P, 3), or by scales and shifts of both axes, (P, 4)."""
    sx, sy, x, y = how.unbind(1) if how.shape[1] == 4 else (how[:, 0], *how.unbind(1))  # noqa: PLR2004
    zero = torch.zeros_like(sx)
    grid = affine_grid(
        torch.stack([sx, zero, x, zero, sy, y], dim=1).view(-1, 2, 3),
        list(images.shape),
        align_corners=False,
    )
    return grid_sample(images, grid, padding_mode="border", align_corners=False)


def _centered(images: Tensor) -> Tensor:
    """Return the pixels inside the rim as vectors without their mean, (P, V)."""
    inside = images[:, :, _RIM:-_RIM, _RIM:-_RIM].flatten(1)
    return inside - inside.mean(dim=1, keepdim=True)


def _distances(images: Tensor, others: Tensor) -> Tensor:
    """Return the share of each image's variance that the other image, aligned and equally sharp, does not explain.

    The alignment is by scales and shifts, by the steps of Gauss and Newton on normalized pixels.
    """
    height, width = images.shape[2:]
    xs, ys = (
        torch.linspace(-1, 1, width).view(1, 1, 1, -1),
        torch.linspace(-1, 1, height).view(1, 1, -1, 1),
    )
    how = torch.tensor([1.0, 1.0, 0.0, 0.0]).repeat(len(images), 1)
    target = _centered(images)
    target = target / target.norm(dim=1, keepdim=True).clamp_min(_SMALL)
    best, aligned = torch.full((len(images),), -1.0), others
    for step in range(_STEPS + 1):
        moved = _warped(others, how)
        seen = _centered(moved)
        length = seen.norm(dim=1, keepdim=True).clamp_min(_SMALL)
        seen = seen / length
        alike = (target * seen).sum(dim=1)
        aligned = torch.where((alike > best).view(-1, 1, 1, 1), moved, aligned)
        best = torch.maximum(best, alike)
        if step < _STEPS:
            rim = pad(moved, (1, 1, 1, 1), mode="replicate")
            dx = (rim[:, :, 1:-1, 2:] - rim[:, :, 1:-1, :-2]) * (width / 4)
            dy = (rim[:, :, 2:, 1:-1] - rim[:, :, :-2, 1:-1]) * (height / 4)
            slopes = (
                torch.stack([_centered(each) for each in (dx * xs, dy * ys, dx, dy)], dim=1)
                / length[:, None]
            )
            slopes = slopes - (slopes * seen[:, None]).sum(dim=2, keepdim=True) * seen[:, None]
            curved = slopes @ slopes.transpose(1, 2) + 1e-4 * torch.eye(4)
            change = torch.linalg.solve(curved, slopes @ (target - seen)[:, :, None])[:, :, 0]
            how = how + change.clamp(-_STEP, _STEP)
    return torch.minimum(_unexplained(images, aligned), _unexplained(aligned, images))


def _unexplained(images: Tensor, others: Tensor) -> Tensor:
    """Return the share of the variance that no sum of the other image and blurred copies of it explains, (P,)."""
    blurred = _blur(others)
    basis = torch.stack([_centered(each) for each in (others, blurred, _blur(blurred))], dim=1)
    target = _centered(images)
    gram = basis @ basis.transpose(1, 2)
    gram = gram + 1e-5 * gram.diagonal(dim1=1, dim2=2).mean(dim=1).clamp_min(_SMALL).view(
        -1, 1, 1
    ) * torch.eye(3)
    weights = torch.linalg.solve(gram, basis @ target[:, :, None])
    rest = target - (weights * basis).sum(dim=1)
    share: Tensor = rest.square().sum(dim=1) / target.square().sum(dim=1).clamp_min(_SMALL)
    return share


def _blur(images: Tensor) -> Tensor:
    """Return images blurred by the weights 1, 2, 1 in each direction."""
    return avg_pool2d(
        avg_pool2d(pad(images, (1, 1, 1, 1), mode="replicate"), 2, stride=1), 2, stride=1
    )
