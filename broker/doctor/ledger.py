"""The ledger as the doctor reads it: the daemon may be dead, and its file must not be touched."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from broker.core.errors import BrokerError
from broker.core.leases import Lease
from broker.db import leases, purchasing
from broker.db.engine import reading
from broker.db.look import open_to_read, revisions
from broker.doctor.findings import Check, Finding, Unseen, fail
from broker.doctor.site import judge_ledger

Answer = TypeVar("Answer")


class Ledger:
    """Every method raises Unseen where the ledger cannot be read, PermissionError where this user may not."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def revisions(self) -> tuple[str | None, str | None]:
        """The schema's revision in the ledger, and the newest one this program knows."""
        return self._open(revisions)

    def living(self) -> list[Lease]:
        """Leases that may cost money."""
        return self._read(leases.living)

    def holding(self, node: str) -> Lease | None:
        """The lease behind a node name now."""
        return self._read(lambda db: leases.holding(db, node))

    def suspended(self, now: datetime) -> dict[str, str]:
        """Credential → why nothing is bought with it now."""
        return self._read(lambda db: purchasing.suspended(db, now))

    def _read(self, question: Callable[[Connection], Answer]) -> Answer:
        def ask(engine: Engine) -> Answer:
            with reading(engine) as db:
                return question(db)

        return self._open(ask)

    def _open(self, question: Callable[[Engine], Answer]) -> Answer:
        try:
            engine = open_to_read(self.file)
        except BrokerError as exc:
            raise Unseen(str(exc)) from exc
        try:
            return question(engine)
        except SQLAlchemyError as exc:
            raise Unseen(f"{self.file} cannot be read: {str(exc).splitlines()[0]}") from exc
        finally:
            engine.dispose()


def check(ledger: Ledger, daemon_answers: bool) -> Check:
    """Whether it is there, can be read, and is of this program's schema."""

    def look() -> list[Finding]:
        try:
            current, head = ledger.revisions()
        except BrokerError as exc:
            mend = "systemctl start broker makes a new one; a damaged one: restore your backup (install.md, Afterwards)"
            return [fail("ledger", str(exc), mend)]
        return [judge_ledger(str(ledger.file), current, head, daemon_answers)]

    return Check(section="daemon", name="ledger", look=look)
