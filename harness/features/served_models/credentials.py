"""The address of a served model, and credentials.

From an environment variable or netrc, and never shown.
"""

from __future__ import annotations

import base64
import ipaddress
import netrc
import os
import re
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

from harness.base.errors import InputError, ServerError

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "STRESS_HTTP_TOKEN"  # noqa: S105  The name of the variable.
"""Environment variable with a token, or with a whole value of the header Authorization, such as
`Basic …`.
"""
_PATH = re.compile(
    r"(?P<prefix>.*)/v2(?P<path>/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?)/?"
)
_EXPECTED = "expected https://HOST/v2/models/NAME, perhaps with /versions/VERSION"
_RUN = 6
"""Letters and digits of a secret in a row that are hidden: a server may repeat a part of it."""
_HEAD, _TAIL = 350, 150
"""Most characters that the begin and the end of a message keep.

A server decides the length of what is quoted.
"""


@dataclass(frozen=True)
class Address:
    """The address of a served model.

    The root of the server's API, the model's path below it, its name and version.
    """

    root: str
    path: str
    name: str
    version: str | None
    host: str

    @staticmethod
    def of(url: str) -> Address:
        """Return the address in a URL.

        Raises:
            InputError: For another form, and for credentials in it.
        """
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            raise ServerError(f"is no URL; {_EXPECTED}") from None
        if "@" in parts.netloc:
            raise ServerError(
                f"has credentials in the URL; remove them, and set {TOKEN} or write an entry of "
                "netrc"
            )
        found = _PATH.fullmatch(parts.path)
        if not (host and found and url.isascii() and url.isprintable()) or set(url) & set(" ?#"):
            raise ServerError(
                f"is no address of a served model without a query or a fragment; {_EXPECTED}"
            )
        root, version = (
            f"{parts.scheme}://{parts.netloc.lower()}{found['prefix']}/v2",
            found["version"],
        )
        return Address(
            root, found["path"], unquote(found["name"]), version and unquote(version), host
        )

    @property
    def url(self) -> str:
        """Return the model's URL."""
        return self.root + self.path

    @property
    def local(self) -> bool:
        """Return whether the server runs on this machine."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


@dataclass(frozen=True)
class Credentials:
    """The value of the header Authorization and its source; the `repr` only shows the source."""

    source: str
    header: str = field(default="", repr=False)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Hide them in the messages of errors, and drop the frames that hold the server's answer.

        A message may quote the server.
        """
        try:
            yield
        except InputError as error:
            text = self.hidden_in(error.message)
            error.message = (
                text if len(text) <= _HEAD + _TAIL else f"{text[:_HEAD]}…{text[-_TAIL:]}"
            )
            error.args = (f"{error.setting}: {error.message}" if error.setting else error.message,)
            raise copy(error) from None  # Without its traceback.

    def hidden_in(self, text: str) -> str:
        """Return a text of the server without the credentials, in part or in any encoding."""
        for secret in self._secrets:
            text = text.replace(secret, "…")
        at = [place for place, each in enumerate(text) if each.isascii() and each.isalnum()]
        plain = "".join(text[place] for place in at).lower()
        starts = [start for start in range(len(plain)) if plain[start : start + _RUN] in self._runs]
        hidden = {place for start in starts for place in range(at[start], at[start + _RUN - 1] + 1)}
        return re.sub(
            "\0+",
            "…",
            "".join("\0" if place in hidden else each for place, each in enumerate(text)),
        )

    @cached_property
    def _secrets(self) -> list[str]:
        """Return all that is secret, the longest first.

        A proxy in the environment has credentials of its own.
        """
        scheme, _, value = self.header.partition(" ")
        pairs = [
            unquote(proxy.rpartition("@")[0].rpartition("/")[2]) for proxy in getproxies().values()
        ]
        if scheme.lower() == "basic":
            with suppress(ValueError):  # Not base64.
                pairs.append(base64.b64decode(f"{value}==").decode("utf-8", "replace"))
        found = {self.header, value, *pairs, *(pair.partition(":")[2] for pair in pairs)}
        return sorted(filter(None, found), key=len, reverse=True)

    @cached_property
    def _runs(self) -> frozenset[str]:
        """Return the runs of letters and digits in the secrets and in their encodings.

        The encodings are base64 and hexadecimal.
        """
        raw = [secret.encode() for secret in self._secrets]
        # In base64 of a longer text, a secret begins at one of three places, and the characters
        # before it may differ.
        encoded = [
            base64.b64encode(bytes(before) + each)[before + 1 :]
            for each in raw
            for before in range(3)
        ]
        forms = [
            *self._secrets,
            *(each.hex() for each in raw),
            *(each.decode() for each in encoded),
        ]
        plain = [re.sub("[^0-9a-z]", "", form.lower()) for form in forms]
        return frozenset(
            each[at : at + _RUN] for each in plain for at in range(len(each) - _RUN + 1)
        )


def credentials_for(address: Address) -> Credentials:
    """Return the credentials for a server.

    The token of the environment, or netrc's entry, or else none.

    Raises `InputError`, which shows no secret, for an invalid token or netrc, and for credentials
    that would be sent unencrypted.
    """
    import httpx

    if token := os.environ.get(TOKEN, "").strip():
        if not (token.isascii() and token.isprintable()):
            raise ServerError(
                f"{TOKEN}: has characters that are invalid in a header; expected printable ASCII"
            )
        found = Credentials(TOKEN, token if " " in token else f"Bearer {token}")
    else:
        named, request = os.environ.get("NETRC"), httpx.Request("GET", address.root)
        path = Path(named) if named else Path.home() / ".netrc"  # A container may have no home.
        try:
            next(httpx.NetRCAuth(str(path)).auth_flow(request))
        except FileNotFoundError:
            pass
        except (OSError, UnicodeDecodeError) as error:
            raise ServerError(f"{path}: cannot be read ({type(error).__name__})") from None
        except netrc.NetrcParseError as error:
            raise ServerError(
                f"{path}: line {error.lineno} is no netrc entry, or others can read the file"
            ) from None
        header = request.headers.get("Authorization", "")
        found = Credentials(str(path) if header else "none", header)
    if found.header and not (address.local or address.root.startswith("https:")):
        raise ServerError(f"would get the credentials of {found.source} unencrypted; use https://")
    return found
