"""The daemon's living word: which machines it keeps and until when, written where `broker reap` finds it when we are dead."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from broker.core.errors import BrokerError

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class HeldJob:
    """A job that may run on the machine until `until`: its time limit's end and the margin after it."""

    id: int
    until: datetime


@dataclass(frozen=True, kw_only=True)
class KeptMachine:
    """One living lease. After `keep_until` only `jobs` may still need its machine."""

    label: str
    provider: str
    node: str
    keep_until: datetime
    jobs: tuple[HeldJob, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LivingWord:
    """What the daemon said at `said_at`. It has died, or cannot write, when it was silent for longer than `quiet`."""

    cluster: str
    said_at: datetime
    quiet: timedelta
    machines: Mapping[str, KeptMachine]
    """By label."""


def to_text(word: LivingWord) -> str:
    """One JSON object."""
    return json.dumps(
        {
            "schema_version": SCHEMA_VERSION,
            "cluster": word.cluster,
            "said_at": _text(word.said_at),
            "quiet_s": word.quiet.total_seconds(),
            "machines": [
                {
                    "label": machine.label,
                    "provider": machine.provider,
                    "node": machine.node,
                    "keep_until": _text(machine.keep_until),
                    "jobs": [{"id": job.id, "until": _text(job.until)} for job in machine.jobs],
                }
                for machine in word.machines.values()
            ],
        }
    )


def from_text(text: str) -> LivingWord:
    """BrokerError: it is no word of this version, whole and sound; then nothing may be concluded from it."""
    try:
        document = json.loads(text)
        if document["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema_version {document['schema_version']}, and {SCHEMA_VERSION} is understood")
        quiet = timedelta(seconds=float(document["quiet_s"]))
        if quiet <= timedelta(0):
            raise ValueError(f"quiet_s {document['quiet_s']}")
        machines = [_machine(row) for row in document["machines"]]
        return LivingWord(
            cluster=str(document["cluster"]),
            said_at=_time(document["said_at"]),
            quiet=quiet,
            machines={machine.label: machine for machine in machines},
        )
    except (ValueError, KeyError, TypeError, OverflowError) as exc:
        said = f"{exc} is missing" if isinstance(exc, KeyError) else str(exc)
        raise BrokerError(f"it is not a daemon's word ({said})") from exc


def _machine(row: Any) -> KeptMachine:
    return KeptMachine(
        label=str(row["label"]),
        provider=str(row["provider"]),
        node=str(row["node"]),
        keep_until=_time(row["keep_until"]),
        jobs=tuple(HeldJob(id=int(job["id"]), until=_time(job["until"])) for job in row["jobs"]),
    )


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _time(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return at.astimezone(UTC)
