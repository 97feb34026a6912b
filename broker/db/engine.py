"""Opens the ledger and brings it up to date.

Two databases, one set of rules. What makes concurrent work safe on both:

- A lease is written by compare-and-set on its version (`leases.move`, `amend`): who comes second is told `StaleLease`.
- SQLite: a writing transaction begins IMMEDIATE, so writing transactions run one after the other.
- PostgreSQL: writing transactions run at READ COMMITTED, on purpose. `purchasing.take_turn` locks its one row, and only
  at READ COMMITTED do the statements after it see what the buyer before committed; at REPEATABLE READ the second buyer
  would fail instead of waiting. A lease that a writing transaction reads is locked by that (`leases.get`, `holding`),
  so that read-then-write is not overtaken half way, as on SQLite. Rows that two workers may write at once (usage,
  blocks) are written by one statement with ON CONFLICT.
- The database has the last word on what may not be twice: one unfenced lease a node name (a unique partial index), one
  start and one end of each usage (a primary key).
- `reading` sees one moment: SQLite's WAL gives that by itself, PostgreSQL at REPEATABLE READ.
- A serialization failure or deadlock, should one arise, is a `StaleLease`: nothing was written, the next pass reads again.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError

from broker.config.settings import Secret
from broker.core.errors import BrokerError, ConfigError, LedgerUnavailable, StaleLease

log = logging.getLogger("broker.ledger")

# How long a dead server may keep a worker: too short, and a busy one counts as dead; too long, and nothing is told.
_CONNECT_S = 10
_SILENCE_MS = 20_000
_LOCK_MS = 10_000
_STATEMENT_MS = 60_000
# Serialization failure, deadlock: another transaction was first, and this one has changed nothing.
_OVERTAKEN = frozenset({"40001", "40P01"})


def open_ledger(url: str, password: Secret | None = None) -> Engine:
    """An engine on `url` (`sqlite:///…` or `postgresql+psycopg://…`), migrated to the newest schema.

    ConfigError: as of `connect` and `prepare`.
    """
    engine = connect(url, password, create=True)
    prepare(engine)
    return engine


def prepare(engine: Engine) -> None:
    """Bring the ledger up to date before the first use. ConfigError: it does not answer, or is newer than this release."""
    try:
        migrate(engine)
        if engine.dialect.name == "sqlite" and engine.url.database:
            _hold_to_one_file(engine, Path(engine.url.database))
    except LedgerUnavailable as exc:
        engine.dispose()
        raise ConfigError(f"[site] database: {exc}") from exc
    except DBAPIError as exc:
        engine.dispose()
        raise ConfigError(
            f"[site] database: its tables cannot be made ({' '.join(str(exc.orig).split())}); "
            f"make our role the owner of the database {engine.url.database}"
        ) from exc


def connect(url: str, password: Secret | None = None, *, create: bool = False) -> Engine:
    """An engine on `url`, as it is. Losing the database is a `LedgerUnavailable` wherever the engine is used.

    `create`: a SQLite file that is not there is made.
    """
    where = make_url(url)
    try:
        if where.get_backend_name() == "postgresql":
            # Few: each is a process of the server. Too few: workers wait for one another at each step.
            engine = create_engine(
                where, pool_pre_ping=True, pool_size=8, max_overflow=24, connect_args=_connect_args(where)
            )
        else:
            engine = create_engine(where, pool_pre_ping=True)
    except ModuleNotFoundError as exc:
        raise ConfigError(
            f"[site] database: {exc.name} is not installed here; install the broker with it: pip install 'broker[postgres]'"
        ) from exc
    if engine.dialect.name == "sqlite":
        _prepare_sqlite(engine)
        if (file := engine.url.database) and not file.startswith((":memory:", "file:")):
            _open_existing(engine, Path(file), create=create)
    elif password is not None:
        # Here, not in the URL: whatever prints the engine, its pool or an error of theirs cannot show it.
        @event.listens_for(engine, "do_connect")
        def on_do_connect(dialect: object, record: object, args: object, values: dict[str, Any]) -> None:
            values["password"] = password.reveal()

    _translate_errors(engine)
    return engine


def migrate(engine: Engine, revision: str = "head") -> None:
    """Run the migrations that this ledger has not seen yet, up to `revision`."""
    with engine.begin() as db:
        migrate_within(db, revision)


def migrate_within(db: Connection, revision: str) -> None:
    """`migrate` inside the caller's transaction. ConfigError: a newer release made this ledger."""
    here = current_revision(db)
    if here is not None and here not in known_revisions():
        raise ConfigError(
            f"[site] database: the ledger has the schema {here} of a newer release, and this one ends at "
            f"{known_revisions()[-1]}; install the newer release again"
        )
    config = _alembic()
    config.attributes["connection"] = db
    command.upgrade(config, revision)


