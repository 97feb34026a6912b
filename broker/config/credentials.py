"""`[provider.NAME]`: one credential, its key read from a file or from the environment and never shown."""

import os
import re
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from broker.config.reading import Section
from broker.config.settings import ProviderSettings, Secret

_LONGEST_KEY = 16384


def read_provider(
    name: str, section: Section, environ: Mapping[str, str] | None, kinds: Collection[str]
) -> ProviderSettings:
    """The credential's settings; every problem is noted in `section`."""
    regions = section.texts(
        "regions",
        pattern=r"[A-Za-z0-9_.:-]+",
        rule="a region as the provider spells it",
        if_empty="names no region; leave the key out to buy in all of them",
    )
    settings = ProviderSettings(
        name=name,
        kind=section.choice("kind", kinds),
        base_url=_base_url(section),
        api_key=_api_key(section, os.environ if environ is None else environ),
        trusted=section.choice("trust", {"full", "none"}, "none") == "full",
        regions=regions,
        boot_timeout_s=section.whole("boot_timeout_s", 1200, low=1, high=86400, unit="seconds"),
        call_interval_ms=section.whole_or_none("call_interval_ms", low=0, high=600_000, unit="milliseconds"),
        create_interval_ms=section.whole_or_none("create_interval_ms", low=0, high=600_000, unit="milliseconds"),
        ssh_port=section.whole("ssh_port", 22, low=1, high=65535),
    )
    section.close()
    return settings


def _base_url(section: Section) -> str | None:
    if not section.has("base_url"):
        section.text("base_url", "-")
        return None
    text = section.text("base_url", rule="an http or https URL")
    if not text:
        return None
    try:
        url = urlsplit(text)
        fits = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        fits = False
    if not fits or re.search(r"[\s\x00-\x1f]", text):
        section.note("base_url", "is no http or https URL with a host; write for example https://cloud.example/api/v1")
    elif url.username or url.password or url.query or url.fragment:
        section.note("base_url", "holds a login, ? or #; write scheme, host and path only, the key has its own file")
    return text.rstrip("/")


def _api_key(section: Section, environ: Mapping[str, str]) -> Secret:
    file, variable = section.has("api_key_file"), section.has("api_key_env")
    path, name = section.secret_source("api_key_file"), section.secret_source("api_key_env")
    if section.has("api_key"):
        section.secret_source("api_key")
        section.note(
            "api_key", "a key does not stand in this file; put it into a file of its own, named by api_key_file"
        )
    elif file and variable:
        section.note("api_key_file", "and api_key_env are both there; keep one")
    elif file:
        return _from_file(section, path)
    elif variable:
        return _from_environment(section, name, environ)
    else:
        section.note(
            "api_key_file", "is missing; name the file that holds the API key (or, with api_key_env, a variable)"
        )
    return Secret("")


def _from_environment(section: Section, name: str | None, environ: Mapping[str, str]) -> Secret:
    key = "api_key_env"
    if name is None or not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
        section.note(
            key, 'is no variable\'s name (A-Z, 0-9, _); write for example "LAMBDA_API_KEY", never the key itself'
        )
        return Secret("")
    if name not in environ:
        section.note(key, f"the environment has no {name}; set it for the daemon, or use api_key_file")
        return Secret("")
    return _checked(section, key, environ[name], f"{name} in the environment")


def _from_file(section: Section, text: str | None) -> Secret:
    key = "api_key_file"
    if text is None or not text.startswith("/") or "\0" in text:
        section.note(
            key, "is not an absolute path (it is not shown, it may be the key itself); write where the file is"
        )
        return Secret("")
    path = Path(text)
    try:
        # Not blocking: opening a FIFO for reading would wait for a writer.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(_LONGEST_KEY + 1) if stat.S_ISREG(status.st_mode) else b""
    except FileNotFoundError:
        section.note(key, f"{path} does not exist; put the provider's API key there, mode 0640, group broker")
        return Secret("")
    except PermissionError:
        section.note(key, f"{path} may not be read by this user; give it to group broker: chgrp broker, chmod 0640")
        return Secret("")
    except OSError as exc:
        section.note(key, f"{path} cannot be read ({exc.strerror}); name a plain file")
        return Secret("")
    if not stat.S_ISREG(status.st_mode):
        section.note(key, f"{path} is not a plain file; name a file that holds only the key")
        return Secret("")
    if status.st_mode & 0o007:
        section.note(key, f"{path} is open to every user (mode {stat.S_IMODE(status.st_mode):04o}); chmod 0640 {path}")
    return _checked(section, key, content.decode("latin-1"), str(path))


def _checked(section: Section, key: str, content: str, source: str) -> Secret:
    secret = content.strip()
    if not secret:
        section.note(key, f"{source} is empty; put the provider's API key there")
    elif len(secret) > _LONGEST_KEY or not re.fullmatch(r"[\x21-\x7e]+", secret):
        section.note(key, f"{source} is not one API key (one line of plain characters); put only the key there")
    return Secret(secret)
