"""Every source by its kind: who publishes it, on which terms, what it needs, how it is made."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from broker.config.settings import SignalSettings
from broker.core.errors import ConfigError
from broker.signals import oasis
from broker.signals.base import Source
from broker.signals.cache import Cache
from broker.signals.carbon_caiso import CaisoMix, CaisoOutlook
from broker.signals.carbon_eia930 import AUTHORITIES, Eia930
from broker.signals.carbon_electricitymaps import ElectricityMaps
from broker.signals.carbon_entsoe import AREAS, Entsoe
from broker.signals.carbon_ercot import ErcotDashboards
from broker.signals.carbon_file import IntensityFile
from broker.signals.carbon_gb import CarbonIntensityGb
from broker.signals.chain import Signals
from broker.signals.fetch import Fetch, HttpFetch, Keys, Pace
from broker.signals.forecast_caiso_oasis import CaisoOasis
from broker.signals.forecast_ercot import ErcotForecasts
from broker.signals.memory import Memory
from broker.signals.price_caiso_lmp import CaisoPrices
from broker.signals.price_ercot import ErcotPrices


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a `[signal.NAME] kind` stands for. `makes` is handed the fetcher and the zones: one server may be several sources.

    `key_param`, `key_header`: how the secret goes along. `zones`: those it may be asked for, None: any.
    """

    gives: str
    licence: str
    limits: str
    makes: tuple[Callable[[Fetch, tuple[str, ...]], Source], ...] = ()
    zones: frozenset[str] | None = None
    key_param: str | None = None
    key_header: str | None = None
    interval: timedelta = field(default=timedelta(seconds=1))
    rank: int = 0
    """Lower is asked first: operators before agencies before companies."""


KINDS: Mapping[str, Kind] = {
    "caiso": Kind(
        gives="CO2, demand and net demand now; net demand for seven days",
        licence="public data of CAISO",
        limits="none stated; some countries are blocked: a proxy",
        makes=(lambda fetch, zones: CaisoOutlook(fetch), lambda fetch, zones: CaisoMix(fetch)),
        zones=CaisoOutlook.zones,
    ),
    "caiso_oasis": Kind(
        gives="day-ahead demand, wind and solar; day-ahead prices",
        licence="public data of CAISO",
        limits="one request in five seconds, 31 days a request",
        makes=(lambda fetch, zones: CaisoOasis(fetch), lambda fetch, zones: CaisoPrices(fetch)),
        zones=CaisoOasis.zones,
        interval=oasis.INTERVAL,
        rank=1,
    ),
    "ercot": Kind(
        gives="fuel mix now; load, wind and solar for seven days; prices",
        licence="ERCOT's terms of use",
        limits="undocumented; reports not more than three times as often as published; US only: a proxy",
        makes=(
            lambda fetch, zones: ErcotDashboards(fetch),
            lambda fetch, zones: ErcotForecasts(fetch),
            lambda fetch, zones: ErcotPrices(fetch),
        ),
        zones=ErcotDashboards.zones,
    ),
    "carbonintensity_gb": Kind(
        gives="Great Britain's intensity now and for two days, by half hours",
        licence="CC BY 4.0 (NESO)",
        limits="unpublished; 14 days a request",
        makes=(lambda fetch, zones: CarbonIntensityGb(fetch),),
        zones=CarbonIntensityGb.zones,
    ),
    "eia930": Kind(
        gives="fuel mix of US balancing authorities, an hour or two late, at times a day",
        licence="US public domain",
        limits="a free key; 9000 requests an hour, 5 a second, 5000 rows",
        makes=(Eia930,),
        zones=frozenset(AUTHORITIES),
        key_param="api_key",
        rank=2,
    ),
    "electricitymaps": Kind(
        gives="flow-traced intensity of some 350 zones, and forecasts",
        licence="commercial; the free plan is for one zone, without commerce",
        limits="by token, unpublished",
        makes=(ElectricityMaps,),
        key_header="auth-token",
        rank=3,
    ),
    "entsoe": Kind(
        gives="fuel mix and day-ahead prices of Europe",
        licence="free, with attribution",
        limits="a token by mail; 400 requests a minute, then ten minutes' ban",
        makes=(Entsoe,),
        zones=frozenset(AREAS),
        key_param="securityToken",
        rank=1,
    ),
    "file": Kind(
        gives="intensity out of a file of one's own, hour by hour",
        licence="the file's",
        limits="none",
        rank=-1,
    ),
}


def make_signals(
    settings: Sequence[SignalSettings], folder: Path, clock: Callable[[], datetime], *, offline: bool = False
) -> Signals:
    """The room, wired: caches and memory lie below `folder`. `offline`: no request is made. ConfigError: a zone that a source
    does not have.
    """
    paces: dict[str, Pace] = {}
    sources: list[tuple[int, Source]] = []
    for one in settings:
        kind = KINDS[one.kind]
        strange = sorted(set(one.zones) - kind.zones) if kind.zones is not None else []
        if strange:
            raise ConfigError(
                f"signal.{one.name}.zones: {', '.join(strange)} is none of {one.kind}'s; "
                f"it has {', '.join(sorted(kind.zones or ()))}"
            )
        if one.kind == "file" and one.path is not None:
            sources += [(kind.rank, IntensityFile(one.path, zone)) for zone in one.zones]
            continue
        key = one.api_key.reveal() if one.api_key is not None else ""
        fetch = HttpFetch(
            one.name,
            Cache(folder / "cache" / one.name),
            clock,
            keys=Keys(
                params={kind.key_param: key} if kind.key_param else {},
                headers={kind.key_header: key} if kind.key_header else {},
            ),
            proxy=one.proxy,
            pace=paces.setdefault(one.kind, Pace(kind.interval)),
            offline=offline,
        )
        sources += [(kind.rank, make(fetch, one.zones)) for make in kind.makes]
    sources.sort(key=lambda entry: entry[0])
    return Signals([source for _, source in sources], Memory(folder / "memory"), clock)
