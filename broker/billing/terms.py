"""What usage is charged at: versioned terms, each in force from a date on. A later date never rewrites what was before."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from broker.billing.slices import SliceKind
from broker.core.errors import BrokerError


class TermKind(StrEnum):
    PRICE = "price"
    """Money a GPU-hour (a machine-hour where there is no GPU), whatever the provider takes."""
    MARGIN = "margin"
    """Per cent on top of what the provider takes, where no price is set."""
    SHARE = "share"
    """How many per cent of a kind of slice (boot, idle, …) are charged at all."""
    QUOTA = "quota"
    """GPU-hours a calendar month that are free."""
    EXCHANGE = "exchange"
    """Units of the invoices' currency for one unit of the term's own."""
    TAX = "tax"
    """Per cent on top of an invoice's net."""
    COST_CENTRE = "cost_centre"
    """What the account's invoices are booked on at home; a text."""


CPU = "cpu"
"""Stands for machines without a GPU where a term names a GPU model."""

MOST_PER_CENT = Decimal(1000)
_LARGEST = Decimal(10**12)
_FINEST = -12
"""Decimals of a value: as many as Stripe takes."""

DEFAULT_SHARES = {SliceKind.FAILED_BOOT: Decimal(0)}
"""A machine that never became a node is no user's fault; every other kind is charged in full."""


@dataclass(frozen=True, kw_only=True)
class Scope:
    """For whom a term holds. None: for all. `slice_kind`: of a share; `name`: of a tax, or the currency of an exchange."""

    kind: TermKind
    account: str | None = None
    accelerator: str | None = None
    slice_kind: SliceKind | None = None
    name: str | None = None


@dataclass(frozen=True, kw_only=True)
class Term:
    """`value` None: withdrawn from then on. `source`: where a rate of exchange, or the decision, comes from."""

    id: int | None
    scope: Scope
    value: Decimal | None
    text: str | None
    currency: str | None
    effective_from: datetime
    source: str | None
    set_by: str
    set_at: datetime


class Terms:
    """All terms ever set, for questions about one moment."""

    def __init__(self, terms: Iterable[Term]) -> None:
        self._by_scope: dict[Scope, list[Term]] = defaultdict(list)
        for term in sorted(terms, key=lambda each: (each.effective_from, each.id or 0)):
            self._by_scope[term.scope].append(term)
        self._changes = sorted({term.effective_from for each in self._by_scope.values() for term in each})

    def changes(self, low: datetime, high: datetime) -> list[datetime]:
        """When something begins to be in force within (low, high)."""
        return [at for at in self._changes if low < at < high]

    def in_force(self, scope: Scope, at: datetime) -> Term | None:
        """Just this scope's term, with whatever it says."""
        found = None
        for term in self._by_scope.get(scope, ()):
            if term.effective_from > at:
                break
            found = term
        return found

    def price(self, at: datetime, account: str, accelerator: str | None) -> Term | None:
        return self._nearest(TermKind.PRICE, at, account, accelerator or CPU)

    def margin(self, at: datetime, account: str, accelerator: str | None) -> Term | None:
        return self._nearest(TermKind.MARGIN, at, account, accelerator or CPU)

    def quota(self, at: datetime, account: str, accelerator: str | None) -> Term | None:
        return self._nearest(TermKind.QUOTA, at, account, accelerator or CPU)

    def share(self, at: datetime, account: str, kind: SliceKind) -> tuple[Decimal, Term | None]:
        """Per cent of that kind of slice that are charged, and the term that says so; None: the default."""
        for whose in (account, None):
            term = self.in_force(Scope(kind=TermKind.SHARE, account=whose, slice_kind=kind), at)
            if term is not None and term.value is not None:
                return term.value, term
        return DEFAULT_SHARES.get(kind, Decimal(100)), None

    def exchange(self, at: datetime, currency: str) -> Term | None:
        term = self.in_force(Scope(kind=TermKind.EXCHANGE, name=currency), at)
        return term if term is not None and term.value is not None else None

    def taxes(self, at: datetime, account: str) -> list[Term]:
        """By name; an account's own tax takes the place of the general one of the same name."""
        found: dict[str, Term] = {}
        for scope in self._by_scope:
            if scope.kind is TermKind.TAX and scope.account in (None, account) and scope.name is not None:
                own = self.in_force(scope, at)
                if own is not None and (scope.account is not None or scope.name not in found):
                    found[scope.name] = own
        return [found[name] for name in sorted(found) if found[name].value]

    def cost_centre(self, at: datetime, account: str) -> str | None:
        term = self.in_force(Scope(kind=TermKind.COST_CENTRE, account=account), at)
        return term.text if term is not None else None

    def _nearest(self, kind: TermKind, at: datetime, account: str, accelerator: str) -> Term | None:
        """The one that is most closely about it: account and GPU, account, GPU, all."""
        for whose, what in ((account, accelerator), (account, None), (None, accelerator), (None, None)):
            term = self.in_force(Scope(kind=kind, account=whose, accelerator=what), at)
            if term is not None and term.value is not None:
                return term
        return None


