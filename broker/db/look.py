"""Opens a ledger to look at it, whoever owns it: never makes one, never migrates."""

from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, event, make_url

from broker.config.settings import Secret
from broker.core.errors import BrokerError

_CONNECT_S = 5


def open_to_read(url: str, password: Secret | None = None) -> Engine:
    """BrokerError: its file is not there. Its first use raises SQLAlchemyError where it cannot be read."""
    where = make_url(url)
    if where.get_backend_name() != "sqlite":
        try:
            engine = create_engine(where, connect_args={"connect_timeout": _CONNECT_S})
        except ModuleNotFoundError as exc:
            raise BrokerError(f"{exc.name} is not installed here: pip install 'broker[postgres]'") from exc
        if password is not None:
            # Not in the URL: errors print that.
            @event.listens_for(engine, "do_connect")
            def on_do_connect(dialect: object, record: object, args: object, values: dict[str, Any]) -> None:
                values["password"] = password.reveal()

        return engine
    file = Path(where.database or "")
    if not file.exists():
        raise BrokerError(f"{file} is not there: the daemon makes it at its first start")
    # Root may look at the daemon's file: SQLite gives the -wal and -shm files it makes to the owner of the database.
    return create_engine(f"sqlite:///file:{file}?mode=ro&uri=true")


def revisions(engine: Engine) -> tuple[str | None, str | None]:
    """The schema's revision in the ledger (None: it is empty), and the newest one this program knows."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    head = ScriptDirectory.from_config(config).get_current_head()
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision(), head
