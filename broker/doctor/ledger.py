"""The ledger as the doctor reads it: the daemon may be dead, and its file must not be touched."""

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Connection, Engine, make_url
from sqlalchemy.exc import SQLAlchemyError

from broker.config import Secret
from broker.core.errors import BrokerError
from broker.core.leases import Lease
from broker.db import blocks, leases
from broker.db.engine import reading
from broker.db.look import open_to_read, revisions
from broker.doctor.findings import Check, Finding, Unseen, fail
from broker.doctor.site import judge_ledger

Answer = TypeVar("Answer")

_NO_FILE = "systemctl start broker makes a new one; a damaged one: `broker ledger restore FILE` brings your backup back"
# A server that asks for the caller's Unix user (peer) knows the daemon's, not root.
_NO_SERVER = (
    "systemctl start postgresql; or ask as its user: setpriv --reuid=broker --regid=broker --init-groups broker doctor"
)


class Ledger:
    """Every method raises Unseen where the ledger cannot be read, PermissionError where this user may not."""

    def __init__(self, url: str, password: Secret | None = None) -> None:
        """`url`: without its password."""
        self.where = make_url(url)
        self._password = password

    @property
    def name(self) -> str:
        """For people: the file, or the server's URL."""
        return str(self.where.database if self.is_file else self.where)

    @property
    def is_file(self) -> bool:
        return self.where.get_backend_name() == "sqlite"

    def revisions(self) -> tuple[str | None, str | None]:
        """The schema's revision in the ledger, and the newest one this program knows."""
        return self._open(revisions)

    def living(self) -> list[Lease]:
        """Leases that may cost money."""
        return self._read(leases.living)

    def holding(self, node: str) -> Lease | None:
        """The lease behind a node name now."""
        return self._read(lambda db: leases.holding(db, node))

    def closed_credentials(self, now: datetime, image: str) -> dict[str, str]:
        """Credential → why nothing is bought with it now, with the node bundle `image`."""
        return self._read(lambda db: blocks.view(db, now, image).closed_credentials())

    def _read(self, question: Callable[[Connection], Answer]) -> Answer:
        def ask(engine: Engine) -> Answer:
            with reading(engine) as db:
                return question(db)

        return self._open(ask)

    def _open(self, question: Callable[[Engine], Answer]) -> Answer:
        try:
            engine = open_to_read(str(self.where), self._password)
        except BrokerError as exc:
            raise Unseen(str(exc)) from exc
        try:
            return question(engine)
        except SQLAlchemyError as exc:
            raise Unseen(f"{self.name} cannot be read: {str(exc).splitlines()[0]}") from exc
        finally:
            engine.dispose()


def check(ledger: Ledger, daemon_answers: bool) -> Check:
    """Whether it is there, can be read, and is of this program's schema."""

    def look() -> list[Finding]:
        try:
            current, head = ledger.revisions()
        except BrokerError as exc:
            mend = _NO_FILE if ledger.is_file else _NO_SERVER
            return [fail("ledger", str(exc), mend)]
        return [judge_ledger(ledger.name, current, head, daemon_answers)]

    return Check(section="daemon", name="ledger", look=look)
