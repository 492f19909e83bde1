"""Requests to a server: parallel, over persistent connections, with limits of time and rate, and with retries."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import threading
import time
import weakref
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from harness.base.codes import Code
from harness.inference.predictors.credentials import TOKEN
from harness.inference.predictors.protocol import PredictorError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Mapping

    import httpx

    from harness.inference.predictors.credentials import Credentials
    from harness.networks.options import PredictorOptions

T = TypeVar("T")

RETRIED = {429, 502, 503, 504}
"""Statuses of a server that may answer a later attempt."""
ATTEMPTS = 6
_FIRST_WAIT, _LONGEST_WAIT = 0.25, 60.0
"""Seconds before the second attempt, doubled for each further one, and the longest wait that a server may request."""
_CONNECT_S = 10.0
_PART = 1 << 18
_OK, _REDIRECTS = 200, range(300, 400)
_ACCESS = f"; set {TOKEN}, or write an entry of netrc"
_SMALLER = "; if it takes fewer images at a time, set their number with predictor_batch"
_HINTS = {401: _ACCESS, 403: _ACCESS, **dict.fromkeys((400, 413, 422, 500), _SMALLER)}


class ServerLostError(PredictorError):
    """A server that gave no answer: it is unreachable, stalls, or stays busy."""

    code = Code.SERVER


@dataclass(frozen=True)
class Reply:
    """The response to a request: its status, its headers in lower case and its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class Pace:
    """Turns for requests, at most `rate` a second."""

    def __init__(self, rate: float | None) -> None:
        self._interval_s = 1 / rate if rate else 0.0
        self._next = 0.0

    async def turn(self) -> None:
        """Wait for the next turn."""
        now = time.monotonic()
        at = max(now, self._next)
        self._next = at + self._interval_s
        await asyncio.sleep(at - now)


class Exchange:
    """Requests to one server; threads may share it.

    After a connection error or a status of `RETRIED`, a request is repeated, up to `ATTEMPTS` attempts in all. Waits
    double, unless the server requests another wait. Redirects are not followed. A body that is compressed, or longer
    than allowed, is refused.
    """

    def __init__(self, root: str, credentials: Credentials, options: PredictorOptions, *, local: bool) -> None:
        import httpx

        self.root = root
        self._timeout_s = options.predictor_timeout
        self._client = httpx.AsyncClient(
            headers={"Accept-Encoding": "identity", "User-Agent": "stress-harness", **credentials.headers},
            timeout=httpx.Timeout(None, connect=min(_CONNECT_S, self._timeout_s)),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=options.http_concurrency),
            follow_redirects=False,
            verify=root.startswith("https:"),  # Reading certificates takes time, and only https needs it.
            trust_env=not local,  # A proxy does not reach this machine's own servers.
        )
        self._slots, self._pace = _turns(root, options.http_concurrency, options.http_rate)
        self._closing = weakref.finalize(self, _close, self._client)
        self._closing.atexit = False

    def get(self, path: str, *, most_bytes: int) -> Reply:
        """Return the server's response for a path under its root, with any status that is not retried.

        Raises `ServerLostError` without a response, and `PredictorError` for an invalid one.
        """
        return _waited_for(self._asked("GET", path, b"", {}, most_bytes))

    def post(self, path: str, body: bytes, headers: Mapping[str, str], *, most_bytes: int) -> Reply:
        """Return the server's response to a body; raises as `get` does."""
        return _waited_for(self._asked("POST", path, body, headers, most_bytes))

    def expect_ok(self, reply: Reply, what: str) -> bytes:
        """Return the body of a response; raises `PredictorError`, which quotes the server, for an error."""
        if reply.status == _OK:
            return reply.body
        if reply.status in _REDIRECTS:
            where = reply.headers.get("location", "").partition("?")[0] or "nowhere"
            raise PredictorError(f"{what}: the server redirects to {where}; name that address")
        said = reply.body.decode("utf-8", "replace").strip() or "nothing"
        if reply.headers.get("content-type", "").startswith("text/plain"):  # It may end with an exception.
            said = said.splitlines()[-1]
        raise PredictorError(f"{what}: the server answers {reply.status}: {said}{_HINTS.get(reply.status, '')}")

    def close(self) -> None:
        """Close all connections; it may be called twice, and is optional at the end of the process."""
        self._closing()

    async def _asked(self, method: str, path: str, body: bytes, headers: Mapping[str, str], most_bytes: int) -> Reply:
        import httpx

        found = ""
        for attempt in range(ATTEMPTS):
            wait = _FIRST_WAIT * 2**attempt * random.uniform(0.8, 1.2)  # noqa: S311  Clients must not retry all at once.
            await self._pace.turn()
            try:
                async with self._slots, asyncio.timeout(self._timeout_s):
                    reply = await self._once(method, path, body, headers, most_bytes)
            except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout) as error:
                found = _reason(error)
                if isinstance(_cause(error), ssl.SSLCertVerificationError):
                    break
            except TimeoutError:
                within = f"{self._timeout_s:g} s (predictor_timeout)"
                raise ServerLostError(f"the server gave no answer within {within}") from None
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise PredictorError(f"the server cannot be asked: {_reason(error)}") from None
            else:
                if reply.status not in RETRIED:
                    return reply
                found = f"it answers {reply.status}"
                wait = _wait_asked_for(reply, wait)
                if wait > _LONGEST_WAIT:
                    raise ServerLostError(f"the server answers {reply.status} and asks to wait for {wait:.0f} s")
            if attempt + 1 < ATTEMPTS:
                await asyncio.sleep(wait)
        raise ServerLostError(f"the server gave no answer in {attempt + 1} attempts: {found}")

    async def _once(self, method: str, path: str, body: bytes, headers: Mapping[str, str], most_bytes: int) -> Reply:
        length = {"Content-Length": str(len(body))} if body else {}
        parts = _parts(body) if body else None
        request = self._client.build_request(method, f"{self.root}{path}", content=parts, headers={**headers, **length})
        response = await self._client.send(request, stream=True)
        try:
            if (encoding := response.headers.get("content-encoding", "identity")) != "identity":
                raise PredictorError(f"the server compressed its answer ({encoding}), expected no compression")
            content = bytearray()
            async for part in response.aiter_raw():
                content += part
                if len(content) > most_bytes:
                    raise PredictorError(f"the server's answer is longer than {most_bytes} bytes, expected less")
            return Reply(response.status_code, dict(response.headers), bytes(content))
        finally:
            await response.aclose()


