"""All that is looked at on the controller, in the order in which a person would look."""

from collections.abc import Mapping
from datetime import datetime
from functools import cache

from broker.config import Settings
from broker.core.errors import ConfigError
from broker.doctor import keys, ledger, overlay, providers, site, slurm
from broker.doctor.findings import Check, Finding, fail
from broker.doctor.ledger import Ledger
from broker.doctor.node import SLURMCTLD_PORT
from broker.doctor.site import Daemon
from broker.slurm.conf import SlurmSite


def checks(
    settings: Settings, slurm_site: SlurmSite, scripts: Mapping[str, str], daemon: Daemon, book: Ledger, now: datetime
) -> list[Check]:
    """`scripts`: path → text of the programs that slurm.conf names."""
    bundle, packed = keys.packed(settings)
    munge = cache(keys.round_trip)
    try:
        known = slurm.read(settings, slurm_site, scripts)
    except ConfigError as exc:
        slurm_user = "slurm"
        slurm_checks = [_unreadable(exc)]
    else:
        slurm_user = known.user
        slurm_checks = slurm.checks(settings, known, bundle, packed, munge)
    return [
        ledger.check(book, daemon.status is not None),
        *site.checks(settings, daemon, book.living, now, slurm_user),
        *slurm_checks,
        *keys.checks(settings, slurm_user, munge),
        *overlay.checks(settings, book.living, now, SLURMCTLD_PORT),
        *providers.checks(
            settings, book.living, lambda: book.closed_credentials(now, bundle.id if bundle is not None else "")
        ),
    ]


def _unreadable(error: ConfigError) -> Check:
    def look() -> list[Finding]:
        return [fail("slurm.conf", str(error), 'conf = "/path/of/slurm.conf" in [slurm] of broker.toml')]

    return Check(section="slurm", name="slurm.conf", look=look)
