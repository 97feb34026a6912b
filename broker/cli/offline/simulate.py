"""`broker simulate`: replay a trace of jobs; needs no daemon."""

import time
from dataclasses import replace
from datetime import tzinfo
from pathlib import Path
from typing import Any

import click

from broker.cli.options import TimeZone
from broker.cli.output import facts, json_option, print_json, say
from broker.core.demand import Mode
from broker.placement.objective import aims, with_wishes
from broker.simulate import gaia, gaia_policies, site_world
from broker.simulate.deciders import Broker, CheapestNow, Decider, GreenestNow
from broker.simulate.intensity import SCOPES, Intensity, read_intensity, read_zones
from broker.simulate.outcome import Outcome, Spread
from broker.simulate.read_jobs import SECONDS, kind_of, read_jobs
from broker.simulate.signals import Signals, perfect, persistence, profile
from broker.simulate.site_file import read_site
from broker.simulate.trace import BadLine, Trace, reasons

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_EXAMPLE = Path(site_world.__file__).with_name("site_example.toml")
SITE_POLICIES = ("cheapest", "greenest", "broker")
_DEFAULT_WAIT = "6,24"
# A job below a minute is rare in any trace; when most of them are, the unit is wrong.
_DOUBTFUL_MEDIAN_S = 60


class _Wait(click.ParamType[tuple[float, float]]):
    name = "SHORT,LONG"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, float]:
        if isinstance(value, tuple):
            return value
        try:
            short, long = (float(part) for part in str(value).replace("x", ",").split(","))
        except ValueError:
            self.fail(f"'{value}' is not two numbers of hours, as {_DEFAULT_WAIT}", param, ctx)
        if not (0 <= short < 1e6 and 0 <= long < 1e6):
            self.fail(f"'{value}': hours are not below 0, and finite", param, ctx)
        return short, long


@click.command()
@click.option("--jobs", required=True, type=_FILE, help="GAIA csv, SWF or `sacct --parsable2`; gzipped or not.")
@click.option(
    "--carbon", required=True, multiple=True, type=_FILE,
    help="Hourly intensities: an Electricity Maps export or a table of zones; several are joined.",
)  # fmt: skip
@click.option("--zone", help="World gaia: the grid zone. World site: all offers stand in this one.")
@click.option("--scope", type=click.Choice(list(SCOPES)), default="lifecycle", show_default=True,
              help="Which intensity of an export.")  # fmt: skip
@click.option("--start-hour", type=click.IntRange(min=0), help="The hour of the intensities at which the trace begins.")
@click.option("--policy", required=True, help="Who decides when and where; see the reference.")
@click.option("--reserved", type=click.IntRange(min=0), default=0, show_default=True, help="Devices paid in advance.")
@click.option("--wait", type=_Wait(), default=_DEFAULT_WAIT, show_default=True,
              help="How many hours jobs below two hours, and the others, may be delayed.")  # fmt: skip
@click.option("--time-unit", type=click.Choice(list(SECONDS)), help="Of a GAIA csv; without it: seconds.")
@click.option("--count", type=click.Choice(["gpus", "cpus"]), default="gpus", show_default=True,
              help="What a device is, in a sacct export.")  # fmt: skip
@click.option(
    "--time-zone", type=TimeZone(), help="Whose wall clock a sacct export shows, as Europe/Berlin; without it: UTC."
)
@click.option(
    "--world", type=click.Choice(["gaia", "site"]), help="Its rules and prices; without it: the policy's own."
)
@click.option("--window-hours", type=click.IntRange(min=1), default=gaia.WINDOW_HOURS, show_default=True,
              help="World gaia: how many hours of intensities are seen; jobs that end later are left out.")  # fmt: skip
@click.option("--site", type=_FILE, help="World site: its offers; without it an example with assumed zones.")
@click.option("--mode", type=click.Choice([mode.value for mode in Mode]), default="balanced", show_default=True,
              help="Policy broker: what the jobs want.")  # fmt: skip
@click.option("--carbon-price", type=click.FloatRange(min=0), default=1.0, show_default=True,
              help="Policy broker: USD/kg, the account's shadow price.")  # fmt: skip
@click.option("--premium", type=click.FloatRange(min=0), help="Policy broker: share of the floor paid more at most.")
@click.option("--forecast", type=click.Choice(["profile", "persistence", "perfect"]), default="profile",
              show_default=True, help="Policy broker: what it thinks of the hours to come.")  # fmt: skip
@click.option("--slack", type=click.FloatRange(min=0),
              help="World site: deadline = submission + (1 + slack) x time limit; without it: none.")  # fmt: skip
