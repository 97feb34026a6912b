"""Who is at the other end of a Unix socket: the kernel says so (SO_PEERCRED), the caller cannot."""

import asyncio
import logging
import socket
import struct
from collections import Counter
from typing import Any

from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

EXTENSION = "broker.peer_uid"
"""Key of the peer's uid in the ASGI scope's `extensions`."""

# The socket is open to every user of the host. Too small: a user's own scripts are cut off; too large: one user can
# take every file descriptor of the daemon and lock the operators out.
CONNECTIONS_PER_USER = 64

_UCRED = struct.Struct("3i")
_log = logging.getLogger(__name__)


class PeerProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with the peer's uid in the scope, and a bound on each user's open connections."""

    uid: int | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.uid = peer_uid(transport.get_extra_info("socket"))
        open_connections = _count(self.server_state)
        if open_connections[self.uid] >= CONNECTIONS_PER_USER and self.uid != 0:
            _log.warning("api connection refused uid=%s open=%s", self.uid, open_connections[self.uid])
            self.uid = None  # not counted, so not to be counted down
            transport.close()
            return
        open_connections[self.uid] += 1
        self.app = _with_uid(self.app, self.uid)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.uid is not None:
            open_connections = _count(self.server_state)
            open_connections[self.uid] -= 1
            if not open_connections[self.uid]:
                del open_connections[self.uid]


def peer_uid(sock: socket.socket) -> int:
    """The uid of the process that connected."""
    _pid, uid, _gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(uid)


def _count(server_state: Any) -> Counter[int]:
    counter: Counter[int] = server_state.__dict__.setdefault("connections_by_uid", Counter())
    return counter


def _with_uid(app: ASGI3Application, uid: int) -> ASGI3Application:
    async def tell(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        scope.setdefault("extensions", {})  # type: ignore[typeddict-item]
        scope["extensions"][EXTENSION] = uid  # type: ignore[typeddict-item,assignment]
        await app(scope, receive, send)

    return tell
