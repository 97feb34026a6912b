"""`[site] database`: where the ledger is kept. A password never stands in the URL."""

import os
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from broker.config.reading import Section
from broker.config.secret_source import Noun, from_environment, from_file
from broker.config.settings import Secret

_KEY, _FILE, _VARIABLE = "database", "database_password_file", "database_password_env"
_PASSWORD = Noun(short="password", full="the database's password", variable="BROKER_DATABASE_PASSWORD")
_EXAMPLES = '"postgresql:///broker?host=/run/postgresql" or "sqlite:////var/lib/broker/broker.db"'
_SCHEMES = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "postgresql+psycopg": "postgresql+psycopg"}


def read_database(section: Section, environ: Mapping[str, str] | None) -> tuple[str | None, Secret | None]:
    """The URL as SQLAlchemy takes it (None: the default) and its password; every problem is noted in `section`."""
    url = _url(section)
    file, variable = section.has(_FILE), section.has(_VARIABLE)
    path, name = section.secret_source(_FILE), section.secret_source(_VARIABLE)
    if not file and not variable:
        return url, None
    if file and variable:
        section.note(_FILE, f"and {_VARIABLE} are both there; keep one")
        return url, None
    if url is not None and not url.startswith("postgresql"):
        section.note(_FILE if file else _VARIABLE, "only PostgreSQL takes a password; take it out")
        return url, None
    if file:
        return url, from_file(section, _FILE, path, _PASSWORD)
    return url, from_environment(section, _VARIABLE, name, os.environ if environ is None else environ, _PASSWORD)


def _url(section: Section) -> str | None:
    given = section.has(_KEY)
    text = section.secret_source(_KEY)  # not shown in messages: somebody may have put the password there
    if not given:
        return None
    try:
        parts = urlsplit(text or "")
        login, named = parts.password, parts.port
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        section.note(_KEY, f"is no database's URL; write for example {_EXAMPLES}")
        return None
    scheme = _SCHEMES.get(parts.scheme)
    if text is None or scheme is None or re.search(r"[\s\x00-\x1f]", text) or parts.fragment or named == 0:
        section.note(_KEY, f"is no URL of a PostgreSQL or SQLite database; write for example {_EXAMPLES}")
        return None
    if login is not None or {"password", "passfile"} & query.keys():
        section.note(
            _KEY,
            f"holds a password; put it into a file of its own, named by {_FILE}, or let the socket say who you are",
        )
        return None
    if scheme == "sqlite":
        if parts.netloc or parts.query or not re.fullmatch(r"//[^/].*", parts.path):
            section.note(_KEY, "names no absolute file; write four slashes: sqlite:////var/lib/broker/broker.db")
            return None
        return text
    if not re.fullmatch(r"/[^/]+", parts.path):
        section.note(_KEY, f"names no database; write for example {_EXAMPLES}")
        return None
    return scheme + text.removeprefix(parts.scheme)
