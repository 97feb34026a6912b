"""What a day-ahead choice saves with each forecast, as a share of what a perfect one saves. No look-ahead.

At 00:00 UTC of each day of a year a start inside it is chosen for a job of 1 h and of 6 h, by what each forecaster says then.
Data: hourly generation by fuel, intensity (direct) and area-weighted GFS weather forecasts of EnsembleCI (EIA-930, NOAA),
in ../shared/data/carbon/fuelmix_ci_weather. No archive of the operators' own net-load forecasts is there, so a stand-in
takes their place: net load and load by ridge regression on the recorded weather forecast and the day before, fitted again
each week on the year before it. The operators' own forecasts should be better. `--json` for machines.
"""

import argparse
import csv
import gzip
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import mul
from pathlib import Path
from typing import Any

from broker.core.readings import AverageIntensity, Boundary, Quality, Scope, Series
from broker.signals.forecast import Observation, from_net_load, same_hour
from broker.signals.net_load import NetLoad

HOUR = timedelta(hours=1)
ROOT = Path(__file__).parents[2]
ZONES = {"CISO": "US-CAL-CISO", "ERCO": "US-TEX-ERCO"}
FUELS = ("coal", "nat_gas", "nuclear", "oil", "hydro", "solar", "wind", "other")
DAYS = 362
"""Of the year: in the last days of 2022 the recorded weather ends."""
WEEK = 7 * 24


@dataclass(frozen=True)
class Hour:
    start: datetime
    intensity: float
    load: float
    net_load: float
    wind: float
    solar: float
    weather: tuple[float, float, float]
    """Wind m/s, sunlight W/m2, temperature in K above 290; as forecast."""


def read(path: Path) -> list[Hour]:
    hours = []
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            power = {fuel: max(0.0, float(row[fuel] or 0)) for fuel in FUELS if fuel in row}
            load = sum(power.values())
            hours.append(
                Hour(
                    start=datetime.fromisoformat(row["datetime_utc"].replace("Z", "+00:00")),
                    intensity=float(row["ci_direct"]),
                    load=load,
                    net_load=load - power["wind"] - power["solar"],
                    wind=power["wind"],
                    solar=power["solar"],
                    weather=(float(row["wx_wind_ms"]), float(row["wx_dswrf_Wm2"]), float(row["wx_temp_K"]) - 290),
                )
            )
    return hours


def features(hours: Sequence[Hour], at: int) -> list[float]:
    """What is known at the midnight before hour `at` that tells its load and net load."""
    hour, day, week = hours[at], hours[at - 24], hours[at - WEEK]
    of_day = [1.0 if hour.start.hour == number else 0.0 for number in range(24)]
    weekend = [1.0 if one.start.weekday() >= 5 else 0.0 for one in (hour, day)]
    weather = [
        value
        for wind, sun, heat in (hour.weather, day.weather)
        for value in (wind / 5, wind**2 / 25, wind**3 / 125, sun / 300, heat / 10, heat**2 / 100)
    ]
    past = [value / 1e4 for value in (day.load, day.net_load, day.wind, day.solar, week.load, week.net_load)]
    return [*of_day, *weekend, *weather, *past]


