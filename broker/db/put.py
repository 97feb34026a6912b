"""One row written by one statement, whoever else writes the same row at the same time."""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

Condition = Callable[[Any], ColumnElement[bool]]
"""From the row that was to be inserted (`excluded`) to whether it takes the standing one's place."""


def put(db: Connection, table: Table, row: Mapping[str, Any], replace: Condition | None = None) -> None:
    """Insert `row`; where its primary key is there already, it stays as it is, or is replaced when `replace` says so."""
    make = postgresql.insert if db.dialect.name == "postgresql" else sqlite.insert
    statement = make(table).values(row)
    key = list(table.primary_key.columns)
    if replace is None:
        db.execute(statement.on_conflict_do_nothing(index_elements=key))
        return
    changed = {name: statement.excluded[name] for name in row if name not in table.primary_key.columns}
    db.execute(statement.on_conflict_do_update(index_elements=key, set_=changed, where=replace(statement.excluded)))
