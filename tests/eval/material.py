"""What the evaluation runs on: real traces, grids and prices of ../shared/data, and the assumed map between them."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from broker.core.offers import CapacityType
from broker.simulate.intensity import Intensity, read_intensity
from broker.simulate.read_jobs import read_jobs
from broker.simulate.signals import Signals
from broker.simulate.site_file import Site, SiteOffer
from broker.simulate.supply import Supply, constant, recorded
from broker.simulate.trace import Trace

DATA = Path(os.environ.get("BROKER_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
H100 = DATA / "prices/gpu_cloud_prime/H100_80GB_SXM5.jsonl.gz"
# Provider in the price recording → the zone that it is ASSUMED to stand in (no public table says), and its list price.
ASSUMED = {
    "dc_roan": ("US-TEX-ERCO", 1.99),
    "nebius": ("NO", 2.12),
    "hyperstack": ("CA-ON", 2.40),
    "runpod": ("US-MIDA-PJM", 2.69),
    "lambdalabs": ("US-CAL-CISO", 3.29),
}
# Four dirty or changing grids at close prices: here time counts more than place.
CLOSE = {"a": ("US-TEX-ERCO", 1.99), "b": ("US-CAL-CISO", 2.12), "c": ("DE-LU", 2.20), "d": ("GB", 2.40)}


def needed() -> None:
    """End with a reason where the data is not here."""
    if not H100.exists():
        sys.exit(f"make eval needs the traces of ../shared/data (or BROKER_SHARED_DATA); nothing is at {DATA}")


@lru_cache
def intensity(zone: str, years: tuple[int, ...]) -> Intensity:
    """Hourly life-cycle intensity of whole years."""
    paths = [DATA / f"carbon/emaps_hourly/{zone}_{year}.csv.gz" for year in years]
    # Electricity Maps renamed DE-LU to DE in its exports; a file holds one zone.
    return replace(read_intensity(paths, None), zone=zone)


def signals(site: Site, years: tuple[int, ...], first_hour: int) -> Signals:
    return Signals({offer.zone: intensity(offer.zone, years) for offer in site.offers}, first_hour)


@lru_cache
def week() -> Trace:
    return read_jobs(DATA / "jobs/gaia/pai_1k.csv")


@lru_cache
def year_of_jobs() -> Trace:
    return read_jobs(DATA / "jobs/gaia/pai-100k.csv.gz", time_unit="hours")


def every(trace: Trace, step: int) -> Trace:
    return replace(trace, jobs=trace.jobs[::step])


def recorded_site(devices: float) -> Site:
    """H100 SXM at five providers, price and presence replayed from three weeks of 2025, over and over."""
    return _site(
        [(name, zone, recorded(H100, usd, devices, name)) for name, (zone, usd) in ASSUMED.items()],
        boot_p90_h=8 / 60,
        fails=0.03,
    )


def constant_site(table: dict[str, tuple[str, float]], devices: float) -> Site:
    """The same offers all the time, boots of four minutes: the world of the bound."""
    return _site(
        [(name, zone, constant(usd, devices)) for name, (zone, usd) in table.items()], boot_p90_h=4 / 60, fails=0.0
    )


def spot_site(probes: Path, checkpoint_h: float | None) -> Site:
    """One spot offer at a third of the price that comes and goes as probed, beside one on demand."""
    sure = _offer("on-demand", "US-MIDA-PJM", constant(2.4, 1e9), 8 / 60, 0.0)
    spot = replace(
        _offer("spot", "US-MIDA-PJM", recorded(probes, 0.8, 1e9, None), 8 / 60, 0.0),
        market=CapacityType.SPOT,
        hazard_per_hour=0.1,
    )
    return Site(offers=(spot, sure), kw_per_device=0.85, idle_power=0.2, checkpoint_h=checkpoint_h)


def _site(offers: Sequence[tuple[str, str, Supply]], boot_p90_h: float, fails: float) -> Site:
    made = tuple(_offer(name, zone, supply, boot_p90_h, fails) for name, zone, supply in offers)
    return Site(offers=made, kw_per_device=0.85, idle_power=0.2)


def _offer(name: str, zone: str, supply: Supply, boot_p90_h: float, fails: float) -> SiteOffer:
    return SiteOffer(
        name=name,
        zone=zone,
        market=CapacityType.ON_DEMAND,
        supply=supply,
        billing_step_h=1 / 60,
        billing_minimum_h=0.0,
        boot_p50_h=4 / 60,
        boot_p90_h=boot_p90_h,
        fails=fails,
        pue=1.3,
        hazard_per_hour=0.0,
    )
