"""Speed of predictions with Grad-CAM, compared with the two common libraries."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from benchmarks.speed.peers import captums_maps, grad_cams_maps
from benchmarks.speed.result import Result
from benchmarks.speed.stopwatch import cores, timed
from harness.data import LabelledImages
from harness.inference import Classifier
from harness.inference.attention import attend

BATCH = 125


def attention(model: nn.Module, images: LabelledImages) -> Iterator[Result]:
    """Measure predictions with Grad-CAM of one layer, against the two well-known libraries, which must be installed."""
    layer = "bn3"
    with cores(1):
        ours = timed(lambda: attend(Classifier(model, workers=1), images, layer=layer), repeats=3)
        maps = attend(Classifier(model, workers=1), images, layer=layer).maps
        rate = len(images) / ours.cpu_seconds
        for name, peer in (("captum", captums_maps), ("pytorch-grad-cam", grad_cams_maps)):
            try:
                found = peer(model, images.take(torch.arange(BATCH)), layer=layer, batch=BATCH)
            except ImportError as error:
                print(f"Grad-CAM against {name}: left out, since {error}")
                continue
            timing = timed(lambda peer=peer: peer(model, images, layer=layer, batch=BATCH), repeats=3)
            peer_rate = len(images) / timing.cpu_seconds
            note = f"{len(images):,} images, batches of {BATCH}"
            if found.shape[1:] == maps.shape[1:]:
                note += f"; maps differ by at most {np.abs(found - maps[:BATCH]).max():.0e}"
            yield Result(
                "predictions and Grad-CAM, images per CPU second",
                f"{rate:,.0f}",
                f"{name} {peer_rate:,.0f}",
                rate / peer_rate,
                3.0,
                note,
            )
