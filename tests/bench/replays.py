"""How fast traces are replayed, and how fast waiting jobs are planned again. Carried data only."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from measure import Figure

from broker.core.demand import Mode
from broker.placement.estimate import Option, Work
from broker.placement.objective import aims, choose
from broker.placement.outlook import hourly
from broker.simulate import gaia, gaia_policies, site_world
from broker.simulate.deciders import Broker
from broker.simulate.intensity import read_intensity, read_zones
from broker.simulate.read_jobs import read_jobs
from broker.simulate.signals import Signals, profile
from broker.simulate.site_file import read_site

_DATA = Path(__file__).parents[1] / "data" / "simulate"
_WAIT = (6.0, 24.0)


def figures(times: int = 5, waiting: int = 10_000, offered: int = 10_000) -> list[Figure]:
    """Jobs a second in both worlds, seconds for planning `waiting` jobs again, milliseconds for `offered` options."""
    trace = read_jobs(_DATA / "pai_1k.csv.gz")
    table = [_DATA / "four_zones_720h.csv.gz"]
    australia = read_intensity(table, "AU-SA")
    found = [
        Figure(
            what=f"simulate, world gaia, {name}, 9 reserved",
            value=len(trace.jobs)
            / _best(lambda policy=name: gaia.replay(trace, australia, gaia_policies.POLICIES[policy], 9, _WAIT), times),
            unit="jobs/CPU-s",
        )
        for name in ("carbon-time", "res-first-carbon-time", "wait-awhile")
    ]
    example = read_site(Path(site_world.__file__).with_name("site_example.toml"))
    zones = ("DE", "US-CAL-CISO", "AU-SA", "NO-NO1", "DE", "AU-SA")
    site = replace(
        example, offers=tuple(replace(offer, zone=zone) for offer, zone in zip(example.offers, zones, strict=True))
    )
    known = Signals(read_zones(table, set(zones)), 24 * 10)
    broker = Broker(aims(Mode.BALANCED, 1.0), profile)
    found.append(
        Figure(
            what="simulate, world site, broker balanced, six offers",
            value=len(trace.jobs)
            / _best(
                lambda: site_world.replay(trace, site, known, broker, "broker", site_world.Terms(wait_hours=_WAIT)),
                times,
            ),
            unit="jobs/CPU-s",
        )
    )
    return [*found, *_planning(times, waiting, offered)]


def _planning(times: int, waiting: int, offered: int) -> list[Figure]:
    day = hourly([300.0 + 20 * ((hour - 13) % 24) for hour in range(48)], errors=(0.0, 20.0))
    outlooks = dict.fromkeys("ABCDEF", day)
    options = [Option(id=f"o{n}", zone="ABCDEF"[n % 6], usd_per_hour=2 + n % 97 / 100) for n in range(offered)]
    wanted = aims(Mode.BALANCED, 1.0)
    starts = [float(hour) for hour in range(25)]

    def works(count: int) -> list[Work]:
        return [
            Work(id=str(n), run_h=1 + n % 7, run_p90_h=2 + n % 9, kw_per_node=0.85, may_wait_h=24) for n in range(count)
        ]

    again, one = works(waiting), works(1)
    return [
        Figure(
            what=f"{waiting} waiting jobs planned again, six options, 25 starts",
            value=_best(lambda: [choose(work, options[:6], outlooks, wanted, starts) for work in again], times),
            unit="CPU-s",
        ),
        Figure(
            what=f"one job over {offered} options that fit, now (the objective alone)",
            value=1000
            * _best(lambda: [choose(work, options, outlooks, aims(Mode.FAST, 0), (0.0,)) for work in one], times),
            unit="CPU-ms",
        ),
    ]


def _best(run: Callable[[], object], times: int) -> float:
    """CPU seconds, the least of a few: nothing here waits, and what else the machine does only ever adds."""
    found = []
    for _ in range(times):
        began = time.process_time()
        run()
        found.append(time.process_time() - began)
    return min(found)
