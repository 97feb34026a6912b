"""The whole ledger as one file, the same for both databases.

One JSON object a line: a header (format, cluster, schema, time), then the rows, table by table, as the database holds them;
the last line has their number and the SHA-256 of every byte before it. The offers' history is left out: it grows to a hundred
times the rest, and no machine and no money depends on it. A backup is loaded under its own schema and then
migrated, so that a newer release can restore what an older one wrote.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import IO, Any

from sqlalchemy import Connection, DateTime, Engine, MetaData, Table, insert, text

from broker.core.errors import BrokerError
from broker.db.chunks import chunks
from broker.db.engine import current_revision, engine_has, known_revisions, migrate_within, reading

_FORMAT = "broker-ledger"
_VERSION = 1
_BOOKKEEPING = "alembic_version"
HISTORY = frozenset({"offer_series", "offer_observations", "offer_readings", "offer_periods"})
"""Tables that a backup leaves out."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a backup says of itself. `taken_at`: what is not in it was written later."""

    cluster: str
    schema: str
    taken_at: datetime


@dataclass(frozen=True, kw_only=True)
class Backup:
    """A checked backup. `rows`: (table, row) in the order in which they may be inserted."""

    header: Header
    rows: tuple[tuple[str, dict[str, Any]], ...]

    def counts(self) -> dict[str, int]:
        """Table → how many rows."""
        return {name: len(list(rows)) for name, rows in groupby(self.rows, key=lambda entry: entry[0])}


def dump(engine: Engine, cluster: str, now: datetime, out: IO[bytes]) -> Backup:
    """Write the ledger as it is at one moment, while the daemon goes on. BrokerError: there is no ledger yet."""
    digest = hashlib.sha256()

    def line(value: object) -> None:
        content = json.dumps(value, separators=(",", ":")).encode() + b"\n"
        digest.update(content)
        out.write(content)

    rows = []
    with reading(engine) as db:
        schema = current_revision(db)
        if schema is None:
            raise BrokerError("there is no ledger yet: its database is empty; the daemon makes it when it starts")
        header = {"format": _FORMAT, "version": _VERSION, "cluster": cluster, "schema": schema}
        line({**header, "taken_at": now.isoformat()})
        for table in (table for table in _tables(db) if table.name not in HISTORY):
            for row in db.execute(table.select().order_by(*table.primary_key.columns)).mappings():
                values = {
                    name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()
                }
                line({"table": table.name, "row": values})
                rows.append((table.name, values))
    out.write(json.dumps({"rows": len(rows), "sha256": digest.hexdigest()}).encode() + b"\n")
    return Backup(header=Header(cluster=cluster, schema=schema, taken_at=now), rows=tuple(rows))


def read(name: str, content: bytes) -> Backup:
    """Check a backup as a whole. BrokerError: it is none, is cut short or changed, or a newer release wrote it."""
    body, newline, last = content.rstrip(b"\n").rpartition(b"\n")
    lines = (body + newline).splitlines(keepends=True)
    try:
        first, end = json.loads(lines[0]), json.loads(last)
        known = first["format"] == _FORMAT
    except (IndexError, KeyError, TypeError, ValueError):
        raise BrokerError(f"{name} is no backup of a ledger; `broker ledger backup` writes one") from None
    if not known or first.get("version") != _VERSION:
        raise BrokerError(
            f"{name} is a {first['format']} of version {first.get('version')}, which this release cannot read"
        )
    digest = hashlib.sha256(body + newline).hexdigest()
    if not isinstance(end, dict) or end.get("sha256") != digest or end.get("rows") != len(lines) - 1:
        raise BrokerError(f"{name} is damaged: its checksum is wrong, it was cut short or changed; take another backup")
    if first["schema"] not in known_revisions():
        raise BrokerError(
            f"{name} has the schema {first['schema']} of a newer release, and this one ends at {known_revisions()[-1]}; "
            "install that release first"
        )
    header = Header(
        cluster=first["cluster"], schema=first["schema"], taken_at=datetime.fromisoformat(first["taken_at"])
    )
    rows = (json.loads(line) for line in lines[1:])
    return Backup(header=header, rows=tuple((row["table"], row["row"]) for row in rows))


def load(db: Connection, backup: Backup) -> None:
    """Put the backup in the place of everything in the database, brought to this release's schema."""
    old = MetaData()
    old.reflect(db)
    old.drop_all(db)
    migrate_within(db, backup.header.schema)
    tables = {table.name: table for table in _tables(db)}
    for table in reversed(list(tables.values())):
        db.execute(table.delete())  # what the migrations put there
    for name, rows in groupby(backup.rows, key=lambda entry: entry[0]):
        for chunk in chunks(_typed(tables[name], row) for _, row in rows):
            db.execute(insert(tables[name]), chunk)
    if db.dialect.name == "postgresql":
        _set_sequences(db, tables.values())
    migrate_within(db, "head")


def has_ledger(db: Connection) -> bool:
    """Whether the database holds a ledger at all."""
    return engine_has(db, "leases")


def _tables(db: Connection) -> list[Table]:
    """As the database has them, parents first: a backup of any schema, not only of this release's."""
    found = MetaData()
    found.reflect(db)
    return [table for table in found.sorted_tables if table.name != _BOOKKEEPING]


def _typed(table: Table, row: dict[str, Any]) -> dict[str, Any]:
    times = {column.name for column in table.columns if isinstance(column.type, DateTime)}
    return {name: datetime.fromisoformat(value) if name in times and value else value for name, value in row.items()}


def _set_sequences(db: Connection, tables: Iterable[Table]) -> None:
    """Rows came with their numbers: the next one must not be given out again."""
    for table in tables:
        for column in table.primary_key.columns:
            name = f'"{table.name}"'
            sequence = db.execute(
                text("SELECT pg_get_serial_sequence(:name, :of)"), {"name": name, "of": column.name}
            ).scalar()
            if sequence is not None:
                last = db.execute(table.select().order_by(column.desc()).limit(1)).mappings().one_or_none()
                next_value = (last[column.name] if last else 0) + 1
                db.execute(text("SELECT setval(:sequence, :next, false)"), {"sequence": sequence, "next": next_value})