class Ridge:
    """Least squares with a little shrinkage, over the weeks it is told to keep."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.weeks: dict[int, tuple[list[list[float]], list[list[float]]]] = {}

    def learn(self, week: int, rows: Sequence[Sequence[float]], targets: Sequence[Sequence[float]]) -> None:
        columns = list(zip(*rows, strict=True))
        gram = [[dot(a, b) if i <= j else 0.0 for j, b in enumerate(columns)] for i, a in enumerate(columns)]
        self.weeks[week] = (gram, [[dot(a, target) for a in columns] for target in targets])

    def fit(self, weeks: range) -> list[list[float]]:
        known = [self.weeks[week] for week in weeks if week in self.weeks]
        gram = [[sum(g[min(i, j)][max(i, j)] for g, _ in known) for j in range(self.size)] for i in range(self.size)]
        for i in range(self.size):
            gram[i][i] += 1.0
        sides = [[sum(s[target][i] for _, s in known) for i in range(self.size)] for target in range(2)]
        return solve(gram, sides)


def dot(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(map(mul, one, other))


def solve(matrix: list[list[float]], rights: list[list[float]]) -> list[list[float]]:
    size = len(matrix)
    rows = [[*matrix[i], *(right[i] for right in rights)] for i in range(size)]
    for column in range(size):
        pivot = max(range(column, size), key=lambda i: abs(rows[i][column]))
        rows[column], rows[pivot] = rows[pivot], rows[column]
        head = [value / rows[column][column] for value in rows[column]]
        rows[column] = head
        for i in range(size):
            share = rows[i][column]
            if i != column and share:
                rows[i] = [own - share * other for own, other in zip(rows[i], head, strict=True)]
    return [[rows[i][size + number] for i in range(size)] for number in range(len(rights))]


def stand_in(hours: Sequence[Hour], first: int, last: int) -> dict[int, tuple[float, float]]:
    """Hour → (load, net load) as forecast at the midnight before it."""
    rows = {at: features(hours, at) for at in range(WEEK, last)}
    ridge = Ridge(len(rows[WEEK]))
    found: dict[int, tuple[float, float]] = {}
    for week in range(1, last // WEEK + 1):
        span = range(week * WEEK, min((week + 1) * WEEK, last))
        if span and span[-1] >= first:
            weights = ridge.fit(range(week - 52, week))
            for at in span:
                load, net = (dot(rows[at], one) * 1e4 for one in weights)
                found[at] = (load, net)
        targets = [[hours[at].load / 1e4 for at in span], [hours[at].net_load / 1e4 for at in span]]
        if span:
            ridge.learn(week, [rows[at] for at in span], targets)
    return found


def saved(truth: Sequence[float], said: Sequence[float], length: int) -> tuple[float, float, float]:
    """(mean over the day, at the best start, at the start that `said` finds best): g/kWh over the job."""
    starts = range(24 - length + 1)
    real, shown = ([sum(one[i : i + length]) / length for i in starts] for one in (truth, said))
    return sum(truth) / 24, min(real), real[min(starts, key=lambda i: (shown[i], i))]


def evaluate(path: Path, zone: str, year: int) -> dict[str, Any]:
    hours = read(path)
    base = hours[0].start
    first = int((datetime(year, 1, 1, tzinfo=UTC) - base) / HOUR)
    last = first + DAYS * 24
    readings = [a_reading(hour, zone) for hour in hours]
    seen = [an_observation(hour) for hour in hours]
    ahead = stand_in(hours, first, last)
    forecasters: dict[str, Callable[[int], list[AverageIntensity]]] = {
        "same hour yesterday": lambda at: same_hour(Series(tuple(readings[at - 48 : at])), 24, hours[at].start),
        "same hour last week": lambda at: same_hour(Series(tuple(readings[at - 200 : at])), 24, hours[at].start, 7),
        "net load, forecast from weather": lambda at: from_net_load(
            seen[at - 28 * 24 : at],
            [net(hours[i].start, *ahead[i]) for i in range(at, at + 24)],
            readings[at - 1],
            hours[at].start,
        ),
        "net load, known": lambda at: from_net_load(
            seen[at - 28 * 24 : at],
            [net(hours[i].start, hours[i].load, hours[i].net_load) for i in range(at, at + 24)],
            readings[at - 1],
            hours[at].start,
        ),
    }
    days = [at for at in range(first, last, 24) if all(hour.load > 0 for hour in hours[at : at + 24])]
    rows = []
    for name, forecaster in forecasters.items():
        said = [[reading.value for reading in forecaster(at)] for at in days]
        row: dict[str, Any] = {"forecaster": name}
        for length in (1, 6):
            sums = [0.0, 0.0, 0.0]
            for at, day in zip(days, said, strict=True):
                truth = [hour.intensity for hour in hours[at : at + 24]]
                parts = saved(truth, day if len(day) == 24 else list(range(24)), length)
                sums = [total + part for total, part in zip(sums, parts, strict=True)]
            any_start, best, chosen = sums
            row[f"perfect_saving_{length}h"] = 1 - best / any_start
            row[f"saving_{length}h"] = 1 - chosen / any_start
            row[f"share_{length}h"] = (any_start - chosen) / (any_start - best)
        errors = [
            abs(value - hours[at + i].intensity) / hours[at + i].intensity
            for at, day in zip(days, said, strict=True)
            for i, value in enumerate(day)
        ]
        row["mape"] = sum(errors) / len(errors)
        rows.append(row)
    off = [abs(ahead[i][1] - hours[i].net_load) for i in range(first, last)]
    return {
        "zone": zone,
        "year": year,
        "days": len(days),
        "stand_in_net_load_mae_mw": sum(off) / len(off),
        "mean_net_load_mw": sum(hour.net_load for hour in hours[first:last]) / (last - first),
        "rows": rows,
    }


def net(start: datetime, load: float, net_load: float) -> NetLoad:
    return NetLoad(start=start, end=start + HOUR, load_mw=load, net_load_mw=net_load, is_forecast=True)


def a_reading(hour: Hour, zone: str) -> AverageIntensity:
    return AverageIntensity(
        zone=zone,
        start=hour.start,
        end=hour.start + HOUR,
        value=hour.intensity,
        scope=Scope.DIRECT,
        boundary=Boundary.PRODUCTION,
        source="EnsembleCI",
        fetched_at=hour.start + HOUR,
        quality=Quality.MEASURED,
    )


def an_observation(hour: Hour) -> Observation:
    return Observation(
        start=hour.start,
        end=hour.start + HOUR,
        load_mw=hour.load,
        net_load_mw=hour.net_load,
        tonnes_per_hour=hour.intensity * hour.load / 1000,
    )


def data() -> Path | None:
    places = (ROOT / "shared/data", ROOT.parent / "shared/data")
    return next((place / "carbon/fuelmix_ci_weather" for place in places if place.is_dir()), None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--year", type=int, default=2022, choices=(2020, 2021, 2022))
    asked = parser.parse_args()
    folder = data()
    if folder is None:
        print("skipped: ../shared/data/carbon/fuelmix_ci_weather is not here", file=sys.stderr)
        return 0
    found = [evaluate(folder / f"{name}.csv.gz", zone, asked.year) for name, zone in ZONES.items()]
    if asked.json:
        print(json.dumps({"schema_version": 1, "zones": found}, indent=2))
        return 0
    print("\n".join(line for zone in found for line in table(zone)))
    return 0


def table(zone: Mapping[str, Any]) -> list[str]:
    off = f"off by {zone['stand_in_net_load_mae_mw']:.0f} of {zone['mean_net_load_mw']:.0f} MW"
    lines = [
        f"\n{zone['zone']}, {zone['days']} days of {zone['year']}; the stand-in's net load is {off}\n",
        "| forecaster | error | 1 h saves | of perfect | 6 h saves | of perfect |\n|---|---|---|---|---|---|",
    ]
    for row in zone["rows"]:
        shares = " | ".join(f"{row[f'saving_{length}h']:.1%} | {row[f'share_{length}h']:.1%}" for length in (1, 6))
        lines.append(f"| {row['forecaster']} | {row['mape']:.1%} | {shares} |")
    best = " | ".join(f"{zone['rows'][0][f'perfect_saving_{length}h']:.1%} | 100%" for length in (1, 6))
    return [*lines, f"| perfect | 0 | {best} |"]


if __name__ == "__main__":
    sys.exit(main())
