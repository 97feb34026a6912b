"""The terms of billing, every version of each."""

from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from broker.billing.slices import SliceKind
from broker.billing.terms import Scope, Term, TermKind
from broker.db.schema import billing_terms


def add(db: Connection, term: Term) -> Term:
    """Append a version; it comes back with its id."""
    row = {
        "kind": term.scope.kind,
        "account": term.scope.account,
        "accelerator": term.scope.accelerator,
        "slice_kind": term.scope.slice_kind,
        "name": term.scope.name,
        "value": term.value,
        "text": term.text,
        "currency": term.currency,
        "effective_from": term.effective_from,
        "source": term.source,
        "set_by": term.set_by,
        "set_at": term.set_at,
    }
    key = db.execute(insert(billing_terms).values(row)).inserted_primary_key
    assert key is not None  # noqa: S101  # an insert of one row always has one
    return replace(term, id=int(key[0]))


def every(db: Connection) -> list[Term]:
    """All versions, oldest first."""
    return [_term(row) for row in db.execute(select(billing_terms).order_by(billing_terms.c.id))]


def last_from(db: Connection, scope: Scope) -> datetime | None:
    """From when the latest version of just this scope is in force; None: it was never set."""
    dates = [term.effective_from for term in every(db) if term.scope == scope]
    return max(dates, default=None)


def _term(row: Row[Any]) -> Term:
    return Term(
        id=row.id,
        scope=Scope(
            kind=TermKind(row.kind),
            account=row.account,
            accelerator=row.accelerator,
            slice_kind=SliceKind(row.slice_kind) if row.slice_kind is not None else None,
            name=row.name,
        ),
        value=row.value,
        text=row.text,
        currency=row.currency,
        effective_from=row.effective_from,
        source=row.source,
        set_by=row.set_by,
        set_at=row.set_at,
    )
