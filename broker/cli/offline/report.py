"""`broker report`: what jobs used, from exports of sacct alone. No daemon, no database."""

import csv
import io
from datetime import UTC, datetime, tzinfo
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from broker.accounting.columns import QUERY
from broker.accounting.export import Export, joined, read
from broker.accounting.history import current
from broker.accounting.leases import read_leases, with_providers
from broker.accounting.rates import Rates
from broker.accounting.rates import Terms as Charged
from broker.accounting.slices import Window
from broker.accounting.totals import By, add_up
from broker.cli.offline.report_facts import Report, Terms, document
from broker.cli.offline.report_page import page
from broker.cli.options import TimeZone
from broker.cli.output import facts, print_json, say, table
from broker.core.readings import Scope
from broker.signals import annual

_CSV = (
    "jobs", "gpu_seconds_ran", "gpu_seconds_held", "cpu_seconds", "cpu_seconds_held", "efficiency", "cost", "kwh", "kg",
)  # fmt: skip
_FILE = click.Path(path_type=Path, dir_okay=False, allow_dash=True)


class _Rate(click.ParamType[tuple[str, Decimal]]):
    name = "TYPE=PRICE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Decimal]:
        gpu, _, text = str(value).rpartition("=")
        try:
            price = Decimal(text)
        except InvalidOperation:
            price = Decimal("NaN")
        if not gpu.strip() or not price.is_finite() or price < 0:
            self.fail(
                f"'{value}' is no rate; write a GPU's type and its price an hour, as h100=2.49, or *=2 for any",
                param,
                ctx,
            )
        return gpu.strip().lower(), price


class _Moment(click.ParamType[datetime]):
    name = "DATE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            at = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(
                f"'{value}' is no date; write 2026-11-01 or 2026-11-01T06:00:00+01:00 (without a zone: UTC)", param, ctx
            )
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


@click.command()
@click.option("--sacct", "files", type=_FILE, multiple=True, metavar="FILE",
              help="An export of sacct, text or JSON, gzipped or not; `-`: standard input. Several count as one.")  # fmt: skip
@click.option("--columns", help="The columns of exports that have no header, as jobid,state,….", metavar="A,B,…")
@click.option("--from", "start", type=_Moment(), help="Count from this moment on.")
@click.option("--to", "end", type=_Moment(), help="Count up to this moment, itself not included.")
@click.option("--by", type=click.Choice([by.value for by in By]), default=By.USER.value, show_default=True,
              help="What the lines are.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(["table", "json", "csv", "html"]), default="table", show_default=True,
              help="html is one file with its plots in it.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--rate", "rates", type=_Rate(), multiple=True, help="Price of a GPU-hour of this type; *: of any other.")
@click.option("--currency", default="USD", show_default=True, help="What the rates are in.")
@click.option("--charge", type=click.Choice([clock.value for clock in Charged]), default=Charged.HELD.value,
              show_default=True, help="Which clock the rates are for.")  # fmt: skip
@click.option("--carbon", type=click.FloatRange(min=0), help="Carbon intensity of the power, g/kWh.")
@click.option("--zone", help="Instead: this grid zone's yearly mean.")
@click.option("--leases", type=_FILE, help="For --by provider: what `broker lease list --all --json` wrote.")
@click.option(
    "--time-zone",
    type=TimeZone(),
    help="Whose wall clock the times are where they are not seconds; without it: UTC.",
)
def report(
    files: tuple[Path, ...],
    columns: str | None,
    start: datetime | None,
    end: datetime | None,
    by: str,
    form: str,
    as_json: bool,
    rates: tuple[tuple[str, Decimal], ...],
    currency: str,
    charge: str,
    carbon: float | None,
    zone: str | None,
    leases: Path | None,
    time_zone: tzinfo | None,
) -> int:
    """GPU-hours ran and held, cost, energy and carbon of the jobs in exports of sacct.

    Exports may overlap and come in any order: each run of a job counts once, as it was last known. A line that cannot
    be read is counted and named with its reason. Exit 1: not one line could be read.
    """
    if not files:
        raise click.UsageError(
            f"Name an export with --sacct FILE, or --sacct - for standard input. Make one with:\n\n{QUERY}"
        )
    if start is not None and end is not None and start >= end:
        raise click.UsageError("--from must be before --to")
    if carbon is not None and zone is not None:
        raise click.UsageError("--carbon and --zone say the same thing: one of them")
    grams, source = _grams(carbon, zone)
    names = None if columns is None else columns.split(",")
    export = joined(read(path, columns=names, zone=time_zone) for path in files)
    found = current(export.runs)
    runs = found.runs
    if by == By.PROVIDER:
        runs = with_providers(runs, read_leases(leases) if leases else ())
    made = Report(
        export=export,
        current=found,
        totals=add_up(runs, By(by), Window(start=_epoch(start), end=_epoch(end))),
        by=By(by),
        window=(_text(start), _text(end)),
        terms=Terms(
            rates=Rates(per_gpu_hour=dict(rates), currency=currency, terms=Charged(charge)),
            grams_per_kwh=grams,
            grams_source=source,
        ),
    )
    _write(made, "json" if as_json else form)
    return 1 if _is_useless(export) else 0