async def _parts(body: bytes) -> AsyncIterator[bytes]:
    """Yield a body in parts: of a whole one, the event loop would copy the rest at each write."""
    for start in range(0, len(body), _PART):
        yield body[start : start + _PART]


def _reason(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__


def _cause(error: BaseException) -> BaseException:
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    return error


def _wait_asked_for(reply: Reply, otherwise: float) -> float:
    """Return the seconds of the header Retry-After, a number or a date; `otherwise` without one."""
    asked = reply.headers.get("retry-after", "")
    if asked.isascii() and asked.isdecimal():
        return float(asked[:9])
    try:
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return otherwise


def _waited_for(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine in the thread of requests; a signal ends the wait and the coroutine."""
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result()
    except CancelledError:
        raise ServerLostError("the request was canceled") from None
    finally:
        future.cancel()


def _close(client: httpx.AsyncClient) -> None:
    """Close connections without waiting, since this may run in any thread, even in that of requests."""
    asyncio.run_coroutine_threadsafe(client.aclose(), _loop())


_ONE = threading.Lock()
"""Lock for making the loop or a semaphore, so all threads share one."""


def _turns(root: str, concurrency: int, rate: float | None) -> tuple[asyncio.Semaphore, Pace]:
    """Return the limits of this process's requests to a server: their number at a time, and their rate."""
    with _ONE:
        return _made_turns(root, concurrency, rate)


def _loop() -> asyncio.AbstractEventLoop:
    """Return the event loop of all requests of this process, in a daemon thread."""
    with _ONE:
        return _made_loop()


@lru_cache
def _made_turns(root: str, concurrency: int, rate: float | None) -> tuple[asyncio.Semaphore, Pace]:  # noqa: ARG001  One per server.
    return asyncio.Semaphore(concurrency), Pace(rate)


@lru_cache(maxsize=1)
def _made_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="harness-http", daemon=True).start()
    for name in ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.proxy"):  # They log what a server sends.
        logging.getLogger(name).addFilter(lambda record: record.threadName != "harness-http")
    return loop
