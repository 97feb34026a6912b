"""`[signal.NAME]`: one source of carbon intensity or prices of power."""

import os
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from broker.config.reading import Section
from broker.config.secret_source import Noun, from_environment, from_file
from broker.config.settings import Secret, SignalSettings

KEYED = frozenset({"eia930", "electricitymaps", "entsoe"})
"""Kinds that want a key."""
ZONED = frozenset({*KEYED, "file"})
"""Kinds that must be told for which zones: the others speak of one."""
SIGNAL_KINDS = frozenset({*ZONED, "caiso", "caiso_oasis", "carbonintensity_gb", "ercot"})

_KEY = Noun(short="API key", full="the source's API key", variable="EIA_API_KEY")


def read_signal(name: str, section: Section, environ: Mapping[str, str] | None) -> SignalSettings:
    """The source's settings; every problem is noted in `section`."""
    kind = section.choice("kind", SIGNAL_KINDS)
    settings = SignalSettings(
        name=name,
        kind=kind,
        proxy=_proxy(section),
        api_key=_key(section, kind, os.environ if environ is None else environ),
        zones=section.texts(
            "zones",
            pattern=r"[A-Z]{2}(-[A-Z0-9]+)*",
            rule="a zone as Electricity Maps spells it, such as US-CAL-CISO",
            if_empty="names no zone",
        ),
        path=section.path("path") if kind == "file" or section.has("path") else None,
    )
    if kind in ZONED and not section.has("zones"):
        section.note("zones", f'is missing; a source of kind "{kind}" is told which zones to ask for')
    if kind and kind not in ZONED and section.has("zones"):
        section.note("zones", f'the kind "{kind}" speaks of one zone only; take it out')
    if kind != "file" and section.has("path"):
        section.note("path", 'only the kind "file" has one; take it out')
    section.close()
    return settings


def _proxy(section: Section) -> str | None:
    if not section.has("proxy"):
        section.text("proxy", "-")
        return None
    text = section.secret_source("proxy")  # not shown in messages: a login may stand in it
    try:
        url = urlsplit(text or "")
        fits = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        fits = False
    if text is None or not fits or re.search(r"[\s\x00-\x1f]", text):
        section.note("proxy", "is no http or https URL with a host; write for example http://proxy.example:3128")
        return None
    if url.username or url.password:
        section.note("proxy", "holds a login; name a proxy that needs none, this file is no place for it")
    return text


def _key(section: Section, kind: str, environ: Mapping[str, str]) -> Secret | None:
    file, variable = section.has("api_key_file"), section.has("api_key_env")
    path, name = section.secret_source("api_key_file"), section.secret_source("api_key_env")
    if section.has("api_key"):
        section.secret_source("api_key")
        section.note("api_key", "a key does not stand in this file; put it into one of its own, named by api_key_file")
    elif file and variable:
        section.note("api_key_file", "and api_key_env are both there; keep one")
    elif (file or variable) and kind and kind not in KEYED:
        section.note("api_key_file" if file else "api_key_env", f'the kind "{kind}" needs no key; take it out')
    elif file:
        return from_file(section, "api_key_file", path, _KEY)
    elif variable:
        return from_environment(section, "api_key_env", name, environ, _KEY)
    elif kind in KEYED:
        section.note("api_key_file", f'is missing; the kind "{kind}" wants a key in a file that this names')
    return None
