"""Origin of images: their pictures before any pipeline, and the pipelines that may have made their pixels."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.data.serving.pipeline import ServingPipeline


@dataclass(frozen=True, eq=False)
class Origin:
    """The pictures of a data set by their positions in the full split, read on demand.

    `read` returns the bytes of a file if `encoded`, else a decoded picture of the data. `pipelines` may have made the
    images, the most detailed first. Without `threads`, pictures are read one at a time.
    """

    read: Callable[[int], Any]
    where: Callable[[int], str]
    pipelines: tuple[ServingPipeline, ...]
    encoded: bool
    threads: bool = True
    _reading: Any = field(default_factory=threading.Lock, repr=False)

    def picture(self, position: int) -> Any:
        """Return the picture at a position; raises `InputError` for one that cannot be read."""
        if self.threads:
            return self.read(position)
        with self._reading:
            return self.read(position)
