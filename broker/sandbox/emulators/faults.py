"""A fault script: which misbehaviour an emulated provider shows to which call, how often and for how long."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LAUNCH_PATH = "/instance-operations/launch"
RENT_PATH = "/v0/asks/"

REFUSALS = ("quota", "sold_out")
"""Launches that are refused. Of several that fit, the first here is given; nothing else of the script is used up."""

LAUNCH_FAULTS: Mapping[str, float | None] = {
    "sold_out": None,
    "quota": None,
    "answer_lost": None,  # bought; the connection is cut in the middle of the answer
    "answer_500": None,  # bought; the answer is an internal error
    "answer_late": 5,  # bought at once, answered so much later
    "list_lag": 20,  # missing from the list for so long; by its id it is found
    "lies_gpu": None,  # another GPU than the type's
    "never_active": None,
    "no_address": None,
    "ssh_never": None,
    "unhealthy": None,
    "terminate_refused": 20,  # for so long after the launch
    "lingers": 900,  # terminating for so long; not billed
    "twice": None,  # one call buys two instances of the same name, and tells the id of the first
    "preempted": 60,  # announced so long after the launch: `preempted` for ten seconds, then gone
    "vanish": 60,  # lost without a word, so long after the launch
}
"""Chosen at a launch. The number: the default of `seconds`; None: the fault takes none."""

VAST_FAULTS: Mapping[str, float | None] = {
    **{
        kind: LAUNCH_FAULTS[kind]
        for kind in (
            *("sold_out", "quota", "answer_lost", "answer_500", "answer_late", "list_lag", "lies_gpu", "never_active"),
            *("no_address", "ssh_never", "unhealthy", "vanish"),
        )
    },
    "outbid": 60,  # so long after it was rented: off without notice, and on again by itself some seconds later
    "on_demand": None,  # a bid is taken for on-demand, and nobody says so
    "refused_with_id": None,  # an error that carries the contract it made all the same: stopped, its disk charged
    "price_rise": None,  # the host asks for twice the price
    "dearer": None,  # rented at one and a half times the price shown
}
"""Chosen when the emulated Vast rents; of the others it knows nothing."""

CALL_FAULTS: Mapping[str, float | None] = {
    "error_500": None,
    "html_200": None,
    "half_json": None,
    "wrong_type": None,
    "unauthorized": None,
    "inactive": None,
    "doubled": None,  # a list names everything twice
    "rate_limited": None,
    "slow": 2,  # answered as it should be, so much later
}
"""Shown by any call, a launch too: that one buys nothing (but for `slow` and `doubled`)."""

_KNOWN = {**LAUNCH_FAULTS, **VAST_FAULTS, **CALL_FAULTS}


@dataclass(frozen=True, kw_only=True)
class Call:
    """What a fault can be chosen by. `instance_type` and `region`: of a launch."""

    credential: str
    path: str
    instance_type: str | None = None
    region: str | None = None
    method: str | None = None


@dataclass
class Fault:
    """A misbehaviour. A field that is None chooses nothing; `times` None: always; `after`: so many calls go well first."""

    kind: str
    credential: str | None = None
    instance_type: str | None = None
    region: str | None = None
    path: str | None = None
    method: str | None = None
    times: int | None = None
    after: int = 0
    seconds: float | None = None

    def fits(self, call: Call) -> bool:
        """Whether `call` is one of those chosen, and the fault is not used up."""
        return (
            self.times != 0
            and self.credential in {None, call.credential}
            and self.instance_type in {None, call.instance_type}
            and self.region in {None, call.region}
            and self.method in {None, call.method}
            and (self.path is None or call.path.startswith(self.path))
        )


def take(faults: Iterable[Fault], kinds: Iterable[str], call: Call) -> Fault | None:
    """The first fault of `kinds` that fits, counted; None: none is due."""
    for fault in faults:
        if fault.kind in kinds and fault.fits(call):
            if fault.after > 0:
                fault.after -= 1
                continue
            if fault.times is not None:
                fault.times -= 1
            return fault
    return None


def faults_from(rows: Sequence[object]) -> list[Fault]:
    """Read a fault script, a list of objects with the fields of `Fault`. ValueError: what is wrong, and what is known."""
    if not isinstance(rows, list):
        raise ValueError(f"a fault script is a list of objects, not {type(rows).__name__}")
    return [_fault(row) for row in rows]


def _fault(row: object) -> Fault:
    fields = [field.name for field in dataclasses.fields(Fault)]
    if not isinstance(row, Mapping):
        raise ValueError(f"fault {row!r}: an object with {', '.join(fields)} is needed")
    if unknown := sorted(str(name) for name in set(row) - set(fields)):
        raise ValueError(f"fault {dict(row)}: unknown {', '.join(unknown)}; known are {', '.join(fields)}")
    kind = row.get("kind")
    if not isinstance(kind, str) or kind not in _KNOWN:
        raise ValueError(f"fault {dict(row)}: kind {kind!r} is unknown; known are {', '.join(sorted(_KNOWN))}")
    for name in ("credential", "instance_type", "region", "path", "method"):
        if not isinstance(row.get(name), str | None):
            raise ValueError(f"fault {dict(row)}: {name} is a text")
    if problem := _number_problem(row, kind) or _path_problem(row, kind):
        raise ValueError(f"fault {dict(row)}: {problem}")
    return Fault(**{**row, "seconds": row.get("seconds") or _KNOWN[kind]})


def _number_problem(row: Mapping[str, Any], kind: str) -> str | None:
    times, seconds = row.get("times"), row.get("seconds")
    after = row.get("after", 0)
    if type(after) is not int or after < 0:
        return "after is a whole number from 0 on"
    if times is not None and (type(times) is not int or times < 1):
        return "times is a whole number from 1 on; without it, the fault is always shown"
    if seconds is None:
        return None
    if _KNOWN[kind] is None:
        return f"{kind} takes no seconds"
    if type(seconds) not in {int, float} or not 0 < seconds < float("inf"):
        return "seconds is a number above 0"
    return None


def _path_problem(row: Mapping[str, Any], kind: str) -> str | None:
    path = row.get("path")
    if path is None:
        return None
    if not path.startswith("/"):
        return f"path is what follows /api/v1, such as {LAUNCH_PATH}; of Vast, what follows /api, such as {RENT_PATH}"
    if kind not in CALL_FAULTS and not (LAUNCH_PATH.startswith(path) or path.startswith(RENT_PATH)):
        return f"{kind} happens at launches only, whose path is {LAUNCH_PATH} (Vast: {RENT_PATH})"
    return None
