"""A million rows of sacct to a report, beside polars' bare read of the same file and slurm2sql's import of the same rows.

The rows have the recorded shapes of tests/data/sacct/x-unix.psv, drawn with a seed. Each program is a process of its own, so that
its start and its peak of memory are its own, too.
"""

import csv
import os
import random
import subprocess
import sys
import time
import venv
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from measure import Figure, quantile

_RIG = Path(__file__).parents[1] / "data" / "sacct" / "x-unix.psv"
_SLURM2SQL = "slurm2sql==0.9.9"
_BARE = """
import sys, polars
polars.read_csv(sys.argv[1], separator="|", quote_char=None, infer_schema=False, extra_columns="ignore")
"""
_THEIRS = """
import sqlite3, sys, slurm2sql
db = sqlite3.connect(sys.argv[2])
slurm2sql.slurm2sql(db, csv_input=sys.argv[1])
db.execute("SELECT User, sum(NGpus * Elapsed) FROM slurm GROUP BY User").fetchall()
"""
_TIMES = ("Submit", "Eligible", "Start", "End")


def figures(folder: Path, rows: int = 1_000_000, times: int = 5, seed: int = 6) -> list[Figure]:
    """Seconds and peak memory of each, the runs taken in turns. RuntimeError: one of them ended badly."""
    export = folder / "sacct.psv"
    generate(export, rows, seed)
    ours = [sys.executable, "-m", "broker", "report", "--sacct", str(export), "--json"]
    runs = {
        "polars' bare read": [sys.executable, "-c", _BARE, str(export)],
        "broker report": [*ours, "--by", "user"],
        "broker report --by month": [*ours, "--by", "month"],
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(times):
        for name, argv in runs.items():
            taken[name].append(_measured(argv))
    seconds = {name: quantile([each[0] for each in found], 0.5) for name, found in taken.items()}
    bare = seconds["polars' bare read"]
    what = f"{rows} rows of sacct ({export.stat().st_size / 1e6:.0f} MB)"
    found = []
    for name in runs:
        found.append(Figure(what=f"{what}, {name}: time", value=seconds[name], unit="s"))
        peak = max(each[1] for each in taken[name])
        goal = "" if name == "polars' bare read" else "< 1024"
        found.append(Figure(what=f"{what}, {name}: peak memory", value=peak, unit="MiB", against=goal))
    for name in list(runs)[1:]:
        found.append(
            Figure(what=f"{name} to polars' bare read", value=seconds[name] / bare, unit="times", against="≤ 4")
        )
    python = _slurm2sql(folder)
    if python is None:
        print(f"{_SLURM2SQL} cannot be installed: there is no row of it", file=sys.stderr)  # noqa: T201
        return found
    theirs = folder / "sacct.csv"
    _for_slurm2sql(export, theirs)
    took, peak = _measured([str(python), "-c", _THEIRS, str(theirs), str(folder / "theirs.db")])
    found.append(Figure(what=f"{what}, slurm2sql (import and one query, once): time", value=took, unit="s"))
    found.append(Figure(what=f"{what}, slurm2sql: peak memory", value=peak, unit="MiB"))
    return found


def generate(path: Path, rows: int, seed: int) -> None:
    """An export of `rows` rows whose jobs, users and times differ, and whose shapes are those of the rig's."""
    drawn = random.Random(seed)
    header, *lines = _RIG.read_text().splitlines()
    names = header.split("|")
    shapes = [line.split("|", len(names) - 1) for line in lines]
    place = {name: names.index(name) for name in names}
    with path.open("w") as out:
        out.write(header + "\n")
        for number in range(1, rows + 1):
            cells = list(drawn.choice(shapes))
            cells[place["JobIDRaw"]] = cells[place["JobID"]] = cells[place["DBIndex"]] = str(number)
            cells[place["User"]] = f"user{drawn.randrange(500):03}"
            cells[place["Account"]] = f"group{drawn.randrange(40):02}"
            cells[place["NodeList"]] = f"gpu{drawn.randrange(200):03}"
            for name in _TIMES:
                if cells[place[name]].isdigit():
                    cells[place[name]] = str(int(cells[place[name]]) + number * 20)
            out.write("|".join(cells) + "\n")


def _measured(argv: Sequence[str]) -> tuple[float, float]:
    """Seconds and peak MiB of `argv`, its output thrown away."""
    streams = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(2)]
    began = time.perf_counter()
    pid = os.posix_spawn(argv[0], list(argv), os.environ, file_actions=streams)
    _, status, usage = os.wait4(pid, 0)
    took = time.perf_counter() - began
    if code := os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"{' '.join(argv)[:120]} ended with {code}")
    return took, usage.ru_maxrss / 1024


def _slurm2sql(folder: Path) -> Path | None:
    """A Python that has slurm2sql, in an environment of its own; None: it cannot be had."""
    place = folder / "slurm2sql"
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", _SLURM2SQL]
    done = subprocess.run(command, check=False, capture_output=True, timeout=300)
    return python if done.returncode == 0 else None


def _for_slurm2sql(export: Path, target: Path) -> None:
    """The same rows as the CSV file that it reads: times in words, `Elapsed` as sacct prints it."""
    with export.open() as source, target.open("w", newline="") as out:
        names = next(source).rstrip("\n").split("|")
        writer = csv.DictWriter(out, [*names, "Elapsed"])
        writer.writeheader()
        for line in source:
            row = dict(zip(names, line.rstrip("\n").split("|", len(names) - 1), strict=True))
            for name in _TIMES:
                if row[name].isdigit():
                    row[name] = f"{datetime.fromtimestamp(int(row[name]), UTC):%Y-%m-%dT%H:%M:%S}"
            seconds = int(row["ElapsedRaw"])
            row["Elapsed"] = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
            writer.writerow(row)