def _is_useless(export: Export) -> bool:
    return bool(export.bad) and len(export.bad) == export.rows


def _write(made: Report, form: str) -> None:
    facts_of = document(made)
    if form == "json":
        print_json(facts_of)
    elif form == "csv":
        click.echo(_csv(made, facts_of), nl=False)
    elif form == "html":
        click.echo(page(facts_of), nl=False)
    else:
        _print(made, facts_of)


def _csv(made: Report, found: dict[str, Any]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([made.by.value, *_CSV, "currency"])
    for group in found["by"]:
        cells = ["" if group[name] is None else group[name] for name in _CSV]
        writer.writerow(
            [_harmless(group[made.by.value]), *cells, found["currency"] if group["cost"] is not None else ""]
        )
    return text.getvalue()


def _harmless(name: str) -> str:
    """A spreadsheet takes a cell that begins so for a formula, and names are their users' own."""
    return f"'{name}" if name[:1] in {"=", "+", "-", "@", "\t", "\r"} else name


def _print(made: Report, found: dict[str, Any]) -> None:
    window = " to ".join(text or "…" for text in made.window) if any(made.window) else "all of it"
    bad = f", {found['rows_bad']} bad" if found["rows_bad"] else ""
    again = found["rows_repeated"] + found["rows_corrected"]
    more = f", {again} again or corrected" if again else ""
    unfinished = found["not_over"]
    rows = [
        ("time", window),
        ("rows", f"{found['rows_read']} read, {found['rows_of_steps']} of steps{more}{bad}"),
        ("jobs", f"{found['jobs']} over; {unfinished['jobs']} not over, and in no figure below"),
        ("GPU-hours", f"{_hours(found['gpu_seconds_ran'])} ran, {_hours(found['gpu_seconds_held'])} held"),
        ("CPU-hours", _hours(found["cpu_seconds"])),
        (
            "cost",
            "no rates given (--rate h100=2.49)"
            if found["cost"] is None
            else f"{_money(found['cost'])} {found['currency']}",
        ),
        ("energy", f"{found['kwh']:.2f} kWh (estimated from board powers)"),
        (
            "carbon",
            "no intensity given (--zone US-CAL-CISO)"
            if found["kg"] is None
            else f"{found['kg']:.2f} kg CO2e ({found['grams_source']})",
        ),
    ]
    facts(rows)
    for note in found["notes"]:
        say(f"! {note}", hanging="  ")
    for reason in found["bad_reasons"]:
        first = ", ".join(str(line["line"]) for line in found["bad_lines"] if line["reason"] == reason["reason"])
        say(f"! {reason['lines']} bad lines: {reason['reason']} (lines {first or '…'})", hanging="  ")
    if not found["by"]:
        return
    say("")
    headings = (made.by.value.upper(), "JOBS", "GPU-h RAN", "GPU-h HELD", "EFF.", "COST", "kWh", "kg")
    table(
        headings,
        [
            (
                group[made.by.value],
                str(group["jobs"]),
                _hours(group["gpu_seconds_ran"]),
                _hours(group["gpu_seconds_held"]),
                "-" if group["efficiency"] is None else f"{group['efficiency']:.0%}",
                "-" if group["cost"] is None else _money(group["cost"]),
                f"{group['kwh']:.2f}",
                "-" if group["kg"] is None else f"{group['kg']:.2f}",
            )
            for group in found["by"]
        ],
        right=frozenset(headings[1:]),
    )


def _hours(seconds: int | None) -> str:
    return "not known" if seconds is None else f"{seconds / 3600:.2f}"


def _money(amount: str) -> str:
    return f"{Decimal(amount):.2f}"


def _grams(carbon: float | None, zone: str | None) -> tuple[float | None, str]:
    if zone is None:
        return carbon, "" if carbon is None else "as given"
    years = annual.known()
    if zone not in years:
        near = get_close_matches(zone, list(years), n=3, cutoff=0.4)
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise click.BadParameter(
            f"no yearly mean is known of '{zone}'{hint}; say --carbon G_PER_KWH", param_hint="--zone"
        )
    year = years[zone]
    return year.grams_per_kwh[Scope.LIFECYCLE], f"{zone}, mean of {year.year}, life cycle"


def _epoch(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat().replace("+00:00", "Z")
