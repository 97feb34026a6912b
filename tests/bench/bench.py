"""`make bench`: what the hot paths cost, each beside a baseline measured in the same run. Writes bench-results.json."""

import argparse
import json
import os
import platform
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import decisions
import nodes
import programs
from measure import Result, measure
from rich.console import Console
from rich.table import Table

from broker.core.errors import BrokerError


def main() -> None:
    """Measure, print the table, write the file. Exit 1: a part could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=100, help="samples of each row (default 100; at least 30)")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of 8 jobs on a sandbox (default 2; 0: none)")
    parser.add_argument("--output", type=Path, default=Path("bench-results.json"))
    options = parser.parse_args()
    began = datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="broker-bench-") as folder:
        n = max(30, options.n)
        found = measure([*programs.rows(Path(folder), n), *decisions.rows(Path(folder), n)], seed=began.toordinal())
    left_out = ""
    if options.rounds and os.geteuid() != 0:
        left_out = "nodes: not measured, a sandbox needs root"
    elif options.rounds:
        try:
            found += nodes.results(options.rounds)
        except (BrokerError, RuntimeError) as exc:
            left_out = f"nodes: not measured: {exc}"
    facts = {
        "schema_version": 1,
        "at": began.isoformat(timespec="seconds"),
        "machine": {
            "cores": os.cpu_count(),
            "load_average": os.getloadavg(),
            "kernel": platform.release(),
            "python": platform.python_version(),
        },
        "rows": [result.facts() for result in found],
    }
    options.output.write_text(json.dumps(facts, indent=1) + "\n")
    Console(width=_WIDTH).print(_table(found))
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; written to {options.output}")  # noqa: T201
    if left_out:
        print(left_out, file=sys.stderr)  # noqa: T201
        sys.exit(1)


def _table(found: list[Result]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("what", "n", "p50 ms", "p99 ms", "baseline", "its p50", "ratio"):
        table.add_column(heading, justify="left" if heading in {"what", "baseline"} else "right", no_wrap=True)
    for result in found:
        row = result.facts()
        table.add_row(*(str(row[key] if row[key] is not None else "") for key in _COLUMNS))
    return table


_WIDTH = 132
_COLUMNS = ("what", "n", "p50_ms", "p99_ms", "baseline", "baseline_p50_ms", "ratio")


if __name__ == "__main__":
    main()
