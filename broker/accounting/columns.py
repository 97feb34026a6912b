"""The columns of an export: which we read, what they are called, and what stands between them."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from broker.core.errors import BrokerError

QUERY = (
    "TZ=UTC SLURM_TIME_FORMAT=%s sacct -a -D -X -P --noconvert -S 2026-11-01 -E 2026-12-01 --format=Cluster,JobIDRaw,JobID,"
    "DBIndex,Submit,Eligible,Start,End,Suspended,ElapsedRaw,State,ExitCode,Account,User,UID,Partition,QOS,AllocTRES,"
    "ReqTRES,TimelimitRaw,NodeList,Reservation,JobName"
)
"""What to run for an export that lacks nothing."""

READ = (
    "cluster", "jobid", "jobidraw", "sluid", "dbindex", "submit", "start", "end", "suspended", "elapsedraw", "elapsed", "state",
    "account", "user", "partition", "qos", "alloctres", "reqtres", "alloccpus", "ncpus", "nodelist", "timelimitraw", "timelimit",
)  # fmt: skip
"""Lower-case names of the columns that are read; all others are passed over."""

FREE_TEXT = frozenset(
    {"jobname", "comment", "admincomment", "systemcomment", "submitline", "workdir", "extra", "container"}
)
"""Columns whose text is a user's own: it may hold the delimiter and line breaks. Nobody else's may."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_KNOWN_DELIMITERS = ("^|^", "|#", "|", "\t", ";", ",")


class UnreadableExport(BrokerError):
    """A file that is no export of sacct: the text says which line and what was expected."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How each row of one export is laid out. `names` are lower-case, in the export's order."""

    names: tuple[str, ...]
    delimiter: str
    trailing: bool
    """Each row ends with a delimiter, as `sacct --parsable` writes it."""

    @property
    def separators(self) -> int:
        """How many delimiters a row has."""
        return len(self.names) - 1 + self.trailing

    @property
    def last_is_free(self) -> bool:
        """More delimiters than that belong to the last column."""
        return self.names[-1] in FREE_TEXT and not self.trailing

    @property
    def read(self) -> dict[int, str]:
        """Place → name of the columns that are read. An export may have one twice: the first counts."""
        return {self.names.index(name): name for name in READ if name in self.names}


def of_header(source: str, line: str) -> Layout:
    """The layout that the first line names. UnreadableExport: it is none."""
    between = Counter(_NAME.split(line)[1:-1])
    delimiter = between.most_common(1)[0][0] if between else ""
    names = line.split(delimiter) if delimiter else []
    trailing = len(names) > 1 and not names[-1]
    if trailing:
        names.pop()
    if len(between) != 1 or not all(_NAME.fullmatch(name) for name in names):
        raise UnreadableExport(
            f"{source}: line 1 is no header of `sacct -P` (JobIDRaw|State|…): if the export has none, name its columns "
            "with --columns jobidraw,state,…"
        )
    return Layout(names=tuple(name.lower() for name in names), delimiter=delimiter, trailing=trailing)


def of_names(source: str, names: Sequence[str], first: str) -> Layout:
    """The layout of an export without a header, whose first row is `first`. UnreadableExport: they do not fit."""
    plain = tuple(name.strip().lower() for name in names)
    if twice := [name for name, times in Counter(plain).items() if times > 1]:
        raise UnreadableExport(f"--columns names {twice[0]} twice")
    for delimiter in _KNOWN_DELIMITERS:
        found = first.count(delimiter)
        if found == len(plain) - 1 or (found > len(plain) - 1 and plain[-1] in FREE_TEXT):
            return Layout(names=plain, delimiter=delimiter, trailing=False)
        if found == len(plain) and first.endswith(delimiter):
            return Layout(names=plain, delimiter=delimiter, trailing=True)
    most = max(first.count(delimiter) for delimiter in _KNOWN_DELIMITERS) + 1
    raise UnreadableExport(f"{source}: line 1 has {most} fields, and --columns names {len(plain)}")


def check(source: str, layout: Layout, needs: Collection[str] = ()) -> None:
    """UnreadableExport: it lacks a column without which no row says anything, or one of `needs` (lower-case names)."""
    has = set(layout.names)
    columns = (
        ({"jobidraw", "jobid"}, "JobIDRaw", True),
        ({"state"}, "State", True),
        ({"submit"}, "Submit", "submit" in needs),
        ({"elapsedraw", "elapsed"}, "ElapsedRaw", True),
        ({"alloctres"}, "AllocTRES", "alloctres" in needs),
    )
    if missing := [name for names, name, needed in columns if needed and not names & has]:
        raise UnreadableExport(f"{source}: line 1 has no column {', '.join(missing)}; export it with: {QUERY}")
