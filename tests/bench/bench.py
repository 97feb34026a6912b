"""`make bench`: what the hot paths cost, each beside a baseline measured in the same run. Writes bench-results.json.

A part is one thing to measure; all of them take about 25 minutes, most of it waiting for emulated boots.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import decisions
import market
import nodes
import programs
import refused
import replays
import sacct
import thousand
import waiters
import year
from measure import Figure, Result, Row, measure
from rich.console import Console
from rich.table import Table
from unhosted import unhosted

from broker.core.errors import BrokerError

Measured = Sequence[Result | Figure]


def main() -> None:
    """Measure, print the tables, write the file. Exit 1: a part could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "-n", type=int, default=100, help="samples of each row without nodes (default 100; at least 30)"
    )
    parser.add_argument("--jobs", type=int, default=32, help="jobs of each row with nodes (default 32; at least 30)")
    parser.add_argument("--nodes", type=int, default=48, help="real nodes asked for at once (default 48, at most 60)")
    parser.add_argument("--leases", type=int, default=1000, help="leases of the burst, and waiters (default 1000)")
    parser.add_argument("--only", nargs="+", metavar="PART", help="only these parts")
    parser.add_argument("--output", type=Path, default=Path("bench-results.json"))
    options = parser.parse_args()
    began = datetime.now(UTC)
    found: list[Result | Figure] = []
    left_out: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="broker-bench-") as folder:
        parts = _parts(options, Path(folder), began.toordinal())
        if unknown := set(options.only or ()) - set(parts):
            parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
        for name in options.only or parts:
            print(f"bench: {name}", file=sys.stderr, flush=True)  # noqa: T201
            try:
                found += parts[name]()
            except (BrokerError, RuntimeError, OSError) as exc:
                left_out[name] = " ".join(str(exc).split())
            _write(options.output, began, found, left_out)  # each time: what was measured is not lost with a later part
    _show(found)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; written to {options.output}")  # noqa: T201
    for name, why in left_out.items():
        print(f"{name}: not measured: {why}", file=sys.stderr)  # noqa: T201
    if left_out:
        sys.exit(1)


def _write(output: Path, began: datetime, found: Measured, left_out: dict[str, str]) -> None:
    facts = {
        "schema_version": 2,
        "at": began.isoformat(timespec="seconds"),
        "machine": {
            "cores": os.cpu_count(),
            "load_average": os.getloadavg(),
            "kernel": platform.release(),
            "python": platform.python_version(),
        },
        "rows": [each.facts() for each in found if isinstance(each, Result)],
        "figures": [each.facts() for each in found if isinstance(each, Figure)],
        "left_out": left_out,
    }
    output.write_text(json.dumps(facts, indent=1) + "\n")


def _show(found: Measured) -> None:
    console = Console(width=_WIDTH)
    for kind, columns in ((Result, _ROWS), (Figure, _FIGURES)):
        if rows := [each.facts() for each in found if isinstance(each, kind)]:
            console.print(_table(columns, rows))


def _parts(options: argparse.Namespace, folder: Path, seed: int) -> dict[str, Callable[[], Measured]]:
    n, jobs = max(30, options.n), max(30, options.jobs)
    measured: dict[str, Callable[[], Sequence[Row]]] = {
        "programs": lambda: programs.rows(folder, n),
        "decisions": lambda: decisions.rows(folder, n),
        "market": lambda: market.rows(folder, n),
    }
    return {
        "rows": lambda: measure([row for rows in measured.values() for row in rows()], seed),
        "simulate": replays.figures,
        "sacct": lambda: sacct.figures(folder),
        "market": lambda: market.figures(folder),
        "year": lambda: year.figures(folder),
        "refused": lambda: refused.results(max(30, n)),
        "waiters": lambda: waiters.figures(folder, options.leases),
        "burst": lambda: _burst(options.leases),
        "boot-0": lambda: nodes.stages(0.0, jobs),
        "boot-60": lambda: nodes.stages(60.0, jobs),
        "boot-300": lambda: nodes.stages(300.0, jobs),
        "waiter": lambda: nodes.without_waiter(30),
        "nodes": lambda: nodes.at_once(options.nodes),
    }


def _burst(leases: int) -> list[Figure]:
    with unhosted(leases, {"us-east-1": leases, "us-west-1": leases}) as world:
        return thousand.figures(thousand.burst(world, leases))


def _table(columns: dict[str, str], rows: Sequence[dict[str, object]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for key, heading in columns.items():
        table.add_column(heading, justify="left" if key in _WORDS else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(str(row[key] if row[key] is not None else "") for key in columns))
    return table


_WIDTH = 132
_WORDS = frozenset({"what", "baseline", "unit", "against"})
_ROWS = {
    "what": "what",
    "n": "n",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "baseline": "baseline",
    "baseline_p50_ms": "its p50",
    "ratio": "ratio",
}
_FIGURES = {"what": "what", "value": "value", "unit": "unit", "against": "goal"}


if __name__ == "__main__":
    main()