_TAKES_GPU = {TermKind.PRICE, TermKind.MARGIN, TermKind.QUOTA}
_PER_CENT = {TermKind.MARGIN, TermKind.SHARE, TermKind.TAX}
_ACCOUNT = re.compile(r"[^\s/\x00-\x1f\x7f]{1,64}")
_CURRENCY = re.compile(r"[A-Z]{3}")


def checked(term: Term, invoice_currency: str) -> Term:
    """The term when it can be used. BrokerError: which part of it cannot, and the mend."""
    scope, kind = term.scope, term.scope.kind
    if scope.account is not None and not _ACCOUNT.fullmatch(scope.account):
        raise BrokerError("--account: is no Slurm account's name; `sacctmgr list accounts` shows them")
    if scope.accelerator is not None and kind not in _TAKES_GPU:
        raise BrokerError(f"--gpu: a {kind} does not depend on the GPU; take it out")
    if (scope.slice_kind is not None) != (kind is TermKind.SHARE):
        raise BrokerError(
            "--kind: belongs to a share, and a share needs it: boot, failed_boot, job, idle, parked, release"
        )
    if kind is TermKind.EXCHANGE:
        _check_exchange(term, invoice_currency)
    elif kind is TermKind.TAX:
        if not scope.name or len(scope.name) > 40 or not scope.name.isprintable():
            raise BrokerError('--name: a tax has a name for the invoice, such as "VAT 19 %", of at most 40 characters')
    elif scope.name is not None:
        raise BrokerError(f"--name: belongs to a tax or an exchange, not to a {kind}; take it out")
    if kind is TermKind.PRICE:
        if term.currency is not None and not _CURRENCY.fullmatch(term.currency):
            raise BrokerError(f'--currency: "{term.currency}" is no currency code; write one such as USD')
    elif kind is not TermKind.EXCHANGE and term.currency is not None:
        raise BrokerError(f"--currency: a {kind} has none; take it out")
    _check_value(term)
    return term


def _check_exchange(term: Term, invoice_currency: str) -> None:
    if term.scope.account is not None:
        raise BrokerError("--account: a rate of exchange holds for all; take it out")
    if term.scope.name is None or not _CURRENCY.fullmatch(term.scope.name) or term.scope.name == invoice_currency:
        raise BrokerError(
            f"--name: the currency that is exchanged into {invoice_currency}, such as EUR, and not itself"
        )
    if not term.source:
        raise BrokerError('--source: a rate of exchange needs its source and date, such as "ECB 2026-11-02"')
    if term.value is not None and term.value <= 0:
        raise BrokerError("VALUE: a rate of exchange is above 0")


def _check_value(term: Term) -> None:
    kind = term.scope.kind
    if kind is TermKind.COST_CENTRE:
        if term.scope.account is None:
            raise BrokerError("--account: a cost centre is one account's; name it")
        if term.text is not None and (not term.text.isprintable() or not 1 <= len(term.text) <= 64):
            raise BrokerError("VALUE: a cost centre is a text of at most 64 printable characters")
        return
    value = term.value
    if value is None:
        return
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or not 0 <= value < _LARGEST or exponent < _FINEST:
        raise BrokerError(f"VALUE: {kind} is a plain number, 0 or more, with at most 12 decimals, such as 2.49")
    if kind in _PER_CENT and value > (100 if kind is not TermKind.MARGIN else MOST_PER_CENT):
        raise BrokerError(f"VALUE: {kind} is in per cent, and {value} is too many; 15 means 15 %")
