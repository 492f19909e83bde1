"""Requests to a server.

Parallel, over persistent connections, with limits of time and rate, and with retries.
"""

from __future__ import annotations

import logging
import random
import socket
import threading
import time
import weakref
from contextlib import suppress
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from harness.base.codes import Code
from harness.base.termination import within
from harness.features.served_models.credentials import TOKEN
from harness.inference.predictors.protocol import PredictorError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import httpx

    from harness.features.served_models.credentials import Credentials
    from harness.networks.options import PredictorOptions

    _Line = tuple[httpx.Client, list[socket.socket]]

RETRIED = {429, 502, 503, 504}
"""Statuses of a server that may answer a later attempt."""
ATTEMPTS = 6
_FIRST_WAIT, _LONGEST_WAIT = 0.25, 60.0
"""Seconds before the second attempt, doubled for each further one, and the longest wait that a
server may request.
"""
_CONNECT_S = 10.0
_PART = 1 << 18
_OK, _REDIRECTS = 200, range(300, 400)
_ACCESS = f"; set {TOKEN}, or write an entry of netrc"
_SMALLER = "; if it takes fewer images at a time, set their number with predictor_batch"
_HINTS = {401: _ACCESS, 403: _ACCESS, **dict.fromkeys((400, 413, 422, 500), _SMALLER)}
_LOGGERS = ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.proxy")
"""Loggers that log what a server sends."""
_asking = threading.local()


class ServerLostError(PredictorError):
    """A server that gave no answer: it is unreachable, stalls, or stays busy."""

    code = Code.SERVER


_turns: dict[str, float] = {}
"""The time of the next request to each server, since several models may be on one."""
_lock = threading.Lock()


