"""`[provider.NAME]`: one credential, its key read from a file or from the environment and never shown."""

import os
import re
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from broker.config.reading import Section
from broker.config.secret_source import Noun, from_environment, from_file
from broker.config.settings import ProviderSettings, Secret

_WEBHOOK = Noun(
    short="webhook secret", full="the secret that Vast showed when the webhook was made", variable="VAST_WEBHOOK_SECRET"
)
USER_PATTERN = r"[a-z_][a-z0-9_-]{0,31}"
USER_RULE = "the login of the provider's image"
_KEY = Noun(short="API key", full="the provider's API key", variable="LAMBDA_API_KEY")


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
    kind = section.choice("kind", kinds)
    settings = ProviderSettings(
        name=name,
        kind=kind,
        base_url=_base_url(section),
        api_key=_api_key(section, os.environ if environ is None else environ),
        trusted=section.choice("trust", {"full", "none"}, "none") == "full",
        regions=regions,
        boot_timeout_s=section.whole("boot_timeout_s", 1200, low=1, high=86400, unit="seconds"),
        call_interval_ms=section.whole_or_none("call_interval_ms", low=0, high=600_000, unit="milliseconds"),
        create_interval_ms=section.whole_or_none("create_interval_ms", low=0, high=600_000, unit="milliseconds"),
        ssh_port=section.whole("ssh_port", 22, low=1, high=65535),
        ssh_user=_ssh_user(kind, section),
        image=_image(kind, section),
        webhook_secret=_webhook_secret(kind, section),
    )
    section.close()
    return settings


def _ssh_user(kind: str, section: Section) -> str | None:
    if kind == "vast":  # its VM images know no other login
        return section.text("ssh_user", "root", pattern=USER_PATTERN, rule=USER_RULE)
    if section.has("ssh_user"):
        return section.text("ssh_user", pattern=USER_PATTERN, rule=USER_RULE)
    section.text("ssh_user", "-")
    return None


def _image(kind: str, section: Section) -> str | None:
    if kind == "vast":
        # Without the registry in front, Vast rents a container out of a VM's offer and says nothing.
        return section.text(
            "image",
            pattern=r"[a-z0-9-]+(\.[a-z0-9-]+)+(:\d+)?/[a-z0-9._/-]+:[A-Za-z0-9@._-]+",
            rule='the VM image, its registry in front and its tag behind: "REGISTRY/vastai/kvm:TAG", as Vast\'s console shows it',
        )
    if section.has("image"):
        section.text("image")
        section.note("image", f'kind = "{kind}" boots its own image; take the key out')
    return None


def _webhook_secret(kind: str, section: Section) -> Secret | None:
    there = section.has("webhook_secret_file")
    path = section.secret_source("webhook_secret_file")
    if not there:
        return None
    if kind != "vast":
        section.note("webhook_secret_file", f'kind = "{kind}" sends no webhooks; take the key out')
        return None
    return from_file(section, "webhook_secret_file", path, _WEBHOOK)


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
        return from_file(section, "api_key_file", path, _KEY)
    elif variable:
        return from_environment(section, "api_key_env", name, environ, _KEY)
    else:
        section.note(
            "api_key_file", "is missing; name the file that holds the API key (or, with api_key_env, a variable)"
        )
    return Secret("")
