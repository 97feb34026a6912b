"""Small sites and traces for the tests of world `site`."""

from datetime import UTC, datetime

from broker.core.offers import CapacityType
from broker.simulate.intensity import Intensity
from broker.simulate.signals import Signals
from broker.simulate.site_file import Site, SiteOffer
from broker.simulate.supply import Supply, constant
from broker.simulate.trace import Trace, TraceJob


def an_offer(name="a", zone="A", usd=2.0, devices=100.0, **more):
    given = {
        "name": name, "zone": zone, "market": CapacityType.ON_DEMAND, "supply": constant(usd, devices),
        "billing_step_h": 0.0, "billing_minimum_h": 0.0, "boot_p50_h": 0.0, "boot_p90_h": 0.0, "fails": 0.0,
        "pue": 1.0, "hazard_per_hour": 0.0,
    }  # fmt: skip
    return SiteOffer(**{**given, **more})


def a_site(*offers, **more):
    return Site(**{"offers": offers or (an_offer(),), "kw_per_device": 1.0, "idle_power": 0.0, **more})


def a_trace(*jobs):
    """Each: submitted and length in hours, devices."""
    return Trace(
        jobs=tuple(
            TraceJob(id=str(number), submitted_s=submitted * 3600, length_s=length * 3600, devices=devices)
            for number, (submitted, length, devices) in enumerate(jobs)
        )
    )


def signals(first_hour=0, **zones):
    return Signals(
        {
            zone: Intensity(zone=zone, start=datetime(2023, 1, 1, tzinfo=UTC), g_per_kwh=tuple(map(float, values)))
            for zone, values in zones.items()
        },
        first_hour,
    )


def steps(*steps, period=None):
    """Each: from which hour, USD, devices."""
    times, prices, devices = zip(*steps, strict=True)
    return Supply(times=times, prices=prices, devices=devices, period_h=period)
