"""Metering, closing and telling Stripe, while the process dies again and again at any step between two effects.

A step is the beginning or the end of a transaction, or either side of a request. Death undoes the open transaction; what was
stored at Stripe before the answer came stays stored. `python -m billing_crashes` plays many (`make chaos-billing`).
"""

import argparse
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from billing_world import DECEMBER, NOVEMBER, OCTOBER, Machine, a_billing, a_metering, a_term
from factories import Clock
from sqlalchemy import Engine, event, select
from stripe_world import a_cashier, a_server

from broker.billing.invoices import period_of
from broker.billing.slices import slices
from broker.core.errors import BrokerError
from broker.db import invoices, outbox, usage_entries
from broker.db.engine import connect, open_ledger, reading
from broker.db.outbox import MessageState
from broker.db.schema import invoiced_entries
from broker.sandbox.emulators.stripe_http import StripeServer, StripeTrouble
from broker.services import metering
from broker.services.usage_outbox import UsageOutbox

HOUR = timedelta(hours=1)
JANUARY = DECEMBER + timedelta(days=31)


class Death(BaseException):
    """The process is gone: nothing catches it."""


@dataclass
class Fate:
    """Kills at a random step, and counts."""

    random: random.Random
    chance: float
    deaths: int = 0
    steps: int = 0
    alive: bool = True

    def step(self, what: str) -> None:
        self.steps += 1
        if self.alive and self.random.random() < self.chance:
            self.deaths += 1
            raise Death(what)


@dataclass
class Played:
    seed: int
    meters: bool
    deaths: int
    steps: int
    wrong: list[str] = field(default_factory=list)


def play(seed: int, folder: Path, template: Path, *, meters: bool, chance: float = 0.04) -> Played:
    """One world to its end: three months of machines, in an order and with deaths that the seed says."""
    ledger = folder / f"{seed}-{meters}.db"
    shutil.copy(template, ledger)
    dice = random.Random(seed)
    fate = Fate(random.Random(seed + 1), chance, alive=False)
    engine = connect(f"sqlite:///{ledger}")
    _watch(engine, fate)
    clock = Clock(OCTOBER)
    server = a_server(clock)
    try:
        _Story(engine, clock, server, fate, dice, meters).play()
        wrong = _judge(engine, clock, server, meters)
    finally:
        engine.dispose()
        ledger.unlink()
    return Played(seed=seed, meters=meters, deaths=fate.deaths, steps=fate.steps, wrong=wrong)


def a_template(folder: Path) -> Path:
    """An empty ledger, made once."""
    path = folder / "template.db"
    open_ledger(f"sqlite:///{path}").dispose()
    return path


def _watch(engine: Engine, fate: Fate) -> None:
    @event.listens_for(engine, "connect")
    def quick(connection: object, record: object) -> None:
        connection.execute("PRAGMA synchronous=OFF")  # type: ignore[attr-defined]  # deaths here leave the kernel alive

    @event.listens_for(engine, "begin")
    def begin(connection: object) -> None:
        fate.step("begin")

    @event.listens_for(engine, "commit")
    def commit(connection: object) -> None:
        fate.step("commit")


class _Story:
    def __init__(
        self, engine: Engine, clock: Clock, server: StripeServer, fate: Fate, dice: random.Random, meters: bool
    ) -> None:
        self.engine, self.clock, self.server, self.fate, self.dice, self.meters = (
            engine,
            clock,
            server,
            fate,
            dice,
            meters,
        )

    def play(self) -> None:
        self._terms()
        for month in (OCTOBER, NOVEMBER, DECEMBER):
            self._machines(month)
            self.clock.now = month + timedelta(days=23)
            self._until_done(self._book)
            self.clock.now = _after(month) + HOUR
            self._troubles()
            self._until_done(self._book)
            self._until_done(lambda month=month: self._close(month))
            self._until_done(self._push)
        self.server.troubles.clear()
        self._until_done(self._push)

    def _terms(self) -> None:
        billing = a_billing(self.engine, self.clock)
        billing.set_term(a_term("price", "2.99", accelerator="H100"), "root")
        if not self.meters:
            billing.set_term(a_term("tax", "19", name="VAT"), "root")
            billing.set_term(a_term("quota", "3", account="lab"), "root")
            billing.set_term(a_term("price", "1.99", NOVEMBER + timedelta(days=3), account="chem"), "root")

    def _machines(self, month: datetime) -> None:
        for number in range(self.dice.randint(1, 3)):
            account = self.dice.choice(["lab", "chem", "~eve"])
            began = month + timedelta(days=20, seconds=self.dice.randint(0, 7 * 86400))
            long = timedelta(seconds=self.dice.randint(60, 9 * 3600))
            machine = Machine(
                self.engine, began, node=f"h100-{month.month}{number}", job=number + 1, account=account, price="3.33"
            )
            if self.dice.random() < 0.85:
                machine.ready(began + long / 10).job(number + 1, began + long / 10, began + long / 2, account=account)
            machine.given_back(began + long)

    def _troubles(self) -> None:
        for _ in range(self.dice.randint(0, 3)):
            path = self.dice.choice(
                ["/v1/invoices", "/v1/invoiceitems", "/v1/customers", "/v1/billing/meter_events", "/v1/.*"]
            )
            status = self.dice.choice([None, 409, 429, 500, 503])
            self.server.troubles.append(
                StripeTrouble(path, self.dice.choice(["before", "after"]), status, self.dice.randint(1, 3))
            )

    def _until_done(self, deed: Callable[[], bool]) -> None:
        """Again after each death and each trouble, a while later; some times more than a day, so that guards are over."""
        long = 3
        for _ in range(400):
            self.fate.alive = True
            try:
                done = deed()
            except Death:
                done = False
            except BrokerError:
                done = False
            finally:
                self.fate.alive = False
            if done:
                return
            if long and self.dice.random() < 0.25:
                long -= 1
                self.clock.now += timedelta(days=2)
            else:
                self.clock.now += timedelta(minutes=self.dice.randint(1, 90))
        raise AssertionError(f"{deed} came to no end")

    def _metering(self) -> metering.Metering:
        told = UsageOutbox(cluster="test").tell if self.meters else (lambda db, entries, now: None)
        return a_metering(self.engine, told=told)

    def _book(self) -> bool:
        self._metering().book(self.clock.now)
        return True

    def _close(self, month: datetime) -> bool:
        a_billing(self.engine, self.clock, metering=self._metering()).close(period_of(f"{month:%Y-%m}"), None, "root")
        return True

    def _push(self) -> bool:
        cashier = a_cashier(self.engine, self.clock, self.server, meters=self.meters, step=self.fate.step)
        if self.meters:
            cashier.metered.send()
            with reading(self.engine) as db:
                counts = outbox.counts(db)
            return not counts.get("due") and not counts.get("sending")
        billing = a_billing(self.engine, self.clock)
        return all(each.error is None for each in cashier.push(billing.invoices(None, None)))


