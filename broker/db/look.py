"""Opens a ledger to look at it, whoever owns it: never makes one, never migrates."""

from pathlib import Path

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine

from broker.core.errors import BrokerError


def open_to_read(file: Path) -> Engine:
    """BrokerError: there is no such file. Its first use raises SQLAlchemyError where it cannot be read."""
    if not file.exists():
        raise BrokerError(f"{file} is not there: the daemon makes it at its first start")
    # Root may look at the daemon's file: SQLite gives the -wal and -shm files it makes to the owner of the database.
    return create_engine(f"sqlite:///file:{file}?mode=ro&uri=true")


def revisions(engine: Engine) -> tuple[str | None, str | None]:
    """The schema's revision in the ledger (None: it is empty), and the newest one this program knows."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    head = ScriptDirectory.from_config(config).get_current_head()
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision(), head
