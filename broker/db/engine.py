"""Opens the ledger and brings it up to date."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event
from sqlalchemy.exc import OperationalError

from broker.core.errors import LedgerUnavailable


def open_ledger(url: str) -> Engine:
    """An engine on `url` (`sqlite:///…` or `postgresql+psycopg://…`), migrated to the newest schema."""
    engine = create_engine(url, pool_pre_ping=True)
    if engine.dialect.name == "sqlite":
        _prepare_sqlite(engine)
    _explain_failures(engine)
    migrate(engine)
    if engine.dialect.name == "sqlite" and engine.url.database:
        _hold_to_one_file(engine, Path(engine.url.database))
    return engine


def migrate(engine: Engine) -> None:
    """Run the migrations that this ledger has not seen yet."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads: on SQLite it takes no write lock, so it waits for nobody."""
    with engine.connect().execution_options(read_only=True) as connection, connection.begin():
        yield connection


def _explain_failures(engine: Engine) -> None:
    @event.listens_for(engine, "handle_error")
    def on_error(context: ExceptionContext) -> None:
        # Locked, full, read-only, no server: not our statement's fault, and over when its cause is.
        if isinstance(context.sqlalchemy_exception, OperationalError):
            raise LedgerUnavailable(
                f"the ledger cannot be used ({context.original_exception}): nothing is bought or given back until it can; "
                f"look at {engine.url.render_as_string(hide_password=True)}: who locks it, is its disk full, may the "
                "daemon's user write there"
            ) from context.original_exception


def _hold_to_one_file(engine: Engine, path: Path) -> None:
    """A deleted file can still be written to, and a new one in its place is empty: neither is the ledger."""
    opened = path.stat()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        try:
            found = path.stat()
        except OSError as exc:
            raise LedgerUnavailable(
                f"the ledger {path} is gone ({exc.strerror}): nothing is bought or given back; put the file back where it was"
            ) from exc
        if (found.st_dev, found.st_ino) != (opened.st_dev, opened.st_ino):
            raise LedgerUnavailable(
                f"the ledger {path} is another file than the one the daemon opened: nothing is bought or given back; "
                "restart the daemon if the new one is the right one"
            )


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, record: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves: the driver's own would come too late
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def on_begin(connection: Any) -> None:
        # IMMEDIATE: take the write lock at the start, so that read-then-write cannot be overtaken half way.
        read_only = connection.get_execution_options().get("read_only", False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
