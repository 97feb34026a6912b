"""`broker signal`: carbon intensity and prices of power, each with its age and where it came from."""

from pathlib import Path

import click

from broker.cli.output import facts, json_option, print_json
from broker.signals import factors, mix_file


@click.group()
def signal() -> None:
    """Carbon intensity and prices of power."""


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
                "first_hour": found.first_hour.isoformat().replace("+00:00", "Z"),
                "last_hour": found.last_hour.isoformat().replace("+00:00", "Z"),
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