@click.option("--knows", type=click.Choice(["length", "queue"]), default="length", show_default=True,
              help="World site: of a job's length, all, or its queue's median and 90th percentile.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="World site: of the boots.")
@json_option
def simulate(
    jobs: Path,
    carbon: tuple[Path, ...],
    zone: str | None,
    scope: str,
    start_hour: int | None,
    policy: str,
    reserved: int,
    wait: tuple[float, float],
    time_unit: str | None,
    count: str,
    time_zone: tzinfo | None,
    world: str | None,
    window_hours: int,
    site: Path | None,
    mode: str,
    carbon_price: float,
    premium: float | None,
    forecast: str,
    slack: float | None,
    knows: str,
    seed: int,
    as_json: bool,
) -> None:
    """What would these jobs have cost, emitted and waited?

    Replays a trace of jobs on a year of carbon intensities under one policy.
    """
    world = _world(policy, world)
    if world == "site" and reserved:
        raise click.UsageError(
            "--reserved is for world gaia; in world site give an offer of your own devices a price of 0."
        )
    trace = _trace(jobs, time_unit, count, time_zone)
    if world == "gaia":
        intensity = read_intensity(carbon, zone, scope)
        intensity = intensity.from_hour(_first_hour(trace, intensity) if start_hour is None else start_hour)
        began = time.perf_counter()
        outcome = gaia.replay(trace, intensity, gaia_policies.POLICIES[policy], reserved, wait, window_hours)
    else:
        offers = read_site(site or _EXAMPLE)
        if zone is not None:
            offers = replace(offers, offers=tuple(replace(offer, zone=zone) for offer in offers.offers))
        zones = read_zones(carbon, {offer.zone for offer in offers.offers}, scope)
        intensity = next(iter(zones.values()))
        first = _first_hour(trace, intensity) if start_hour is None else start_hour
        intensity = intensity.from_hour(first)
        signals = Signals(zones, first)
        wanted = with_wishes(aims(Mode(mode), carbon_price), premium=premium)
        forecaster = (
            perfect(signals) if forecast == "perfect" else {"profile": profile, "persistence": persistence}[forecast]
        )
        deciders: dict[str, Decider] = {
            "cheapest": CheapestNow(), "greenest": GreenestNow(), "broker": Broker(wanted, forecaster, str(seed)),
        }  # fmt: skip
        terms = site_world.Terms(wait_hours=wait, slack=slack, lengths_known=knows == "length")
        began = time.perf_counter()
        outcome = site_world.replay(trace, offers, signals, deciders[policy], policy, terms, seed)
    took = time.perf_counter() - began
    if world == "site":
        beside = outcome if policy == "cheapest" else site_world.replay(
            trace, offers, signals, deciders["cheapest"], "cheapest", terms, seed)  # fmt: skip
        outcome = site_world.beside(outcome, beside)
    _warn(outcome, trace, intensity)
    if as_json:
        print_json(_document(outcome, trace, intensity, took))
    else:
        _print(outcome, intensity, took)


def _world(policy: str, world: str | None) -> str:
    """The world that `policy` lives in. Usage errors: there is no such policy, or it lives in another one."""
    home = "gaia" if policy in gaia_policies.POLICIES else "site" if policy in SITE_POLICIES else None
    if home is None:
        raise click.BadParameter(_no_policy(policy), param_hint="--policy")
    if world is not None and world != home:
        raise click.UsageError(f"policy {policy} is one of world {home}; without --world it runs there.")
    return home


def _no_policy(name: str) -> str:
    from difflib import get_close_matches  # noqa: PLC0415  # only for the error

    names = [*gaia_policies.POLICIES, *SITE_POLICIES]
    near = get_close_matches(name, names, n=1)
    return f"there is no policy '{name}'. " + (
        f"Did you mean '{near[0]}'?" if near else f"There are {', '.join(names)}."
    )


def _trace(path: Path, time_unit: str | None, count: str, time_zone: tzinfo | None) -> Trace:
    kind = kind_of(path)
    if time_unit is not None and kind != "gaia":
        raise click.UsageError(f"--time-unit is for a GAIA csv; {path} is {kind}, which says its own.")
    if time_zone is not None and kind != "sacct":
        raise click.UsageError(f"--time-zone is for a sacct export; {path} is {kind}.")
    trace = read_jobs(path, time_unit=time_unit or "seconds", zone=time_zone, count=count)
    median = sorted(job.length_s for job in trace.jobs)[len(trace.jobs) // 2]
    if kind == "gaia" and time_unit is None and median < _DOUBTFUL_MEDIAN_S:
        raise click.UsageError(
            f"half of the jobs of {path} would be shorter than {median:.3g} s: its unit seems to be another one. "
            f"Say --time-unit hours, or --time-unit seconds if they are that short."
        )
    return trace


def _first_hour(trace: Trace, intensity: Intensity) -> int:
    """The hour in which the trace itself says that it begins, where the intensities cover it."""
    if trace.origin is None:
        return 0
    hours = int((trace.origin - intensity.start).total_seconds() // 3600)
    return hours if 0 <= hours < len(intensity.g_per_kwh) else 0


def _warn(outcome: Outcome, trace: Trace, intensity: Intensity) -> None:
    for what, bad in (("no job", trace.bad_lines), ("no intensity", intensity.bad_lines)):
        for reason, number in reasons(bad):
            first = [str(line.number) for line in bad if line.reason == reason][:5]
            more = ", …" if number > len(first) else ""
            click.echo(f"broker: {number} lines are {what}: {reason} (line {', '.join(first)}{more})", err=True)
    if intensity.filled:
        click.echo(f"broker: {intensity.filled} hours without intensity took the hour before", err=True)
    for reason, number in outcome.left_out.items():
        hint = "; --window-hours makes it longer" if "window" in reason else ""
        click.echo(f"broker: {number} jobs left out: {reason}{hint}", err=True)


def _document(outcome: Outcome, trace: Trace, intensity: Intensity, took: float) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "world": outcome.world,
        "policy": outcome.policy,
        "zone": intensity.zone if outcome.world == "gaia" else None,
        "begins_at": intensity.start.isoformat().replace("+00:00", "Z"),
        "jobs": outcome.jobs,
        "carbon_kg": outcome.carbon_kg,
        "normalized_carbon": outcome.normalized_carbon,
        "cost_usd": outcome.cost_usd,
        "cost_usd_by": outcome.cost_by,
        "device_hours": outcome.device_hours,
        "mean_wait_h": outcome.mean_wait_h,
        "wait_h": _spread(outcome.wait_h),
        "slowdown": _spread(outcome.slowdown),
        **outcome.more,
        "left_out": [{"reason": reason, "jobs": number} for reason, number in outcome.left_out.items()],
        "bad_lines": _bad(trace.bad_lines),
        "bad_intensity_lines": _bad(intensity.bad_lines),
        "filled_hours": intensity.filled,
        "jobs_per_second": round(outcome.jobs / took) if took else None,
    }


def _bad(lines: tuple[BadLine, ...]) -> list[dict[str, Any]]:
    return [
        {"reason": reason, "lines": number, "first": [line.number for line in lines if line.reason == reason][:10]}
        for reason, number in reasons(lines)
    ]


def _spread(spread: Spread) -> dict[str, float]:
    return {"mean": spread.mean, "p50": spread.p50, "p90": spread.p90, "p99": spread.p99, "max": spread.max}


def _print(outcome: Outcome, intensity: Intensity, took: float) -> None:
    wait = outcome.wait_h
    say(
        f"{outcome.jobs} jobs in zone {intensity.zone} from {intensity.start:%Y-%m-%d %H:%M} UTC, world {outcome.world}"
    )
    facts(
        [
            ("policy", outcome.policy),
            ("cost", f"{outcome.cost_usd:.2f} USD" + _parts(outcome)),
            ("carbon", f"{outcome.carbon_kg:.3f} kg, {outcome.normalized_carbon:.1%} of what {_beside(outcome)} emits"),
            ("wait", f"mean {outcome.mean_wait_h:.2f} h, p50 {wait.p50:.2f}, p90 {wait.p90:.2f}, p99 {wait.p99:.2f}"),
            *_site_facts(outcome),
            ("speed", f"{outcome.jobs / took:,.0f} jobs/s" if took else "-"),
        ]
    )


def _site_facts(outcome: Outcome) -> list[tuple[str, str]]:
    more = outcome.more
    if not more:
        return []
    troubles = (
        f"{more['sold_out']} sell-outs met, {more['failed_boots']} failed boots, {more['interruptions']} interruptions"
    )
    rows = [("premium", f"at most {more['highest_premium']:.1%} above the floor"), ("troubles", troubles)]
    if more["deadlines"]:
        missed = f"{more['deadlines_missed']} of {more['deadlines']} missed"
        rows.append(("deadlines", f"{missed}, {more['deadlines_missed_by_waiting']} of them by waiting"))
    return rows


def _beside(outcome: Outcome) -> str:
    return "starting at once" if outcome.world == "gaia" else "cheapest, now"


def _parts(outcome: Outcome) -> str:
    parts = [f"{name.replace('_', '-')} {usd:.2f}" for name, usd in outcome.cost_by.items() if usd]
    return f" ({', '.join(parts)})" if len(parts) > 1 else ""
