"""The credentials: does the provider take them, what runs there, what bounds the spending, whose clock is right."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial

import httpx

from broker.config import ProviderSettings, Settings
from broker.core.errors import (
    CredentialsRefused,
    InstanceNotFound,
    ProviderError,
    ProviderUnavailable,
    QuotaExceeded,
    RateLimited,
)
from broker.core.leases import Lease, lease_of_label
from broker.core.offers import Instance, InstanceState
from broker.doctor.findings import Check, Finding, fail, ok, skipped, warn
from broker.providers.registry import MAKERS, URLS

_SECTION = "providers"
_DRIFT_S, _WRONG_S = 5, 60
"""munge gives up at 300 s, and so do providers' signatures; nodes that are off by 60 s are not taken."""

_OWNERS = {"vast": "each stranger whose machine you rent"}
"""Kind of provider → who has root below its machines, where that is not the provider."""

_RESTART = "systemctl restart broker"


def checks(
    settings: Settings, leases: Callable[[], list[Lease]], suspended: Callable[[], dict[str, str]]
) -> list[Check]:
    """`leases`: the living ones; `suspended`: credential → why the daemon leaves it alone now."""
    each = [
        Check(section=_SECTION, name=name, look=partial(_credential, settings, provider, leases, suspended))
        for name, provider in settings.providers.items()
    ]
    urls = {provider.base_url or URLS[provider.kind]: name for name, provider in settings.providers.items()}
    clocks = [
        Check(section=_SECTION, name=f"clock of {name}", look=partial(_clock, name, url)) for url, name in urls.items()
    ]
    return [*each, *clocks, Check(section=_SECTION, name="limits", look=lambda: judge_limits(settings, leases()))]


def judge_refusal(name: str, url: str, error: ProviderError) -> Finding:
    """What the provider said to a question that buys nothing."""
    match error:
        case CredentialsRefused():
            mend = f"put a valid key into the file (or variable) of [provider.{name}], then: {_RESTART}"
            return fail(f"credential {name}", f"refused: {error}", mend)
        case QuotaExceeded():
            return warn(
                f"credential {name}", f"quota is full: {error}", "ask the provider for more, or end machines there"
            )
        case RateLimited():
            seen = f"takes no more calls for {error.retry_after:.0f} s; the daemon waits, too"
            return warn(f"credential {name}", seen, "wait; if it stays so, who else uses this key?")
        case ProviderUnavailable():
            mend = f"curl -sSI {url} on this host: name, proxy and firewall; then the provider's status page"
            return fail(f"credential {name}", f"no answer: {error}", mend)
        case InstanceNotFound() | ProviderError():
            return fail(f"credential {name}", str(error), f"is base_url right? it is {url}")


def judge_credential(
    wanted: ProviderSettings,
    instances: Iterable[Instance],
    cluster: str,
    leases: Iterable[Lease],
    suspended: str | None,
) -> list[Finding]:
    """A credential that the provider takes. `suspended`: why the daemon buys nothing with it now."""
    name = f"credential {wanted.name}"
    found = []
    if not wanted.trusted:
        seen = 'trust = "none": Slurm up to 23.02 cannot run there without the munge key, so nothing is bought'
        whoever = _OWNERS.get(wanted.kind, "its staff")
        mend = f'trust = "full" in [provider.{wanted.name}], if {whoever} may hold your munge key'
        found.append(warn(name, seen, mend))
    if suspended is not None:
        mend = f"broker provider show {wanted.name}; then: broker provider resume {wanted.name}, or wait"
        found.append(warn(name, f"the daemon buys nothing with it now: {suspended}", mend))
    seen_there = list(instances)
    known = {lease.id for lease in leases}
    ours = [each for each in seen_there if lease_of_label(cluster, each.label) is not None]
    orphans = [
        each
        for each in ours
        if each.state is not InstanceState.STOPPING and lease_of_label(cluster, each.label) not in known
    ]
    if orphans:
        seen = (
            f"{len(orphans)} machines have our label and no living lease: {', '.join(each.id for each in orphans[:3])}"
        )
        mend = "systemctl start broker; it ends them within two minutes (or end them in the provider's console)"
        found.append(warn(name, seen, mend))
    others = len(seen_there) - len(ours)
    holds = f"; the munge key goes to {_OWNERS[wanted.kind]}" if wanted.kind in _OWNERS else ""
    return found or [ok(name, f"taken; {len(ours)} machines of ours run there, {others} of others{holds}")]


