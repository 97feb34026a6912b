"""How the daemon's process reaches the world, which lives on in another process: calls over a Unix socket."""

import contextlib
import threading
from collections.abc import Mapping
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any


class Door:
    """Serves calls of `rooms` (name → object) on `path`. A call that has arrived is carried out, also when its caller dies."""

    def __init__(self, path: Path, rooms: Mapping[str, object]) -> None:
        self._rooms = rooms
        self._listener = Listener(str(path), "AF_UNIX", backlog=64)
        self._closing = False
        self._thread = threading.Thread(target=self._accept, daemon=True, name="door")
        self._thread.start()

    def close(self) -> None:
        self._closing = True
        with contextlib.suppress(OSError, EOFError), Client(self._listener.address, "AF_UNIX"):
            pass
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            connection = self._listener.accept()
            if self._closing:
                connection.close()
                return
            threading.Thread(target=self._attend, args=(connection,), daemon=True).start()

    def _attend(self, connection: Connection) -> None:
        with connection, contextlib.suppress(EOFError, OSError):
            while True:
                room, method, args, named = connection.recv()
                try:
                    answer = (True, getattr(self._rooms[room], method)(*args, **named))
                except Exception as exc:  # the caller's to deal with, as it would be across any seam
                    answer = (False, exc)
                connection.send(answer)


class Callers:
    """The daemon's side: one connection a thread, as the daemon calls from many."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._own = threading.local()

    def call(self, room: str, method: str, *args: Any, **named: Any) -> Any:
        connection = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = Client(str(self._path), "AF_UNIX")
        connection.send((room, method, args, named))
        well, answer = connection.recv()
        if not well:
            raise answer
        return answer
