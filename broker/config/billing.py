"""`[billing]`: the currency of invoices, and Stripe. Its keys are read from files or the environment and never shown."""

import os
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from broker.config.reading import Section
from broker.config.secret_source import Noun, from_environment, from_file
from broker.config.settings import BillingSettings, Secret, StripeMode

_KEY = Noun(short="API key", full="Stripe's secret or restricted key", variable="STRIPE_KEY")
_WEBHOOK = Noun(
    short="webhook secret", full="the signing secret of Stripe's webhook endpoint", variable="STRIPE_WEBHOOK_SECRET"
)
_ONLY_WITH_STRIPE = (
    "stripe_key_file",
    "stripe_key_env",
    "stripe_webhook_secret_file",
    "stripe_webhook_secret_env",
    "stripe_url",
    "stripe_days_until_due",
    "stripe_return_url",
)


def read_billing(section: Section, environ: Mapping[str, str] | None, currency: str) -> BillingSettings:
    """The settings; every problem is noted in `section`. `currency`: the site's, which is the default."""
    known = os.environ if environ is None else environ
    mode = StripeMode(section.choice("stripe", [each.value for each in StripeMode], "off") or "off")
    used = [key for key in _ONLY_WITH_STRIPE if section.has(key)]
    key = _secret(section, "stripe_key", known, _KEY)
    settings = BillingSettings(
        currency=section.text("currency", currency, pattern=r"[A-Z]{3}", rule='a currency code such as "USD"'),
        stripe=mode,
        stripe_key=key,
        stripe_webhook_secret=_secret(section, "stripe_webhook_secret", known, _WEBHOOK),
        stripe_url=_url(section, "stripe_url", plain_only_here=True),
        stripe_days_until_due=section.whole_or_none("stripe_days_until_due", low=1, high=365, unit="days"),
        stripe_return_url=_url(section, "stripe_return_url") or "https://stripe.com",
    )
    if mode is StripeMode.OFF and used:
        section.note(used[0], 'is of no use while stripe = "off"; write stripe = "invoices", or take it out')
    elif mode is not StripeMode.OFF and key is None:
        section.note(
            "stripe_key_file", "is missing; name the file that holds Stripe's key (or, with stripe_key_env, a variable)"
        )
    return settings


def _secret(section: Section, name: str, environ: Mapping[str, str], noun: Noun) -> Secret | None:
    if section.has(name):
        section.secret_source(name)
        section.note(
            name, f"a {noun.short} does not stand in this file; put it into a file of its own, named by {name}_file"
        )
        return None
    file, variable = f"{name}_file", f"{name}_env"
    has_file, has_variable = section.has(file), section.has(variable)
    path, named = section.secret_source(file), section.secret_source(variable)
    if has_file and has_variable:
        section.note(file, f"and {variable} are both there; keep one")
        return None
    if has_file:
        return from_file(section, file, path, noun)
    return from_environment(section, variable, named, environ, noun) if has_variable else None


def _url(section: Section, key: str, *, plain_only_here: bool = False) -> str | None:
    if not section.has(key):
        section.text(key, "-")
        return None
    text = section.text(key, rule="an https URL")
    try:
        url = urlsplit(text)
        here = url.hostname in {"127.0.0.1", "::1", "localhost"}
        fits = bool(url.hostname) and (url.scheme == "https" or (url.scheme == "http" and plain_only_here and here))
    except ValueError:
        fits = False
    if text and (not fits or re.search(r"[\s\x00-\x1f@]", text)):
        section.note(
            key, "is no https URL without a login (http goes to this host only: the key would be read on its way)"
        )
        return None
    return text.rstrip("/") or None