def judge_limits(settings: Settings, leases: Iterable[Lease]) -> list[Finding]:
    """`[limits]` against what lives."""
    limits, living = settings.limits, len(list(leases))
    found = []
    if limits.max_nodes == 0:
        found.append(warn("limits", "max_nodes = 0: nothing is bought", "max_nodes = 1 or more in [limits]"))
    elif limits.max_nodes is not None and living >= limits.max_nodes:
        seen = f"{living} of max_nodes = {limits.max_nodes} machines: further jobs wait"
        found.append(warn("limits", seen, "wait, raise it in [limits], or: broker lease list"))
    if limits.max_nodes is None and limits.max_usd_per_hour is None:
        mend = 'max_nodes = 8 and max_usd_per_hour = "40" in [limits] of broker.toml'
        found.append(warn("limits", "neither max_nodes nor max_usd_per_hour: nothing bounds a bad night", mend))
    return found or [
        ok(
            "limits",
            f"{living} of {_or_none(limits.max_nodes)} machines, {_or_none(limits.max_usd_per_hour)} USD an hour at most",
        )
    ]


def judge_clock(name: str, offset_s: float | None) -> Finding:
    """`offset_s`: this host's clock ahead of the provider's; None: it told no time. It counts whole seconds."""
    what = f"clock beside {name}'s"
    if offset_s is None:
        return skipped(what, "its answers carry no date")
    off = f"{abs(offset_s):.0f} s {'ahead' if offset_s > 0 else 'behind'}"
    mend = "chronyc makestep (or: systemctl restart systemd-timesyncd); then restart munge"
    if abs(offset_s) > _WRONG_S:
        return fail(what, f"this host is {off}: nodes are refused, munge credentials expire", mend)
    if abs(offset_s) > _DRIFT_S:
        return warn(what, f"this host is {off}", mend)
    return ok(what, "agrees to a second or two" if abs(offset_s) <= 2 else f"this host is {off}")


def _credential(
    settings: Settings,
    wanted: ProviderSettings,
    leases: Callable[[], list[Lease]],
    suspended: Callable[[], Mapping[str, str]],
) -> list[Finding]:
    url = wanted.base_url or URLS[wanted.kind]
    provider = MAKERS[wanted.kind](wanted, lambda: datetime.now(UTC), lambda heard: None)
    try:
        # Before the ledger is read: a lease is written before its machine is bought.
        instances = provider.instances()
    except ProviderError as exc:
        return [judge_refusal(wanted.name, url, exc)]
    return judge_credential(wanted, instances, settings.site.cluster, leases(), suspended().get(wanted.name))


def _clock(name: str, url: str) -> list[Finding]:
    before = datetime.now(UTC)
    try:
        # Without the key: any answer carries the time, a refusal, too.
        answer = httpx.get(url, timeout=5.0, follow_redirects=False)
        there = parsedate_to_datetime(answer.headers["Date"])
    except httpx.HTTPError:
        return [skipped(f"clock beside {name}'s", f"{url} does not answer")]
    except (KeyError, ValueError):
        return [judge_clock(name, None)]
    # The date is cut to whole seconds and was made between our two looks.
    low, high = (before - there).total_seconds() - 1, (datetime.now(UTC) - there).total_seconds()
    return [judge_clock(name, low if low > 0 else high if high < 0 else 0.0)]


def _or_none(limit: object) -> str:
    return "no end of" if limit is None else str(limit)
