"""Reads slurm.conf as far as we judge it: parameters, nodes, partitions, each with its line."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_PAIR = re.compile(r'([A-Za-z][A-Za-z0-9_]*)\s*\+?=\s*("[^"]*"|\S*)')
_RECORDS = frozenset({"nodename", "partitionname", "nodeset", "downnodes", "frontendname", "switchname"})


@dataclass(frozen=True, kw_only=True)
class Value:
    """What a parameter is set to, and on which line (from 1)."""

    text: str
    line: int

    @property
    def entries(self) -> tuple[str, ...]:
        """The value as a comma-separated list."""
        return tuple(entry for entry in self.text.split(",") if entry)


@dataclass(frozen=True, kw_only=True)
class Record:
    """A NodeName or PartitionName line, defaults filled in. `fields` has lower-case keys."""

    name: str
    fields: Mapping[str, str]
    line: int


@dataclass(frozen=True, kw_only=True)
class SlurmConf:
    """`parameters` by lower-case name: every time it is set, in order; the last one counts for Slurm."""

    parameters: Mapping[str, tuple[Value, ...]]
    nodes: tuple[Record, ...]
    partitions: tuple[Record, ...]

    def value(self, parameter: str) -> Value | None:
        """What counts, or None when it is not set."""
        return self.parameters.get(parameter.lower(), (None,))[-1]


def read(text: str) -> SlurmConf:
    """slurm.conf's text, includes already in it. What Slurm would refuse is skipped: slurmctld says it better."""
    parameters: dict[str, tuple[Value, ...]] = {}
    records: dict[str, list[Record]] = {"nodename": [], "partitionname": []}
    defaults: dict[str, dict[str, str]] = {"nodename": {}, "partitionname": {}}
    for number, line in _lines(text):
        pairs = [(key.lower(), value.strip('"')) for key, value in _PAIR.findall(line)]
        if not pairs:
            continue
        first, name = pairs[0]
        if first in records:
            if name.upper() == "DEFAULT":
                defaults[first].update(pairs[1:])
            else:
                records[first].append(Record(name=name, fields={**defaults[first], **dict(pairs)}, line=number))
        elif first not in _RECORDS:
            for key, value in pairs:
                parameters[key] = (*parameters.get(key, ()), Value(text=value, line=number))
    return SlurmConf(
        parameters=parameters, nodes=tuple(records["nodename"]), partitions=tuple(records["partitionname"])
    )


def _lines(text: str) -> list[tuple[int, str]]:
    """Logical lines with the number of their first physical one: without comments, continuations joined."""
    joined: list[tuple[int, str]] = []
    pending, start = "", 0
    for number, physical in enumerate(text.splitlines(), 1):
        bare = re.sub(r"(?<!\\)#.*", "", physical).rstrip()
        start = start or number
        if bare.endswith("\\"):
            pending += bare[:-1]
            continue
        joined.append((start, (pending + bare).strip()))
        pending, start = "", 0
    if pending:
        joined.append((start, pending.strip()))
    return joined
