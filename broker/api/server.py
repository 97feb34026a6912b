"""Serving on a Unix socket, and on nothing else, from a thread of the daemon."""

import os
import socket
import stat
import threading
import time
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from broker.api.peer import PeerProtocol
from broker.core.errors import BrokerError

_LONGEST_SOCKET_PATH = 107  # sun_path of Linux, less its closing NUL
_START_TIMEOUT_S = 15.0


class ApiServer(uvicorn.Server):
    """A running server; `stop()` ends it. `should_exit = True` is the same without waiting."""

    def __init__(self, app: FastAPI, socket_path: Path) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=PeerProtocol,
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # nobody stands between us and the caller, so nobody may speak for one
                timeout_graceful_shutdown=5,
            )
        )
        self._path = socket_path
        self._socket = _listen(socket_path)
        self._inode = socket_path.stat().st_ino
        # Not in the main thread, so uvicorn leaves the signals to the daemon.
        self._thread = threading.Thread(target=self.run, args=([self._socket],), name="api", daemon=True)

    def start(self) -> None:
        """Return once requests are answered. BrokerError: it did not come up."""
        self._thread.start()
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                self.stop()
                raise BrokerError(f"the API did not start on {self._path}; the log says why")
            time.sleep(0.01)

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Answer what was asked already, then close and take the socket away. Safe to call twice."""
        self.should_exit = True
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        self._socket.close()
        try:
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
        except FileNotFoundError:
            pass


def run(app: FastAPI, socket_path: Path) -> ApiServer:
    """Serve `app` on `socket_path` (made with mode 0666: the API itself asks the kernel who calls) and return.

    BrokerError: another broker serves there, or the socket cannot be made.
    """
    server = ApiServer(app, socket_path)
    server.start()
    return server


def _listen(path: Path) -> socket.socket:
    # Made under another name and renamed, so that whoever finds the socket can connect, and none with a wrong mode.
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    if len(os.fsencode(fresh)) > _LONGEST_SOCKET_PATH:
        raise BrokerError(f"{path}: a socket's path may have about 95 characters; choose a shorter [site] run_dir")
    if not path.parent.is_dir():
        raise BrokerError(f"{path.parent} does not exist; make it (owner broker, mode 0755) or correct [site] run_dir")
    _refuse_if_served(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        fresh.unlink(missing_ok=True)
        sock.bind(str(fresh))
        fresh.chmod(0o666)
        sock.listen(128)
        fresh.rename(path)
    except OSError as exc:
        sock.close()
        fresh.unlink(missing_ok=True)
        raise BrokerError(f"{path}: cannot make the socket ({exc.strerror}); is {path.parent} the broker's?") from exc
    return sock


def _refuse_if_served(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise BrokerError(f"{path} is there and is no socket; move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except OSError:
            return
    raise BrokerError(f"another broker serves on {path}; stop it first")
