"""Secrets of the configuration: read from a file of their own or from the environment, and never shown."""

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from broker.config.reading import Section
from broker.config.settings import Secret

_LONGEST = 16384


@dataclass(frozen=True, kw_only=True)
class Noun:
    """What a secret is called in messages; `variable`: an example of a variable that holds it."""

    short: str
    full: str
    variable: str


def from_environment(section: Section, key: str, name: str | None, environ: Mapping[str, str], noun: Noun) -> Secret:
    """The secret in the variable `name`; every problem is noted under `key`."""
    if name is None or not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
        section.note(
            key,
            f'is no variable\'s name (A-Z, 0-9, _); write for example "{noun.variable}", never the secret itself',
        )
        return Secret("")
    if name not in environ:
        section.note(
            key, f"the environment has no {name}; set it for the daemon, or use {key.removesuffix('_env')}_file"
        )
        return Secret("")
    return _checked(section, key, environ[name], f"{name} in the environment", noun)


def from_file(section: Section, key: str, text: str | None, noun: Noun) -> Secret:
    """The secret in the file `text`; every problem is noted under `key`."""
    if text is None or not text.startswith("/") or "\0" in text:
        section.note(
            key, "is not an absolute path (it is not shown, it may be the secret itself); write where the file is"
        )
        return Secret("")
    path = Path(text)
    try:
        # Not blocking: opening a FIFO for reading would wait for a writer.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(_LONGEST + 1) if stat.S_ISREG(status.st_mode) else b""
    except FileNotFoundError:
        section.note(key, f"{path} does not exist; put {noun.full} there, mode 0640, group broker")
        return Secret("")
    except PermissionError:
        section.note(key, f"{path} may not be read by this user; give it to group broker: chgrp broker, chmod 0640")
        return Secret("")
    except OSError as exc:
        section.note(key, f"{path} cannot be read ({exc.strerror}); name a plain file")
        return Secret("")
    if not stat.S_ISREG(status.st_mode):
        section.note(key, f"{path} is not a plain file; name a file that holds only the {noun.short}")
        return Secret("")
    if status.st_mode & 0o007:
        section.note(key, f"{path} is open to every user (mode {stat.S_IMODE(status.st_mode):04o}); chmod 0640 {path}")
    return _checked(section, key, content.decode("latin-1"), str(path), noun)


def _checked(section: Section, key: str, content: str, source: str, noun: Noun) -> Secret:
    secret = content.strip()
    if not secret:
        section.note(key, f"{source} is empty; put {noun.full} there")
    elif len(secret) > _LONGEST or not re.fullmatch(r"[\x21-\x7e]+", secret):
        section.note(key, f"{source} is not one {noun.short} (one line of plain characters); put only it there")
    return Secret(secret)
