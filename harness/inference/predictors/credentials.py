"""Credentials for a server: from an environment variable or netrc, never from a URL, and never shown."""

from __future__ import annotations

import base64
import netrc
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import InputError, ServerError

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "STRESS_HTTP_TOKEN"  # noqa: S105  The name of the variable.
"""Environment variable with a token, or with a whole value of the header Authorization, such as `Basic …`."""


@dataclass(frozen=True)
class Credentials:
    """The value of the header Authorization and its source; the `repr` only shows the source."""

    source: str
    header: str = field(default="", repr=False)
    _secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers of a request with them."""
        return {"Authorization": self.header} if self.header else {}

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Hide them in the messages of errors, which may quote the server."""
        try:
            yield
        except InputError as error:
            error.args = (self.hidden_in(str(error)),)
            error.message = self.hidden_in(error.message)
            raise

    def hidden_in(self, text: str) -> str:
        """Return a text of the server without the credentials."""
        for secret in sorted(filter(None, (self.header, *self._secrets)), key=len, reverse=True):
            text = text.replace(secret, "…")
        return text


def credentials_for(host: str) -> Credentials:
    """Return the credentials for a host: the token of the environment, or netrc's entry, or else none.

    Raises `InputError`, which shows no secret, for a token that is invalid in a header, and for an invalid netrc.
    """
    token = os.environ.get(TOKEN, "").strip()
    if token:
        if not (token.isascii() and token.isprintable()):
            raise ServerError(f"{TOKEN}: has characters that are invalid in a header; expected printable ASCII")
        scheme, _, value = token.rpartition(" ")
        return Credentials(TOKEN, token if scheme else f"Bearer {token}", (value,))
    named = os.environ.get("NETRC")
    path = Path(named) if named else Path.home() / ".netrc"
    try:
        entry = netrc.netrc(path).authenticators(host)
    except FileNotFoundError:
        entry = None
    except (OSError, UnicodeDecodeError) as error:
        raise ServerError(f"{path}: cannot be read ({type(error).__name__})") from None
    except netrc.NetrcParseError as error:
        raise ServerError(f"{path}: line {error.lineno} is no netrc entry, or others can read the file") from None
    if entry is None:
        return Credentials("none")
    login, account, password = entry
    pair = base64.b64encode(f"{login or account}:{password}".encode()).decode()
    return Credentials(f"{path}", f"Basic {pair}", (pair, password or ""))
