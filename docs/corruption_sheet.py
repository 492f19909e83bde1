"""A picture of every corruption at every severity.

Run `python docs/corruption_sheet.py docs/corruptions.webp`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from harness.perturb.corruptions import CORRUPTIONS, SEVERITIES, Corruption
from harness.report.figures import figure, styled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure
    from torch import Tensor

_SHOWN = (0, 23)
"""An ankle boot and a sandal of Fashion-MNIST's test images: fine lines, and gray on black."""


@styled
def corruption_sheet(images: Tensor) -> Figure:
    """Draw each corruption on one image, clean and at severities 1 to 5, in a row.

    The images, (M, C, H, W) in [0, 1], take turns. The rows stand in two halves, side by side.
    """
    names, levels = list(CORRUPTIONS), (0, *SEVERITIES)
    half = -(-len(names) // 2)
    picture = figure(width=2 * len(levels) * 0.62 + 2.6, height=half * 0.62 + 0.3)
    grid = picture.subplots(half, 2 * len(levels), squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for number, name in enumerate(names):
        row, start = number % half, len(levels) * (number // half)
        image = images[number % len(images)][None]
        for column, severity in enumerate(levels):
            axes = grid[row, start + column]
            shown = Corruption(name, severity)(image)[0].permute(1, 2, 0).numpy()
            axes.imshow(shown if shown.shape[2] > 1 else shown[..., 0], cmap="gray", vmin=0, vmax=1)
            if row == 0:
                axes.set_title(str(severity or "clean"), fontsize=9)
        grid[row, start].text(
            -0.1,
            0.5,
            name.replace("-", " "),
            ha="right",
            va="center",
            fontsize=9,
            transform=grid[row, start].transAxes,
        )
    return picture


def main(arguments: Sequence[str]) -> None:
    """Write the picture of Fashion-MNIST's corruptions to the file named."""
    from harness.data import load_images
    from harness.data.images import unit_range

    (path,) = arguments
    images = unit_range(load_images("fashion-mnist").pixels[list(_SHOWN)])
    corruption_sheet(images).savefig(path, dpi=90, pil_kwargs={"quality": 60, "method": 6})


if __name__ == "__main__":
    main(sys.argv[1:])
