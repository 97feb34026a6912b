"""`broker signal`: carbon intensity and prices of power, each with its age and where it came from."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from broker.cli.offline.signal_plot import plot
from broker.cli.options import config_option
from broker.cli.output import facts, json_option, print_json, say, table
from broker.cli.words import age, span
from broker.config import load
from broker.core.errors import NotFound
from broker.core.readings import AverageIntensity, EnergyPrice, Reading
from broker.signals import annual, factors, mix_file
from broker.signals.chain import Ahead, Now, Prices, Signals
from broker.signals.recognise import recognise
from broker.signals.registry import KINDS, make_signals


@click.group()
def signal() -> None:
    """Carbon intensity and prices of power.

    `list` and `show` say what was fetched last, by the daemon or by `fetch`, and make no request themselves.
    """


@signal.command("list")
@click.option("--kinds", is_flag=True, help="Every kind of source there is, its terms and limits.")
@config_option
@json_option
def list_(kinds: bool, config_path: Path, as_json: bool) -> None:
    """The configured sources and zones, and how old what they said is."""
    if kinds:
        _kinds(as_json)
        return
    settings = load(config_path)
    room = _room(config_path, offline=True)
    zones = [room.now(zone) for zone in room.zones()]
    if as_json:
        print_json(
            {
                "schema_version": 1,
                "sources": [
                    {"name": one.name, "kind": one.kind, "proxy": one.proxy is not None} | _terms(one.kind)
                    for one in settings.signals
                ],
                "zones": [_now(zone) for zone in zones],
            }
        )
        return
    if not settings.signals:
        say(
            f"No source is configured; write a [signal.NAME] into {config_path}. `broker signal list --kinds` lists them."
        )
        return
    table(("SOURCE", "KIND", "GIVES"), [(one.name, one.kind, KINDS[one.kind].gives) for one in settings.signals])
    say("")
    table(
        ("ZONE", "g/kWh", "LINK", "AGE", "SOURCE"),
        [
            (
                zone.zone,
                f"{zone.reading.value:.0f}" if zone.reading else "-",
                zone.link,
                span(zone.age.total_seconds()),
                zone.reading.source if zone.reading else "-",
            )
            for zone in zones
        ],
        right=frozenset({"g/kWh", "AGE"}),
    )


@signal.command()
@click.argument("zone")
@click.option("--hours", type=click.IntRange(1, 168), default=48, show_default=True, help="How far to look ahead.")
@config_option
@json_option
def show(zone: str, hours: int, config_path: Path, as_json: bool) -> None:
    """What is known of ZONE (such as US-CAL-CISO): now, the hours ahead, prices, and why no better link holds."""
    room = _room(config_path, offline=True)
    _refuse_unknown(room, zone)
    now, ahead, prices = room.now(zone), room.ahead(zone, hours), room.prices(zone)
    if as_json:
        print_json({"schema_version": 1} | _now(now) | {"ahead": _ahead(ahead), "prices": _prices(prices)})
        return
    _say(now, ahead, prices)


@signal.command()
@click.argument("zones", nargs=-1, metavar="[ZONE]...")
@config_option
@json_option
def fetch(zones: tuple[str, ...], config_path: Path, as_json: bool) -> int:
    """Ask the sources of each ZONE (all without one) now. What is young enough is not asked for again.

    Exit code 5 when no link of a zone is measured or forecast afterwards.
    """
    room = _room(config_path, offline=False)
    for zone in zones:
        _refuse_unknown(room, zone)
    asked = list(zones) or room.zones()
    troubles = {zone: room.refresh(zone) for zone in asked}
    after = [room.now(zone) for zone in asked]
    if as_json:
        print_json({"schema_version": 1, "zones": [_now(said) | {"troubles": troubles[said.zone]} for said in after]})
    else:
        if not asked:
            say(f"No source is configured; write a [signal.NAME] into {config_path}.")
        for said in after:
            value = f"{said.reading.value:.0f} g/kWh" if said.reading else "unknown"
            say(f"{said.zone}: {value} ({said.link})")
            for trouble in troubles[said.zone]:
                say(trouble, indent="  ", hanging="  ")
    return 0 if all(said.link in {"live", "forecast", "late"} for said in after) else 5


@signal.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--factors",
    "factors_name",
    metavar="NAME",
    default="eia930-ipcc-2014",
    show_default=True,
    help="The set of emission factors (of broker/signals/factors.toml).",
)
@json_option
def mix(file: Path, factors_name: str, as_json: bool) -> None:
    """The intensity of an hourly fuel mix.

    FILE is a CSV file (gzipped or not) with a column timestamp and EIA-930's columns WND SUN WAT OIL NG COL NUC OTH, in
    MWh. Where it has a column avg_CI, that is held against ours.
    """
    chosen = factors.named(factors_name)
    found = mix_file.compare(mix_file.parse(mix_file.read(file), file.name), chosen.grams_per_kwh, file.name)
    if as_json:
        print_json(
            {
                "schema_version": 1,
                "file": file.name,
                "factors": chosen.name,
                "scope": chosen.scope,
                "hours": found.hours,
                "gaps": found.gaps,
                "first_hour": _text(found.first_hour),
                "last_hour": _text(found.last_hour),
                "mean_g_per_kwh": found.mean_g_per_kwh,
                "min_g_per_kwh": min(found.intensities),
                "max_g_per_kwh": max(found.intensities),
                "max_abs_error": found.max_abs_error,
            }
        )
        return
    own = "the file has none" if found.max_abs_error is None else f"differs by at most {found.max_abs_error:.2g} g/kWh"
    facts(
        [
            ("hours", f"{found.hours}" + (f", and {found.gaps} without a value" if found.gaps else "")),
            ("mean", f"{found.mean_g_per_kwh:.1f} g/kWh ({chosen.scope})"),
            ("range", f"{min(found.intensities):.1f} to {max(found.intensities):.1f} g/kWh"),
            ("factors", f"{chosen.name}: {chosen.source}"),
            ("own column", own),
        ]
    )


@signal.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--day", type=click.DateTime(["%Y-%m-%d"]), help="The local day of a body that does not name it (CAISO's)."
)
@json_option
def read(file: Path, day: datetime | None, as_json: bool) -> None:
    """What the broker makes of a body that a source sent, saved in FILE (gzipped or not): for when a format has changed.

    Exit code 1, with the reason, when nothing can be made of it.
    """
    try:
        body = file.read_bytes()
    except FileNotFoundError as exc:
        raise NotFound(f"{file}: there is no such file") from exc
    except OSError as exc:
        raise click.UsageError(f"{file} cannot be read ({exc.strerror}); name a plain file") from exc
    found = recognise(body, datetime.now(UTC), day.date() if day else None)
    first, last = (_text(at) if at else None for at in (found.first, found.last))
    if as_json:
        print_json({"schema_version": 1, "format": found.format, "values": found.found, "first": first, "last": last})
        return
    facts([("format", found.format), ("values", str(found.found)), ("from", first or "-"), ("to", last or "-")])


def _room(config_path: Path, *, offline: bool) -> Signals:
    settings = load(config_path)
    folder = settings.site.state_dir / "signals"
    return make_signals(settings.signals, folder, lambda: datetime.now(UTC), offline=offline)


def _refuse_unknown(room: Signals, zone: str) -> None:
    if zone not in room.zones() and zone not in annual.known():
        known = ", ".join(room.zones()) or "none, no source is configured"
        raise NotFound(f"no configured source speaks of '{zone}'; the zones are {known}")


def _kinds(as_json: bool) -> None:
    if as_json:
        print_json({"schema_version": 1, "kinds": [{"kind": name} | _terms(name) for name in KINDS]})
        return
    for name, kind in KINDS.items():
        say(name)
        facts(
            [
                ("  gives", kind.gives),
                ("  licence", kind.licence),
                ("  limits", kind.limits),
                ("  zones", ", ".join(sorted(kind.zones)) if kind.zones else "any"),
            ]
        )


def _terms(kind: str) -> dict[str, Any]:
    terms = KINDS[kind]
    return {
        "gives": terms.gives,
        "licence": terms.licence,
        "limits": terms.limits,
        "needs_key": bool(terms.key_param or terms.key_header),
        "zones": sorted(terms.zones) if terms.zones else None,
    }


def _say(now: Now, ahead: Ahead, prices: Prices) -> None:
    reading = now.reading
    if reading is None:
        facts([("now", "unknown; plans behave as if carbon did not matter")])
    else:
        old = f", {span(now.age.total_seconds())} old" if now.age.total_seconds() else ""
        facts(
            [
                ("now", f"{reading.value:.0f} g/kWh ({now.link}{old})"),
                ("counts", f"{reading.scope} emissions of what the zone {_BOUNDARY[reading.boundary]}"),
                ("source", reading.source),
                ("fetched", f"{age(reading.fetched_at.isoformat())} ago"),
            ]
        )
    for why in now.why:
        say(why, indent="  ", hanging="  ")
    if len(ahead.series):
        say("")
        say(f"The hours ahead ({ahead.link}, {ahead.series.readings[0].source}), g/kWh:")
        for line in plot([(hour.start, hour.value) for hour in ahead.series]):
            click.echo(line)
    current = prices.series.at(datetime.now(UTC))
    if current is not None:
        say("")
        say(f"Price now: {current.value} {current.currency}/MWh ({current.source})")


_BOUNDARY = {"production": "makes", "consumption": "uses"}


def _now(now: Now) -> dict[str, Any]:
    return {
        "zone": now.zone,
        "link": now.link,
        "age_seconds": int(now.age.total_seconds()),
        "reading": _reading(now.reading) if now.reading else None,
        "why": list(now.why),
    }


def _ahead(ahead: Ahead) -> dict[str, Any]:
    return {"link": ahead.link, "readings": [_reading(hour) for hour in ahead.series], "why": list(ahead.why)}


def _prices(prices: Prices) -> dict[str, Any]:
    return {"readings": [_reading(hour) for hour in prices.series], "why": list(prices.why)}


def _reading(reading: Reading) -> dict[str, Any]:
    document: dict[str, Any] = {
        "quantity": reading.quantity,
        "value": str(reading.value) if isinstance(reading, EnergyPrice) else reading.value,
        "unit": f"{reading.currency}/MWh" if isinstance(reading, EnergyPrice) else reading.unit,
        "start": _text(reading.start),
        "end": _text(reading.end),
        "source": reading.source,
        "fetched_at": _text(reading.fetched_at),
        "issued_at": _text(reading.issued_at) if reading.issued_at else None,
        "quality": reading.quality,
        "is_estimated": reading.is_estimated,
    }
    if isinstance(reading, AverageIntensity):
        document |= {"scope": reading.scope, "boundary": reading.boundary}
    if isinstance(reading, EnergyPrice):
        document["currency"] = reading.currency
    return document


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