def _after(month: datetime) -> datetime:
    return {OCTOBER: NOVEMBER, NOVEMBER: DECEMBER, DECEMBER: JANUARY}[month]


def _judge(engine: Engine, clock: Clock, server: StripeServer, meters: bool) -> list[str]:
    """What was lost or doubled; empty: nothing."""
    wrong: list[str] = []
    with reading(engine) as db:
        lease_ids = usage_entries.due(db, clock.now, OCTOBER)
        counted = usage_entries.counted(db, lease_ids)
        facts = metering._facts(db, lease_ids, counted)
        written = usage_entries.of_leases(db, lease_ids)
        on_invoices = dict(db.execute(select(invoiced_entries.c.entry_id, invoiced_entries.c.invoice_id)).all())
        closed = invoices.every(db)
        charges = {each.id: invoices.charges_of(db, each.id) for each in closed}
        told, sent = outbox.sums(db, OCTOBER, JANUARY), outbox.sums(db, OCTOBER, JANUARY, [MessageState.SENT])
        dead = outbox.stuck(db)
    for lease_id, metered in facts.items():
        should = sum(
            Fraction((p.ended_at - p.began_at) // timedelta(microseconds=1) * p.part, p.parts)
            for p in slices(metered, clock.now)
        )
        does = sum(entry.machine_us for entry in written.get(lease_id, []))
        if should != does:
            wrong.append(f"lease {lease_id}: {should} us used, {does} booked")
        wrong += [f"entry {e.id} is on no invoice" for e in written.get(lease_id, []) if e.id not in on_invoices]
    for account in {each.account for each in closed}:
        exact = sum((c.amount for each in closed if each.account == account for c in charges[each.id]), Fraction(0))
        last = [each for each in closed if each.account == account][-1]
        net = sum(each.net_minor for each in closed if each.account == account)
        if exact != Fraction(net, 100) + last.carried_out:
            wrong.append(f"{account}: {exact} charged, {net} invoiced, {last.carried_out} carried on")
    return wrong + (_judge_meters(server, told, sent, dead) if meters else _judge_invoices(server, closed))


def _judge_meters(server: StripeServer, told: dict, sent: dict, dead: list) -> list[str]:
    names = {each["id"]: each["name"] for each in server.account.all("customers")}
    there: dict[tuple[str, str], Decimal] = {}
    for each in server.account.usage:
        key = (names[each["customer"]], "H100")
        there[key] = there.get(key, Decimal(0)) + each["value"]
    wrong = [f"a message is {each.state}: {each.error}" for each in dead]
    if not told == sent == there:
        wrong.append(f"to tell {told}, told {sent}, at Stripe {there}")
    if len(names) != len(set(names.values())):
        wrong.append(f"customers are doubled: {sorted(names.values())}")
    return wrong


def _judge_invoices(server: StripeServer, closed: list) -> list[str]:
    wrong: list[str] = []
    ours = sorted((f"test/{each.id}", each.total_minor) for each in closed if each.lines)
    theirs = sorted((each["metadata"]["broker_name"], each["total"]) for each in server.account.all("invoices"))
    if ours != theirs:
        wrong.append(f"ours {ours}, Stripe's {theirs}")
    drafts = [each["id"] for each in server.account.all("invoices") if each["status"] == "draft"]
    names = [each["name"] for each in server.account.all("customers")]
    if drafts or len(names) != len(set(names)):
        wrong.append(f"drafts {drafts}, customers {names}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="Billing while the process dies: what was lost or doubled.")
    parser.add_argument("--crashes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    deaths = worlds = steps = bad = 0
    with tempfile.TemporaryDirectory(prefix="broker-billing-") as name:
        folder = Path(name)
        template = a_template(folder)
        while deaths < asked.crashes:
            for meters in (False, True):
                played = play(asked.seed + worlds // 2, folder, template, meters=meters)
                deaths, worlds, steps = deaths + played.deaths, worlds + 1, steps + played.steps
                bad += bool(played.wrong)
                for line in played.wrong:
                    sys.stdout.write(f"seed {played.seed}, {'meters' if meters else 'invoices'}: {line}\n")
    sys.stdout.write(f"{deaths} deaths in {worlds} worlds, {steps} steps: {bad} worlds with a charge lost or doubled\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