def current_revision(db: Connection) -> str | None:
    """The schema of the ledger; None: it is empty."""
    if not engine_has(db, "alembic_version"):
        return None
    revision: str | None = db.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return revision


def known_revisions() -> list[str]:
    """Every schema this release knows, oldest first."""
    script = ScriptDirectory.from_config(_alembic())
    return [step.revision for step in reversed(list(script.walk_revisions()))]


def engine_has(db: Connection, table: str) -> bool:
    """Whether the database has the table."""
    return db.dialect.has_table(db, table)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads, and sees one moment: it waits for nobody, and nobody for it."""
    options: dict[str, Any] = {"read_only": True}
    if engine.dialect.name == "postgresql":
        options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with engine.connect().execution_options(**options) as connection, connection.begin():
        yield connection


def is_reading(db: Connection) -> bool:
    """Whether the transaction is one of `reading`."""
    return bool(db.get_execution_options().get("read_only", False))


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    return config


def _connect_args(url: URL) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "application_name": "broker",
        "connect_timeout": _CONNECT_S,
        # A server that vanished without a word (its host lost power, the network was cut) is noticed.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": _SILENCE_MS,
        "options": f"-c lock_timeout={_LOCK_MS} -c statement_timeout={_STATEMENT_MS}"
        # A daemon whose host lost power must not own the ledger for the hours that TCP grants it.
        " -c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3",
    }
    return {name: value for name, value in defaults.items() if name not in url.query}


def _open_existing(engine: Engine, path: Path, *, create: bool) -> None:
    """SQLite makes a file that is missing, and a new one throws away the journal of the old: with all that is only there."""
    journal = Path(f"{path}-wal")

    @event.listens_for(engine, "do_connect")
    def on_do_connect(dialect: object, record: object, args: list[Any], values: dict[str, Any]) -> None:
        may_create = create and not path.exists()
        if may_create and journal.exists():
            raise LedgerUnavailable(
                f"the ledger {path} is gone, and its journal {journal} is still there: a new ledger would destroy it; put the "
                "file back where it was, or move the journal away, too"
            )
        if not create and not path.exists():
            raise BrokerError(
                f"there is no ledger {path}: put the file back where it was, or start the daemon once, which makes one"
            )
        args[0] = f"file:{quote(str(path.absolute()))}?mode={'rwc' if may_create else 'rw'}"
        values["uri"] = True


def _hold_to_one_file(engine: Engine, path: Path) -> None:
    """A deleted file can still be written to, and another one in its place has other rows: neither is the ledger."""
    opened = path.stat()

    @event.listens_for(engine, "do_connect", insert=True)
    def on_do_connect(*_: object) -> None:
        check()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        check()

    def check() -> None:
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
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_LOCK_MS}"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def on_begin(connection: Any) -> None:
        # IMMEDIATE: take the write lock at the start, so that read-then-write cannot be overtaken half way.
        connection.exec_driver_sql("BEGIN" if is_reading(connection) else "BEGIN IMMEDIATE")


def _translate_errors(engine: Engine) -> None:
    """The one place where what the database says becomes an error of ours."""

    @event.listens_for(engine, "handle_error")
    def on_error(context: ExceptionContext) -> BrokerError | None:
        if context.is_pre_ping:
            return None  # the pool throws the dead connection away and opens a new one
        error = context.original_exception
        dialect = context.dialect
        if getattr(error, "sqlstate", None) in _OVERTAKEN:
            return StaleLease("another transaction was first; read the lease again")
        driver = dialect.loaded_dbapi
        away = isinstance(error, (driver.OperationalError, driver.InterfaceError))
        # SQLite says just this of a file that is damaged or no database at all.
        damaged = dialect.name == "sqlite" and type(error) is driver.DatabaseError
        if context.is_disconnect or away or damaged:
            return LedgerUnavailable(_told(engine.url, error))
        return None


def _told(url: URL, error: BaseException) -> str:
    said = " ".join(str(error).split()) or type(error).__name__
    if url.get_backend_name() == "sqlite":
        mend = {
            "database is locked": "another program holds it; end that",
            "database or disk is full": "make room on its disk",
            "attempt to write a readonly database": "give it and its folder back to the daemon's user",
            "unable to open database file": "give its folder to the daemon's user",
        }.get(said, "look at its disk; `broker ledger restore` brings a backup back")
        return f"the ledger {url.database} cannot be used ({said}): nothing is bought meanwhile; {mend}"
    host = url.query.get("host", url.host) or "the default socket"
    return (
        f"the ledger's PostgreSQL ({host}, database {url.database}) does not serve us: {said}; "
        "start it or mend that, nothing is bought meanwhile"
    )
