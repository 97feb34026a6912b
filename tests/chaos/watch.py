"""Looks on from outside: two machines for one lease, and how long after each death all is in hand again."""

from __future__ import annotations

import typing
from dataclasses import dataclass, field

from sqlalchemy.exc import OperationalError

from broker.core.leases import LIVING, Lease, LeaseState
from broker.db import leases
from broker.db.engine import reading

if typing.TYPE_CHECKING:
    from chaos.world import World

VISIBILITY_LAG = 20.0
"""`LambdaProvider.visibility_lag_seconds`."""


@dataclass
class Debt:
    """What was left open when a daemon died. `settled_at`: when its successor had all of it in hand; None: not yet.

    `intents`: wishes of Slurm nobody had taken; `launching`: leases whose purchase was under way; `unknown`: machines
    that cost money and that the ledger did not know.
    """

    at: float
    socket: float | None
    intents: set[str]
    launching: set[str]
    unknown: set[str]
    settled_at: float | None = None


@dataclass
class Watch:
    world: World
    doubled: list[str] = field(default_factory=list)
    debts: list[Debt] = field(default_factory=list)
    _since: dict[str, float] = field(default_factory=dict)

    def ledger(self) -> list[Lease]:
        """Every lease; none while there is no ledger yet."""
        try:
            with reading(self.world.ledger) as db:
                return leases.all_leases(db)
        except OperationalError as exc:
            if "unable to open" in str(exc) or "no such table" in str(exc):
                return []
            raise

    def intents(self) -> set[str]:
        return {path.name for path in (self.world.folder / "spool" / "intents").glob("*.json")}

    def is_settled(self) -> bool:
        """Nothing living in the ledger, no wish of Slurm's left."""
        return not self.intents() and not any(
            lease.state in LIVING or lease.not_before is not None for lease in self.ledger()
        )

    def died(self) -> None:
        """A daemon is dead and its successor not yet started."""
        ledger = self.ledger()
        known = {lease.instance_id for lease in ledger}
        self.debts.append(
            Debt(
                at=self.world.pace.seconds(),
                socket=self._socket(),
                intents=self.intents(),
                launching={lease.id for lease in ledger if lease.state is LeaseState.LAUNCHING},
                unknown=set(self.world.cloud.living()) - known,
            )
        )

    def look(self) -> None:
        self._look_for_doubles()
        open_debts = [debt for debt in self.debts if debt.settled_at is None]
        if not open_debts:
            return
        now, intents, socket = self.world.pace.seconds(), self.intents(), self._socket()
        ledger = self.ledger()
        known = {lease.instance_id for lease in ledger}
        launching = {lease.id for lease in ledger if lease.state is LeaseState.LAUNCHING}
        living = set(self.world.cloud.living())
        for debt in open_debts:
            in_hand = not (debt.intents & intents or debt.launching & launching or (debt.unknown & living) - known)
            if in_hand and socket is not None and socket != debt.socket:
                debt.settled_at = now

    def _look_for_doubles(self) -> None:
        now = self.world.pace.seconds()
        living: dict[str, int] = {}
        for row in self.world.cloud.bill():
            if row["terminated_at"] is None:
                living[row["name"]] = living.get(row["name"], 0) + 1
        double = {name for name, count in living.items() if count > 1}
        for name in self._since.keys() - double:
            del self._since[name]
        for name in double:
            if now - self._since.setdefault(name, now) > 2 * VISIBILITY_LAG:
                text = f"{name}: {living[name]} living machines for longer than twice the visibility lag"
                if text not in self.doubled:
                    self.doubled.append(text)

    def _socket(self) -> float | None:
        """When the API's socket was made: a daemon that serves makes its own."""
        try:
            return (self.world.folder / "run" / "api.sock").stat().st_mtime
        except FileNotFoundError:
            return None
