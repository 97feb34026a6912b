"""A server on loopback for adapters that speak HTTP, and a clock that passes only when told to."""

import asyncio
import contextlib
import socket
import threading
import time

import uvicorn

LATE_SECONDS = 0.15


class Loopback:
    """One server for all tests of this file; each puts its own app behind it."""

    def __init__(self):
        self.app = None
        # Named TCP, or asyncio leaves Nagle's algorithm on and each answer costs 40 ms.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(
            uvicorn.Config(self._call, interface="asgi3", lifespan="off", log_config=None, access_log=False)
        )
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})

    async def _call(self, scope, receive, send):
        # An answer that is cut off ends in an exception, which is how the server comes to cut it off.
        with contextlib.suppress(ConnectionResetError):
            await self.app(scope, receive, send)

    def __enter__(self):
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)
        return self

    def __exit__(self, *_):
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(10)
        self._socket.close()


def closed_port() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return closed.getsockname()[1]


async def late(seconds):
    """A sleep that is longer than the adapters of the tests wait, whatever was asked."""
    if seconds:
        await asyncio.sleep(2 * LATE_SECONDS)
