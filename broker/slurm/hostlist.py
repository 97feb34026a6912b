"""Slurm's hostlists, `h100-[1-3,7]`: expanded and folded by ClusterShell."""

import re
from collections.abc import Iterable

from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException

from broker.core.errors import BrokerError

# ClusterShell's own operators, groups and steps (`a!b`, `@racks`, `[0-8/2]`) mean nothing to Slurm.
_SLURMS = re.compile(r"[A-Za-z0-9_.,\[\]-]+")
_NOTHING = frozenset({"", "(null)", "None"})
# Slurm's own limit on names is near 64k; a slip such as [1-99999999] must not eat our memory.
_MOST_NAMES = 200_000


def expand(hostlist: str) -> tuple[str, ...]:
    """Every name once, in natural order; nothing for "" and Slurm's "(null)". BrokerError: not a hostlist."""
    text = hostlist.strip()
    if text in _NOTHING:
        return ()
    if not _SLURMS.fullmatch(text):
        raise BrokerError(f'"{_shown(text)}" is not a hostlist: write names and ranges, such as h100-[1-3,7],cpu-1')
    if _size(text) > _MOST_NAMES:
        raise BrokerError(f'hostlist "{_shown(text)}" stands for more than {_MOST_NAMES} names: shorten its ranges')
    try:
        return tuple(NodeSet(text, resolver=RESOLVER_NOGROUP))
    except NodeSetException as exc:
        raise BrokerError(f'"{_shown(text)}" is not a hostlist ({exc}): write it as in h100-[1-3,7],cpu-1') from exc


def expand_in_order(hostlist: str) -> tuple[str, ...]:
    """As `expand`, but in the order of the text, and every name as often as it stands there: as Slurm pairs lists."""
    return tuple(name for piece in _pieces(hostlist) for name in expand(piece))


def fold(names: Iterable[str]) -> str:
    """A short hostlist for `names`, the same for every order of them; "" for none. BrokerError: a name is none."""
    wanted = sorted(set(names))
    for name in wanted:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
            raise BrokerError(f'"{_shown(name)}" is not a node name: letters, digits, "-", "_" and "." only')
    # Slurm 22.05 refuses a bracket in the middle of a name (`h[100,200]-1`): only a last number is folded.
    numbered = NodeSet.fromlist([name for name in wanted if name[-1].isdecimal()], resolver=RESOLVER_NOGROUP)
    numbered.fold_axis = (-1,)
    plain = [name for name in wanted if not name[-1].isdecimal()]
    return ",".join([*plain, *([str(numbered)] if numbered else [])])


def _size(text: str) -> int:
    """About how many names `text` stands for, without making them."""
    total = 0
    for piece in _pieces(text):
        names = 1
        for ranges in re.findall(r"\[([^\]]*)\]", piece):
            names *= sum(_width(part) for part in ranges.split(","))
        total += names
    return total


def _pieces(text: str) -> list[str]:
    return re.split(r",(?![^\[]*\])", text)


def _width(part: str) -> int:
    first, dash, last = part.partition("-")
    return int(last) - int(first) + 1 if dash and first.isdecimal() and last.isdecimal() else 1


def _shown(text: str) -> str:
    return text if len(text) <= 80 else text[:80] + "..."