class Exchange:
    """Requests to one server; threads may share it.

    After a connection error or a status of `RETRIED`, a request is repeated, up to `ATTEMPTS`
    attempts in all. Waits double, unless the server requests another wait. Redirects are not
    followed. A body that is compressed, or longer than allowed, is refused.
    """

    def __init__(
        self, root: str, credentials: Credentials, options: PredictorOptions, *, local: bool
    ) -> None:
        import httpx

        self.root = root
        self._timeout_s, self._interval_s = (
            options.predictor_timeout,
            1 / (options.http_rate or float("inf")),
        )
        self._options: dict[str, Any] = {
            "headers": {"Accept-Encoding": "identity", "User-Agent": "stress-harness"},
            "timeout": httpx.Timeout(None, connect=min(_CONNECT_S, self._timeout_s)),
            # Reading certificates takes time, and only https needs it.
            "verify": httpx.create_ssl_context() if root.startswith("https:") else False,
            "trust_env": not local,  # A proxy does not reach this machine's own servers.
        }
        if credentials.header:
            self._options["headers"]["Authorization"] = credentials.header
        self._idle: list[_Line] = []
        """Clients with one connection each, which no request uses."""
        self.close = weakref.finalize(self, _close, self._idle)
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(_is_foreign)

    def ask(
        self,
        path: str,
        what: str,
        *,
        most_bytes: int,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Return the response for a path under the root; a request with a body is a POST.

        Raises `ServerLostError` without a response. Raises `PredictorError`, which quotes the
        server, for an error.
        """
        response = self._answered(path, body, headers or {}, most_bytes)
        status = response.status_code
        if status == _OK:
            return response
        if status in _REDIRECTS:
            where = response.headers.get("location", "").partition("?")[0] or "nowhere"
            raise PredictorError(f"{what}: the server redirects to {where}; name that address")
        said = response.content.decode("utf-8", "replace").strip() or "nothing"
        if response.headers.get("content-type", "").startswith(
            "text/plain"
        ):  # It may end with an exception.
            said = said.splitlines()[-1]
        raise PredictorError(f"{what}: the server answers {status}: {said}{_HINTS.get(status, '')}")

    def _answered(
        self, path: str, body: bytes, headers: Mapping[str, str], most_bytes: int
    ) -> httpx.Response:
        """Return the response with any status that is not retried."""
        import httpx

        found = ""
        for attempt in range(ATTEMPTS):
            wait = _FIRST_WAIT * 2**attempt * random.uniform(0.8, 1.2)  # noqa: S311  Clients must not retry all at once.
            with _lock:
                turn = max(now := time.monotonic(), _turns.get(self.root, 0.0))
                _turns[self.root] = turn + self._interval_s
            time.sleep(turn - now)
            try:
                response = self._once(path, body, headers, most_bytes)
            except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout) as error:
                found = _reason(error)
                if "CERTIFICATE_VERIFY_FAILED" in found:
                    break
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise PredictorError(f"the server cannot be asked: {_reason(error)}") from None
            else:
                if response.status_code not in RETRIED:
                    return response
                found = f"it answers {response.status_code}"
                wait = _wait_asked_for(response.headers.get("retry-after", ""), otherwise=wait)
                if wait > _LONGEST_WAIT:
                    raise ServerLostError(
                        f"the server {found.removeprefix('it ')} and asks to wait for {wait:.0f} s"
                    )
            if attempt + 1 < ATTEMPTS:
                time.sleep(wait)
        raise ServerLostError(f"the server gave no answer in {attempt + 1} attempts: {found}")

    def _once(
        self, path: str, body: bytes, headers: Mapping[str, str], most_bytes: int
    ) -> httpx.Response:
        """Send one request on an idle connection, or on a new one, and read its answer."""
        import httpx

        try:
            line = self._idle.pop()
        except IndexError:
            line = httpx.Client(**self._options), []
        client, sockets = line

        def trace(event: str, info: Mapping[str, Any]) -> None:
            """Keep the socket of a new connection.

            TLS wraps the original, but not its duplicate.
            """
            if event.endswith(".connect_tcp.complete"):
                while sockets:
                    sockets.pop().close()
                sockets.append(info["return_value"].get_extra_info("socket").dup())
                if late.is_set():
                    _shut(sockets)

        request = _request(client, f"{self.root}{path}", body, headers, trace)
        _asking.now = True
        with within(self._timeout_s, partial(_shut, sockets)) as late:
            try:
                response = client.send(request, stream=True)
                content = _content_of(response, most_bytes)
                if late.is_set():  # A body without a length ends with its connection.
                    raise httpx.ReadError("the connection is cut")
                response.close()
            except BaseException:
                _close([line])
                if late.is_set():
                    given = f"{self._timeout_s:g} s (predictor_timeout)"
                    raise ServerLostError(f"the server gave no answer within {given}") from None
                raise
            finally:
                _asking.now = False
        self._idle.append(line)
        if not self.close.alive:
            _close(self._idle)
        return httpx.Response(
            response.status_code, headers=response.headers, content=bytes(content)
        )


def _shut(sockets: Sequence[socket.socket]) -> None:
    """Shut connections, so that a thread which waits for one of them goes on."""
    with suppress(OSError):
        for connection in sockets:
            connection.shutdown(socket.SHUT_RDWR)


def _request(
    client: httpx.Client,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    trace: Callable[[str, Mapping[str, Any]], None],
) -> httpx.Request:
    """Return the request for a URL: POST with a body, GET without one."""
    extensions = {"trace": trace}
    if not body:
        return client.build_request("GET", url, headers=headers, extensions=extensions)

    # In parts, since the client would copy the remainder of a whole body at each write.
    parts = (body[start : start + _PART] for start in range(0, len(body), _PART))
    with_length = {**headers, "Content-Length": str(len(body))}
    return client.build_request(
        "POST", url, content=parts, headers=with_length, extensions=extensions
    )


def _content_of(response: httpx.Response, most_bytes: int) -> bytearray:
    """Return the body of an answer.

    Raises:
        PredictorError: If it is compressed or longer than `most_bytes`.
    """
    encoding = response.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise PredictorError(
            f"the server compressed its answer ({encoding}), expected no compression"
        )

    content = bytearray()
    for part in response.iter_raw():
        content += part
        if len(content) > most_bytes:
            raise PredictorError(
                f"the server's answer is longer than {most_bytes} bytes, expected less"
            )
    return content


def _is_foreign(_record: logging.LogRecord) -> bool:
    """Return whether a record is of another request than those of this module."""
    return not getattr(_asking, "now", False)


def _wait_asked_for(header: str, *, otherwise: float) -> float:
    """Return the seconds of the header Retry-After, a number or a date; `otherwise` without one."""
    if header.isascii() and header.isdecimal():
        return float(header[:9])
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return otherwise


def _reason(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__


def _close(lines: list[_Line]) -> None:
    while lines:
        client, sockets = lines.pop()
        client.close()
        for each in sockets:
            each.close()
