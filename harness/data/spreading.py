"""Calls made side by side, with what they return in order: by threads of this process, or by whatever else can."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from concurrent.futures import Future

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
        """Give what `call` returns for each thing, in their order; a few are done ahead of what was taken.

        `call` and things can be sent to another process. What fails there is done `here`, and so raises what it raises
        in this process. `what` names all of it in messages.
        """


def side_by_side(call: Callable[[T], R], things: Iterable[T], *, threads: int) -> Generator[R, None, None]:
    """Give what a call returns for each thing, in their order, made by threads, at most two for each ahead."""
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
