"""Decoder divided and done side by side: spans of pictures, and calls made by threads or by whatever else can."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
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


@dataclass(frozen=True)
class Span:
    """The pictures from `start` to before `stop`, and the files that they are in as the process that sends it has them.

    `made_with` are the versions of what makes pixels of them there.
    """

    start: int
    stop: int
    files: tuple[tuple[File, Any], ...] = ()
    made_with: str | None = None

    def __str__(self) -> str:
        return f"pictures {self.start} to {self.stop - 1}"


def spans(count: int, *, most: int, ends: Sequence[int] = (), whole: int = 0) -> Iterator[Span]:
    """Cut so many pictures into spans of at most `most`.

    Parts that end at `ends` stay whole, if they have at most `whole` pictures; small ones go together.
    """
    whole = max(most, whole) if ends else most
    start = last = 0
    for end in ends or (*range(most, count, most), count):
        if end - start > most and last > start:
            yield Span(start, last)
            start = last
        while end - start > whole:
            yield Span(start, start + whole)
            start += whole
        last = end
    if last > start:
        yield Span(start, last)
