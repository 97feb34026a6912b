"""`make eval`: writes docs/evaluation.md and its charts from ../shared/data. Some twenty minutes on two cores."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import material
from blocks import interval
from plot import chart

from broker.core.demand import Mode
from broker.placement.objective import Aims, aims, with_wishes
from broker.placement.outlook import integral
from broker.simulate import gaia, gaia_policies
from broker.simulate.bound import bound, value
from broker.simulate.deciders import Broker, CheapestNow, Decider, GreenestNow
from broker.simulate.intensity import read_intensity
from broker.simulate.outcome import Outcome
from broker.simulate.signals import Signals, perfect, persistence, profile
from broker.simulate.site_file import Site
from broker.simulate.site_world import Terms, replay, works

ROOT = Path(__file__).parents[2]
WAIT = (6.0, 24.0)
WEEK_H = 24 * 7
PUBLISHED = {
    "no-wait": (1.0, 154.397), "lowest-slot": (0.780037, None), "lowest-window": (0.683704, None),
    "carbon-time": (0.724888, 181.381), "ecovisor": (0.639105, None), "wait-awhile": (0.546196, None),
    "all-wait": (0.921652, 129.827), "res-first-carbon-time": (0.854406, 142.149),
    "spot-first-carbon-time": (0.724888, None), "spot-res-carbon-time": (0.861709, 117.470),
}  # fmt: skip
Table = list[list[str]]


def main() -> None:
    """Run the parts that are asked for, keep their figures, write the page from all that are kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=list(PARTS), help="only these parts; the others keep their figures"
    )
    parser.add_argument("--kept", type=Path, default=ROOT / "docs" / "evaluation.json")
    options = parser.parse_args()
    material.needed()
    kept: dict[str, Any] = json.loads(options.kept.read_text()) if options.kept.exists() else {}
    for name in options.only or PARTS:
        began = time.perf_counter()
        print(f"eval: {name}", file=sys.stderr, flush=True)
        kept[name] = PARTS[name]()
        kept[name]["seconds"] = round(time.perf_counter() - began)
        options.kept.write_text(json.dumps(kept, indent=1) + "\n")
    (ROOT / "docs" / "evaluation.md").write_text(page(kept))


def published() -> dict[str, Any]:
    """Ours beside the published table, and the same policies in other zones and hours."""
    table = material.DATA / "carbon/emaps_123zones_2022_hourly.csv.gz"
    rows: Table = []
    for name, policy in gaia_policies.POLICIES.items():
        here = read_intensity([table], "AU-SA").from_hour(7000)
        outcome = gaia.replay(material.week(), here, policy, 9, WAIT)
        carbon, usd = PUBLISHED[name]
        rows.append([name, f"{outcome.normalized_carbon:.6f}", f"{carbon:.6f}", f"{outcome.mean_wait_h:.3f}",
                     f"{outcome.cost_usd:.3f}", f"{usd:.3f}" if usd else "not published"])  # fmt: skip
    others: Table = []
    for zone, hour in (("US-CAL-CISO", 3000), ("DE", 3000), ("GB", 500), ("IN-WE", 6000)):
        here = read_intensity([table], zone).from_hour(hour)
        found = [gaia.replay(material.week(), here, gaia_policies.POLICIES[name], 9, WAIT)
                 for name in ("lowest-window", "carbon-time", "ecovisor", "wait-awhile", "res-first-carbon-time")]  # fmt: skip
        others.append([zone, str(hour), *(f"{each.normalized_carbon:.3f}" for each in found)])
    return {"rows": rows, "others": others}


