"""Who owns a file, and who may do what with it, against what it has to be."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from broker.doctor.findings import Finding, fail, ok
from broker.doctor.place import Entry


@dataclass(frozen=True, kw_only=True)
class Want:
    """`mode`: bits that must be there; `never`: bits that must not. `owner`, `group` None: whoever. `why`: what for."""

    path: Path
    kind: str
    mode: int
    never: int
    why: str
    owner: str | None = None
    group: str | None = None


def judge(want: Want, seen: Entry | None) -> Finding:
    """How the file stands. The mend makes it as it should be, also where it is missing."""
    name = str(want.path)
    if seen is None:
        return fail(name, f"is missing: {want.why}", _made(want))
    wrong = []
    if seen.kind != want.kind:
        return fail(name, f"is a {seen.kind}, not a {want.kind}: {want.why}", f"mv {name} {name}.old; {_made(want)}")
    if want.owner is not None and seen.owner != want.owner:
        wrong.append(f"belongs to {seen.owner}, not to {want.owner}")
    if want.group is not None and seen.group != want.group:
        wrong.append(f"its group is {seen.group}, not {want.group}")
    if want.mode & ~seen.mode:
        wrong.append(f"mode {seen.mode:04o} lacks {want.mode & ~seen.mode:04o}")
    if want.never & seen.mode:
        wrong.append(f"mode {seen.mode:04o} lets others in ({want.never & seen.mode:04o})")
    if wrong:
        return fail(name, f"{'; '.join(wrong)}: {want.why}", _set(want, seen))
    return ok(name, f"{seen.owner}:{seen.group} {seen.mode:04o}")


def judge_all(name: str, found: Iterable[Finding]) -> list[Finding]:
    """The wrong ones; one line for all when none is wrong."""
    listed = list(found)
    return [finding for finding in listed if finding.mend] or [ok(name, f"{len(listed)} are as they should be")]


def _made(want: Want) -> str:
    owners = f"{want.owner or 'root'}:{want.group or 'root'}"
    match want.kind:
        case "folder":
            return f"install -d -o {want.owner or 'root'} -g {want.group or 'root'} -m {want.mode:04o} {want.path}"
        case "FIFO":
            return f"mkfifo -m {want.mode:04o} {want.path} && chown {owners} {want.path}"
        case _:
            return f"touch {want.path} && chown {owners} {want.path} && chmod {want.mode:04o} {want.path}"


def _set(want: Want, seen: Entry) -> str:
    owners = f"{want.owner or seen.owner}:{want.group or seen.group}"
    return f"chown {owners} {want.path} && chmod {want.mode:04o} {want.path}"
