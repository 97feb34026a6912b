"""One daemon to a ledger: two of them would each hold the other's purchases for forgotten.

Held for the daemon's life, and by `broker ledger restore` for its own. The kernel or the server lets go when we die.
"""

import contextlib
import fcntl
import os
import time
from typing import Protocol

from sqlalchemy import Connection, Engine

from broker.core.errors import LedgerUnavailable, Refused

_KEY = 0x62726F6B6572
"""Advisory locks of PostgreSQL are numbers within one database: this is `broker` in ASCII."""


class Owner(Protocol):
    """The right to be the only daemon on the ledger."""

    def keep(self) -> None:
        """Make sure that it is still ours, and take it again after the server was away. Refused: another took it."""

    def release(self) -> None: ...


def own(engine: Engine, patience_s: float = 5.0) -> Owner:
    """Take the ledger. Refused: another daemon, or a restore, has it. LedgerUnavailable.

    `patience_s`: the server takes a moment to notice that the daemon before us is dead.
    """
    return _SessionLock(engine, patience_s) if engine.dialect.name == "postgresql" else _FileLock(engine)


class _FileLock:
    def __init__(self, engine: Engine) -> None:
        path = f"{engine.url.database}.lock"
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as exc:
            raise LedgerUnavailable(
                f"{path} cannot be made ({exc.strerror}); give its folder to the daemon's user"
            ) from exc
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise Refused(f"another broker has the ledger {engine.url.database}; stop it first") from None

    def keep(self) -> None:
        """Nobody can take a held file lock."""

    def release(self) -> None:
        os.close(self._file)


class _SessionLock:
    """A lock of the session: held by one connection, which does nothing else."""

    def __init__(self, engine: Engine, patience_s: float) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        limit = time.monotonic() + patience_s
        while True:
            try:
                self.keep()
                return
            except Refused:
                if time.monotonic() > limit:
                    raise
                time.sleep(0.1)

    def keep(self) -> None:
        if self._connection is not None:
            try:
                self._connection.exec_driver_sql("SELECT 1")
                return
            except LedgerUnavailable:
                if not self._connection.invalidated:
                    raise  # busy, and still ours
                self._connection.close()
                self._connection = None
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        if not connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({_KEY})").scalar():
            connection.close()
            raise Refused(f"another broker has the ledger (PostgreSQL database {self._engine.url.database}); stop one")
        self._connection = connection

    def release(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(LedgerUnavailable):  # then the server lets go by itself
                self._connection.exec_driver_sql(f"SELECT pg_advisory_unlock({_KEY})")
            self._connection.close()
            self._connection = None