def forecasts() -> dict[str, Any]:
    """How much of what a perfect forecast saves is kept, by zone: starts drawn over 2023, jobs of 1 and 6 h, 24 h slack."""
    rows: Table = []
    for zone in ("US-CAL-CISO", "US-TEX-ERCO", "US-MIDA-PJM", "DE-LU", "GB", "ES", "NO", "CA-ON", "JP-TK", "AU-NSW"):
        known = Signals({zone: material.intensity(zone, (2023,))}, 0)
        weeks: dict[int, list[float]] = {}
        for hour in range(WEEK_H * 2 + 7, 8700, 13):
            weeks.setdefault(hour // WEEK_H, [0.0] * 12)
            for place, amount in enumerate(_chosen(known, zone, hour)):
                weeks[hour // WEEK_H][place] += amount
        cells: list[str] = []
        for first in (0, 6):  # of each: now, perfect, persistence, profile, the same two with the wait rule
            totals = [sum(column) for column in zip(*weeks.values(), strict=True)][first : first + 6]
            cells.append(f"{1 - totals[1] / totals[0]:.1%}")
            for place in (2, 3, 4, 5):

                def share(sums: list[float], at: int = first + place, now: int = first) -> float:
                    return (sums[now] - sums[at]) / (sums[now] - sums[now + 1])

                low, high = interval(list(weeks.values()), share)
                cells.append(f"{(totals[0] - totals[place]) / (totals[0] - totals[1]):.0%} ({low:.0%} … {high:.0%})")
        rows.append([zone, *cells])
    return {"rows": rows}


def _chosen(known: Signals, zone: str, hour: int) -> list[float]:
    truth, view = known.truth[zone].later(hour), known.as_of(hour)
    found: list[float] = []
    for length in (1, 6):
        real = [integral(truth, start, start + length) for start in range(25)]
        found += [real[0], min(real)]
        looks = [forecaster(view, zone) for forecaster in (persistence, profile)]
        thought = [[integral(outlook, start, start + length) for start in range(25)] for outlook in looks]
        starts = [min(range(25), key=each.__getitem__) for each in thought]
        found += [real[start] for start in starts]
        for outlook, each, start in zip(looks, thought, starts, strict=True):
            found.append(real[start if each[0] - each[start] > outlook.error(start) * length else 0])
    return found


def modes() -> dict[str, Any]:
    """A year of jobs at five providers, prices and presence as recorded."""
    trace, site = material.every(material.year_of_jobs(), 10), material.recorded_site(64.0)
    known = material.signals(site, (2022, 2023), 8760)
    terms = Terms(wait_hours=WAIT, slack=1.0)
    deciders: list[tuple[str, Decider]] = [("cheapest", CheapestNow()), ("greenest", GreenestNow())]
    deciders += [(f"broker {mode}", Broker(aims(mode, 1.0), profile)) for mode in Mode]
    deciders += [
        (f"broker {mode}, perfect", Broker(aims(mode, 1.0), perfect(known))) for mode in (Mode.CHEAP, Mode.BALANCED)
    ]
    deciders += [
        (
            f"premium {premium:.0%}, {price} USD/kg",
            Broker(with_wishes(aims(Mode.BALANCED, price), premium=premium), profile),
        )
        for premium, price in ((0.05, 2.0), (0.15, 0.1), (0.15, 0.5), (0.15, 2.0), (0.30, 2.0))
    ]
    rows: Table = []
    points: list[tuple[float, float, str]] = []
    base: Outcome | None = None
    for name, decider in deciders:
        print(f"eval:   {name}", file=sys.stderr, flush=True)
        outcome = replay(trace, site, known, decider, name, terms)
        base = base or outcome
        rows.append(_mode_row(name, outcome, base))
        points.append((outcome.cost_usd / base.cost_usd, outcome.carbon_kg / base.carbon_kg, name))
    return {"rows": rows, "points": points, "jobs": base.jobs if base else 0}


def _mode_row(name: str, outcome: Outcome, base: Outcome) -> list[str]:
    weeks: dict[int, list[float]] = {}
    for one, two in zip(outcome.results, base.results, strict=True):
        sums = weeks.setdefault(int(one.submitted_h // WEEK_H), [0.0] * 4)
        for place, amount in enumerate((one.usd, two.usd, one.carbon_kg, two.carbon_kg)):
            sums[place] += amount
    more, saved = outcome.more, base.carbon_kg - outcome.carbon_kg
    money, carbon = (interval(list(weeks.values()), lambda sums, at=at: sums[at] / sums[at + 1] - 1) for at in (0, 2))
    return [
        name,
        f"{outcome.cost_usd:,.0f}",
        f"{outcome.cost_usd / base.cost_usd - 1:+.1%} ({money[0]:+.1%} … {money[1]:+.1%})",
        f"{outcome.carbon_kg:,.0f}",
        f"{outcome.carbon_kg / base.carbon_kg - 1:+.1%} ({carbon[0]:+.1%} … {carbon[1]:+.1%})",
        f"{(outcome.cost_usd - base.cost_usd) / saved:.2f}" if saved > 0 else "-",
        f"{outcome.wait_h.mean:.2f} / {outcome.wait_h.p90:.2f} / {outcome.wait_h.p99:.1f}",
        f"{outcome.slowdown.mean:.2f}",
        f"{more['highest_premium']:.1%} / {more['highest_premium_since_submission']:.1%}",
        f"{more['deadlines_missed']} / {more['deadlines_missed_by_waiting']}",
    ]


def regret() -> dict[str, Any]:
    """Above the LP bound: eight weeks of 2023, by carbon price, forecast, value of time and capacity."""
    rows: Table = []
    lines: dict[str, list[tuple[float, float, str]]] = {}
    for table, site_name in ((material.ASSUMED, "five providers"), (material.CLOSE, "close prices")):
        for devices in (1000.0, 20.0):
            for price, time_value in ((0.0, 0.05), (0.1, 0.05), (0.5, 0.05), (1.0, 0.05), (2.0, 0.05), (1.0, 0.0)):
                wanted = replace(aims(Mode.BALANCED, price), time_value=time_value)
                site = material.constant_site(table, devices)
                weeks = [
                    _regrets(site, material.signals(site, (2023,), hour), wanted) for hour in range(400, 8400, 1000)
                ]
                print(f"eval:   {site_name} {devices:g} {price} {time_value}", file=sys.stderr, flush=True)
                cells = []
                for place in (1, 2, 3):

                    def over(sums: list[float], at: int = place) -> float:
                        return sums[at] / sums[0] - 1

                    low, high = interval(weeks, over)
                    total = over([sum(column) for column in zip(*weeks, strict=True)])
                    cells.append(f"{total:.2%} ({low:.2%} … {high:.2%})")
                    if devices == 20.0 and time_value:
                        name = ("perfect", "own forecast", "cheapest")[place - 1]
                        lines.setdefault(f"{name}, {site_name}", []).append((price, total * 100, ""))
                capacity = "free" if devices == 1000.0 else f"{devices:g} devices each"
                rows.append([site_name, capacity, f"{price:g}", f"{time_value:g}", *cells])
    return {"rows": rows, "lines": lines}


def _regrets(site: Site, known: Signals, wanted: Aims) -> list[float]:
    """The bound, then what the broker with a perfect and with its own forecast, and the cheapest, come to."""
    trace, terms = material.every(material.week(), 2), Terms(wait_hours=WAIT)
    listed = works(trace, site, known, terms)
    # Any offer: sell-outs may drive a policy above its premium set, and the bound must stay below it then, too.
    least = bound(listed, site, known, replace(wanted, premium=float("inf"))).usd
    deciders: Sequence[Decider] = (Broker(wanted, perfect(known)), Broker(wanted, profile), CheapestNow())
    return [least, *(value(replay(trace, site, known, each, "x", terms), listed, site, wanted) for each in deciders)]


def deadlines() -> dict[str, Any]:
    """100 000 jobs of a year, waiting wherever carbon is free: does waiting cost a deadline?"""
    site = material.recorded_site(256.0)
    known = material.signals(site, (2022, 2023), 8760)
    rows: Table = []
    for slack, lengths_known in ((0.25, True), (1.0, True), (4.0, True), (1.0, False), (4.0, False)):
        whole = slack == 1.0 and lengths_known
        trace = material.year_of_jobs() if whole else material.every(material.year_of_jobs(), 5)
        began = time.process_time()
        outcome = replay(
            trace,
            site,
            known,
            Broker(aims(Mode.CHEAP, 0.0), profile),
            "cheap",
            Terms(wait_hours=WAIT, slack=slack, lengths_known=lengths_known),
        )
        spent = time.process_time() - began
        print(f"eval:   slack {slack} {lengths_known}", file=sys.stderr, flush=True)
        more = outcome.more
        waited = sum(result.wait_h > 0.5 for result in outcome.results)
        late = [more[f"deadlines_missed{by}"] for by in ("", "_by_capacity", "_by_waiting")]
        lengths = "known" if lengths_known else "of the queue"
        rows.append([f"{slack:g}", lengths, f"{outcome.jobs:,}", f"{waited:,}", *map(str, late),
                     f"{more['highest_premium']:.1%}", f"{outcome.jobs / spent:,.0f}"])  # fmt: skip
    return {"rows": rows}


def spot() -> dict[str, Any]:
    """Spot that comes and goes as probed in 2022, with and without checkpoints, beside on demand only."""
    rows: Table = []
    for probes in sorted((material.DATA / "prices/spot_traces/availability/1-node").rglob("*.json.gz"))[:4]:
        for checkpoint in (None, 0.5):
            site = material.spot_site(probes, checkpoint)
            known = material.signals(site, (2022, 2023), 8760)
            only = replace(site, offers=site.offers[1:])
            wanted, terms = aims(Mode.CHEAP, 0.0), Terms(wait_hours=(0.0, 0.0))
            with_spot, without = (
                replay(material.week(), each, known, Broker(wanted, profile), "x", terms) for each in (site, only)
            )
            more = with_spot.more
            rows.append([probes.name.removesuffix(".json.gz"), "none" if checkpoint is None else "30 min",
                         f"{with_spot.cost_usd / without.cost_usd - 1:+.1%}", str(more["interruptions"]),
                         f"{more['lost_device_hours']:.0f}", f"{with_spot.mean_wait_h - without.mean_wait_h:+.2f}"])  # fmt: skip
    return {"rows": rows}


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "published": published, "forecasts": forecasts, "spot": spot, "regret": regret, "modes": modes, "deadlines": deadlines,
}  # fmt: skip


def page(kept: dict[str, Any]) -> str:
    """The whole of docs/evaluation.md."""
    text = (Path(__file__).with_name("evaluation.md.in")).read_text()
    headings = {
        "published": ["policy", "carbon", "published", "mean wait h", "USD, 9 reserved", "published"],
        "others": ["zone", "hour", "lowest-window", "carbon-time", "ecovisor", "wait-awhile", "res-first-carbon-time"],
        "forecasts": ["zone", "1 h: perfect", "yesterday", "profile", "yesterday, sure", "profile, sure",
                      "6 h: perfect", "yesterday", "profile", "yesterday, sure", "profile, sure"],
        "spot": ["probes", "checkpoints", "USD", "interruptions", "lost device-h", "wait h"],
        "regret": ["site", "capacity", "USD/kg", "v", "perfect forecast", "own forecast", "cheapest now"],
        "modes": ["policy", "USD", "beside cheapest", "kg", "beside cheapest", "USD/kg avoided", "wait h mean/p90/p99",
                  "slowdown", "highest premium: now / since submission", "late / by waiting"],
        "deadlines": ["slack", "lengths", "jobs", "waited > 30 min", "late", "met a sell-out", "by waiting", "highest premium",
                      "jobs per CPU-s"],
    }  # fmt: skip
    tables = {name: kept.get(name, {}).get("rows") for name in headings if name != "others"}
    tables["others"] = kept.get("published", {}).get("others")
    for name, rows in tables.items():
        said = _table(headings[name], rows) if rows else f"*Not run yet: `make eval ONLY={name}`.*"
        text = text.replace(f"@{name}@", said)
    images = ROOT / "docs" / "images"
    if points := kept.get("modes", {}).get("points"):
        numbered = [(x, y, str(number)) for number, (x, y, _) in enumerate(points, 1)]
        names = [f"{number} {name}" for number, (_, _, name) in enumerate(points, 1)]
        chart(images / "evaluation-plane.svg", "A year of jobs, beside cheapest now (1 = as much)", "money", "carbon",
              [("policy", numbered)], notes=names)  # fmt: skip
    if lines := kept.get("regret", {}).get("lines"):
        chart(images / "evaluation-regret.svg", "Above the LP bound, 20 devices an offer", "carbon price, USD/kg", "regret, %",
              [(name, [tuple(point) for point in each]) for name, each in lines.items()], joined=True)  # fmt: skip
    return text.replace("@jobs@", f"{kept.get('modes', {}).get('jobs', 0):,}")


def _table(heading: list[str], rows: Table) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


if __name__ == "__main__":
    main()
