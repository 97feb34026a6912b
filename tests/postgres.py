"""A PostgreSQL server of our own for tests: an ordinary user's, on a socket in a folder of its own, without a network."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url

from broker.db.engine import open_ledger

MISSING = "PostgreSQL is not installed: `make packages` installs what the tests need"


def programs() -> Path | None:
    """Where the newest server's programs lie; None: it is not installed."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if places:
        return places[-1].parent
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


class Server:
    """Made anew in `folder`; durable enough for tests that end it, not for a lost power supply."""

    def __init__(self, bin_folder: Path) -> None:
        self._bin = bin_folder
        self.folder = Path(tempfile.mkdtemp(prefix="broker-pg-"))
        # PostgreSQL refuses to run as root.
        self._user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        if os.geteuid() == 0:
            shutil.chown(self.folder, self._user)
        self._process: subprocess.Popen[bytes] | None = None
        self._number = 0
        self._run(
            "initdb", "--auth=trust", "--no-sync", "--username=broker", "--locale=C", "-E", "UTF8", "-D", self.data
        )
        self.start()

    @property
    def data(self) -> str:
        return str(self.folder / "data")

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://broker@/{database}?host={self.folder}"

    def start(self) -> None:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            "full_page_writes": "off",
            "autovacuum": "off",
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._bin / "postgres"), "-D", self.data, *words],
                stdout=log,
                stderr=log,
                user=self._user,
                group=pwd.getpwnam(self._user).pw_gid,
                cwd=self.folder,
            )
        limit = time.monotonic() + 30
        while subprocess.run([self._bin / "pg_isready", "-q", "-h", self.folder], check=False).returncode:
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < limit, "PostgreSQL did not start"
            time.sleep(0.02)

    def stop(self) -> None:
        """At once: connections are cut."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
            self._process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def make_template(self) -> None:
        """A migrated ledger, which each test gets a copy of."""
        self.sql("CREATE DATABASE template_ledger")
        open_ledger(self.url("template_ledger")).dispose()

    def new_ledger(self) -> str:
        """The URL of a ledger of its own."""
        self._number += 1
        name = f"ledger_{self._number}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE template_ledger")
        return self.url(name)

    def drop(self, url: str) -> None:
        self.sql(f"DROP DATABASE {make_url(url).database} WITH (FORCE)")

    def cut(self) -> None:
        """End every connection."""
        self.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")

    def sql(self, statement: str) -> None:
        engine = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)
        engine.dispose()

    def _run(self, program: str, *words: str) -> None:
        subprocess.run(
            [self._bin / program, *words],
            check=True,
            capture_output=True,
            user=self._user,
            group=pwd.getpwnam(self._user).pw_gid,
            cwd=self.folder,
        )


def a_server() -> Iterator[Server]:
    """A fixture's whole body: a server that lives as long as the fixture; the test is skipped where none is installed."""
    found = programs()
    if found is None:
        pytest.skip(MISSING)
    server = Server(found)
    try:
        server.make_template()
        yield server
    finally:
        server.remove()
