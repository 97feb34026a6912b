"""All that a ledger holds, to be compared with what it holds later."""

from sqlalchemy import Engine, select

from broker.db.engine import reading
from broker.db.schema import metadata


def whole(engine: Engine) -> dict[str, list[tuple[object, ...]]]:
    """Table → its rows, in an order that does not depend on the database."""
    with reading(engine) as db:
        return {
            table.name: sorted((tuple(row) for row in db.execute(select(table))), key=repr)
            for table in metadata.sorted_tables
        }
