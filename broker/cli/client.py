"""Asking the daemon: HTTP over its Unix socket.

http.client, because importing httpx alone takes longer (0.10 s measured, against 0.03 s) than `broker why` otherwise
needs from start to end, and the person at the terminal waits for it.
"""

import json
import os
import socket
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from broker.cli.failures import BadRequest, Unreachable
from broker.core.errors import BrokerError, NotFound, Refused

# Too small: a busy slurmctld (30 s to answer) looks like a dead daemon; too large: a hung one keeps people waiting.
TIMEOUT_S = 60.0

Document = dict[str, Any]
"""An answer of the API, as documented in /api/v1/openapi.json."""

_ERRORS: dict[int, type[BrokerError]] = {
    403: Refused,
    404: NotFound,
    413: BadRequest,
    422: BadRequest,
    502: Unreachable,
    503: Unreachable,
    504: Unreachable,
}


class Client:
    """One daemon. Unreachable, Refused, NotFound, BadRequest or another BrokerError, with the daemon's own words."""

    def __init__(self, path: Path, timeout: float = TIMEOUT_S) -> None:
        """`timeout`: seconds for each call."""
        self._path = path
        self._timeout = timeout

    def with_timeout(self, seconds: float) -> "Client":
        """The same daemon, for what takes longer."""
        return Client(self._path, seconds)

    def get(self, *parts: str, **query: str | int | None) -> Document:
        """`parts` are the path's segments below /api/v1; query values that are None are left out."""
        asked = {key: value for key, value in query.items() if value is not None}
        return self._ask("GET", _target(parts) + (f"?{urlencode(asked)}" if asked else ""), None)

    def post(self, *parts: str, body: Mapping[str, object] | None = None) -> Document:
        return self._ask("POST", _target(parts), body)

    def _ask(self, method: str, target: str, body: Mapping[str, object] | None) -> Document:
        connection = _UnixConnection(self._path, self._timeout)
        headers = {"Accept": "application/json"}
        if method == "POST":
            headers["Idempotency-Key"] = os.urandom(16).hex()
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, target, body=content, headers=headers)
            response = connection.getresponse()
            return _document(response.status, response.read(), self._path)
        except TimeoutError as exc:
            raise Unreachable(
                f"the daemon on {self._path} did not answer within {self._timeout:.0f} s; its log may say why"
            ) from exc
        except PermissionError as exc:
            raise Unreachable(f"{self._path} may not be opened by this user; its mode should be 0666") from exc
        except (OSError, HTTPException) as exc:
            raise Unreachable(f"no daemon answers on {self._path} ({_reason(exc)}); {mend(self._path)}") from exc
        finally:
            connection.close()


def mend(path: Path) -> str:
    """What to do when nobody answers on `path`."""
    if ".sandbox" in path.parts:
        return "start the sandbox: `broker sandbox up`"
    return "start it (`broker serve`, or the service broker), or name its socket with --socket"


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path
        self._seconds = timeout

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._seconds)
        # Through the folder's descriptor: a socket's path may have 107 characters, and a sandbox may lie deeper.
        folder = os.open(self._path.parent, os.O_PATH | os.O_CLOEXEC)
        try:
            self.sock.connect(f"/proc/self/fd/{folder}/{self._path.name}")
        finally:
            os.close(folder)


def _target(parts: tuple[str, ...]) -> str:
    return "/api/v1/" + "/".join(quote(part, safe="") for part in parts)


def _document(status: int, content: bytes, path: Path) -> Document:
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise BrokerError(f"what answers on {path} is no broker: HTTP {status} without a document")
    if status >= 400:
        detail = document.get("detail") or document.get("title") or f"HTTP {status}"
        raise _ERRORS.get(status, BrokerError)(str(detail))
    return document


def _reason(exc: Exception) -> str:
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc) or type(exc).__name__
