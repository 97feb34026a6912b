"""Usage × terms: what each line of the ledger is charged at, exactly. Nothing is rounded here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

from broker.billing.booking import HOUR_US, Entry
from broker.billing.slices import SliceKind, month_start
from broker.billing.terms import CPU, Term, Terms
from broker.core.errors import BrokerError

_US = timedelta(microseconds=1)
_WHOLE = Decimal(100)


class CannotPrice(BrokerError):
    """A term is missing without which usage cannot be turned into money of the invoices' currency."""


@dataclass(frozen=True, kw_only=True)
class Charge:
    """One entry, or the part of it for which the same terms held.

    `unit_us`: GPU-microseconds (machine-microseconds without a GPU), signed, `free_us` of them free by a quota.
    `unit_price`: per unit and hour in `currency`; `exchange`: units of the invoice's currency for one of that.
    `amount`: in the invoice's currency; exact.
    """

    entry_id: int | None
    account: str
    user: str | None
    job_id: int | None
    kind: SliceKind
    accelerator: str | None
    began_at: datetime
    ended_at: datetime
    unit_us: Fraction
    free_us: Fraction
    free_scope: str | None
    unit_price: Fraction
    basis: str
    currency: str
    exchange: Decimal
    exchange_source: str | None
    percent: Decimal
    amount: Fraction
    terms: tuple[int, ...]

    def taken_back(self, entry_id: int | None) -> "Charge":
        """What a reversing entry charges: the same, with the other sign, whatever the terms are now."""
        return replace(self, entry_id=entry_id, unit_us=-self.unit_us, free_us=-self.free_us, amount=-self.amount)


FreeUsed = dict[tuple[str, datetime, str], Fraction]
"""Account, month, what the quota is about → microseconds of it that were used up."""


@dataclass(frozen=True, kw_only=True)
class Book:
    """What entries are priced with. `currency`: of the invoices."""

    terms: Terms
    currency: str

    def price(
        self,
        entries: Iterable[Entry],
        charged: Mapping[int, list[Charge]],
        used: Mapping[tuple[str, datetime, str], Fraction],
    ) -> list[Charge]:
        """The charges of entries that no invoice has yet. `charged`: what reversed entries were charged, by id.

        `used`: free hours that closed invoices have given already. CannotPrice.
        """
        free: FreeUsed = dict(used)
        charges: list[Charge] = []
        for entry in sorted(_not_cancelled(entries), key=lambda each: (each.slice.began_at, each.id or 0)):
            if entry.reverses is None:
                charges.extend(self._of(entry, free))
                continue
            for charge in charged[entry.reverses]:
                back = charge.taken_back(entry.id)
                _use(free, back)
                charges.append(back)
        return charges

    def _of(self, entry: Entry, free: FreeUsed) -> list[Charge]:
        piece = entry.slice
        account = piece.payer.account
        if account is None:
            return []
        edges = [piece.began_at, *self.terms.changes(piece.began_at, piece.ended_at), piece.ended_at]
        found: list[Charge] = []
        for low, high in pairwise(edges):
            charge = self._part(entry, account, low, high, free)
            _use(free, charge)
            before = found[-1] if found else None
            found.append(charge)
            if before is not None and _alike(before, charge):
                found[-2:] = [_joined(before, charge)]
        return found

    def _part(self, entry: Entry, account: str, low: datetime, high: datetime, free: FreeUsed) -> Charge:
        piece, model = entry.slice, entry.accelerator
        unit_us = Fraction((high - low) // _US * piece.part * entry.units, piece.parts)
        percent, share = self.terms.share(low, account, piece.kind)
        price = self.terms.price(low, account, model)
        margin = None
        if price is not None and price.value is not None:
            unit_price, currency, basis = Fraction(price.value), price.currency or self.currency, "price"
        else:
            margin = self.terms.margin(low, account, model)
            added = margin.value if margin is not None and margin.value is not None else Decimal(0)
            unit_price = Fraction(entry.price_per_hour) / entry.units * Fraction(_WHOLE + added) / 100
            currency, basis = entry.currency, f"cost + {added.normalize():f} %" if added else "cost"
        rate = self._exchange(low, currency)
        quota, free_us, scope = self._free(low, account, model, unit_us if percent else Fraction(0), free)
        exchange = rate.value if rate is not None and rate.value is not None else Decimal(1)
        amount = unit_price * (unit_us - free_us) / HOUR_US * Fraction(percent) / 100 * Fraction(exchange)
        return Charge(
            entry_id=entry.id,
            account=account,
            user=piece.payer.user,
            job_id=piece.payer.job_id,
            kind=piece.kind,
            accelerator=model,
            began_at=low,
            ended_at=high,
            unit_us=unit_us,
            free_us=free_us,
            free_scope=scope,
            unit_price=unit_price,
            basis=basis,
            currency=currency,
            exchange=exchange,
            exchange_source=rate.source if rate is not None else None,
            percent=percent,
            amount=amount,
            terms=tuple(
                term.id for term in (price, margin, share, quota, rate) if term is not None and term.id is not None
            ),
        )

    def _exchange(self, at: datetime, currency: str) -> Term | None:
        if currency == self.currency:
            return None
        term = self.terms.exchange(at, currency)
        if term is None:
            raise CannotPrice(
                f"usage of {at:%Y-%m-%d %H:%M} UTC is priced in {currency}, and invoices are in {self.currency}: no rate of "
                f"exchange held then; `broker rate set exchange VALUE --name {currency} --from {at:%Y-%m-%d} --source …`"
            )
        return term

    def _free(
        self, at: datetime, account: str, model: str | None, unit_us: Fraction, used: FreeUsed
    ) -> tuple[Term | None, Fraction, str | None]:
        quota = self.terms.quota(at, account, model)
        if quota is None or quota.value is None:
            return None, Fraction(0), None
        scope = quota.scope.accelerator or ""
        left = Fraction(quota.value) * HOUR_US - used.get((account, month_start(at), scope), Fraction(0))
        return quota, max(Fraction(0), min(unit_us, left)), scope


def _use(used: FreeUsed, charge: Charge) -> None:
    if charge.free_scope is not None:
        key = (charge.account, month_start(charge.began_at), charge.free_scope)
        used[key] = used.get(key, Fraction(0)) + charge.free_us


def _not_cancelled(entries: Iterable[Entry]) -> list[Entry]:
    """Without the pairs of an entry and its reversal: a mistake that was never charged must not use up free hours."""
    listed = list(entries)
    ids = {entry.id for entry in listed if entry.id is not None}
    gone = {entry.reverses for entry in listed if entry.reverses in ids}
    return [
        entry for entry in listed if entry.id not in gone and (entry.reverses is None or entry.reverses not in gone)
    ]


def _alike(one: Charge, other: Charge) -> bool:
    same = replace(
        other,
        began_at=one.began_at,
        ended_at=one.ended_at,
        unit_us=one.unit_us,
        free_us=one.free_us,
        amount=one.amount,
    )
    return same == one


def _joined(one: Charge, other: Charge) -> Charge:
    return replace(
        one,
        ended_at=other.ended_at,
        unit_us=one.unit_us + other.unit_us,
        free_us=one.free_us + other.free_us,
        amount=one.amount + other.amount,
    )


def unit_name(accelerator: str | None) -> str:
    """What a unit of a charge is called: a GPU model, or `cpu` for a machine without."""
    return accelerator or CPU
