"""Parallel decoding: spans of pictures, and calls by threads or by other processes."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from concurrent.futures import Future

    from harness.data.pictures import File

T = TypeVar("T")
R = TypeVar("R")


class Spread(Protocol):
    """Makes calls elsewhere, such as on the nodes of a cluster."""

    def __call__(
        self,
        call: Callable[[T], R],
        things: Iterable[T],
        *,
        here: Callable[[Iterable[T]], Generator[R, None, None]],
        what: str,
    ) -> Generator[R, None, None]:
        """Yield the result of `call` for each thing, in their order; a few calls run ahead of the consumer.

        `call` and the things must be picklable. A call that fails elsewhere is repeated `here`, so its error is that of
        this process. `what` names the work in messages.
        """


def side_by_side(call: Callable[[T], R], things: Iterable[T], *, threads: int) -> Generator[R, None, None]:
    """Yield the result of a call for each thing, in their order, by threads; at most two calls per thread run ahead."""
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for thing in things:
                waiting.append(pool.submit(call, thing))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Span:
    """The pictures from `start` to before `stop`, and their files with stamps as the sender has them.

    `made_with` names the libraries and machine of the sender, which determine the pixels.
    """

    start: int
    stop: int
    files: tuple[tuple[File, Any], ...] = ()
    made_with: str | None = None

    def __str__(self) -> str:
        return f"pictures {self.start} to {self.stop - 1}"
