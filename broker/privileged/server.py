"""JSON lines over a Unix stream socket, for callers that the kernel vouches for (SO_PEERCRED)."""

import contextlib
import grp
import json
import os
import pwd
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Answer = dict[str, Any]
Operation = Callable[[Mapping[str, Any]], Answer]

LINE_BYTES = 64 * 1024
"""A longer request is refused: none of ours comes near it."""

_IDLE_S = 30.0
"""A connection that says nothing for so long is closed: each one holds a thread."""

_CONNECTIONS = 64


class Wrong(Exception):
    """The request is refused; the text is for the caller and holds no secret."""


class Server:
    """Serves `operations` (name → function of the request) on `path` to root and to the uids of `allowed`.

    Operations run one at a time: each reads the state, decides and writes it.
    """

    def __init__(
        self, path: Path, operations: Mapping[str, Operation], allowed: frozenset[int], group: str | None = None
    ) -> None:
        """Bind the socket, mode 0660, `group`'s if given. OSError: the folder is missing or the path is in use."""
        self._operations = operations
        self._allowed = allowed | {0}
        self._one = threading.Lock()
        self._room = threading.BoundedSemaphore(_CONNECTIONS)
        self._path = path
        self._socket = _bind(path)
        if group is not None:
            os.chown(path, -1, grp.getgrnam(group).gr_gid)
        path.chmod(0o660)
        self._socket.listen(_CONNECTIONS)

    def serve(self) -> None:
        """Until `close` is called."""
        while True:
            self._room.acquire()
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._attend, args=(connection,), daemon=True).start()

    def close(self) -> None:
        """Stop accepting and remove the socket."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _attend(self, connection: socket.socket) -> None:
        try:
            with connection, contextlib.suppress(OSError):
                connection.settimeout(_IDLE_S)
                _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
                with connection.makefile("rwb") as stream:
                    while line := stream.readline(LINE_BYTES + 1):
                        # Only now: closing on a request that was not read resets the caller's connection, answer and all.
                        if uid not in self._allowed:
                            refusal = f"uid {uid} may not ask this; only root and broker may"
                            _send(stream, {"ok": False, "error": refusal})
                            return
                        if len(line) > LINE_BYTES:
                            _send(stream, {"ok": False, "error": f"the request is longer than {LINE_BYTES} bytes"})
                            return
                        _send(stream, self._answer(line))
        finally:
            self._room.release()

    def _answer(self, line: bytes) -> Answer:
        try:
            request = json.loads(line)
            name = request.get("op") if isinstance(request, dict) else None
            operation = self._operations.get(name) if isinstance(name, str) else None
            if operation is None:
                raise Wrong(f"op {name!r} is unknown; known: {', '.join(sorted(self._operations))}")
            with self._one:
                return {"ok": True, **operation(request)}
        except Wrong as exc:
            return {"ok": False, "error": str(exc)}
        except ValueError as exc:
            return {"ok": False, "error": f"the request is not JSON: {exc}"}
        except Exception as exc:
            # The domain must live on whatever one request did to it; the caller sees what it was.
            log(event="error", error=f"{type(exc).__name__}: {exc}")
            return {"ok": False, "error": f"{type(exc).__name__}: {exc}"}


def run(server: Server) -> None:
    """Serve until SIGTERM or SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: server.close())
    server.serve()


def text(request: Mapping[str, Any], name: str) -> str:
    """A field that must be a string. Wrong: it is missing or something else."""
    value = request.get(name)
    if not isinstance(value, str):
        raise Wrong(f"{name} is missing or not a string")
    return value


def uid_of(user: str) -> int:
    """The uid behind --allow-user. SystemExit: there is no such user."""
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise SystemExit(f"--allow-user {user}: there is no such user on this machine") from None


def log(**fields: object) -> None:
    """One line, key=value, to standard error."""
    print(" ".join(f"{key}={value!s}" for key, value in fields.items()), file=sys.stderr, flush=True)  # noqa: T201


def _send(stream: Any, answer: Answer) -> None:
    stream.write(json.dumps(answer).encode() + b"\n")
    stream.flush()


def _bind(path: Path) -> socket.socket:
    """A socket file that nobody listens on is a dead server's and makes way; a living server's does not."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, contextlib.suppress(FileNotFoundError):
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
            else:
                raise SystemExit(f"{path}: another server listens here already")
        # Until its group is set nobody else may connect.
        mask = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
    except BaseException:
        listener.close()
        raise
    return listener
