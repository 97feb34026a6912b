"""Reads slurm.conf as Slurm does: with what its `include` lines name in their place."""

import re
from dataclasses import dataclass
from pathlib import Path

from broker.core.errors import ConfigError

_DEEPEST = 8


@dataclass(frozen=True, kw_only=True)
class Source:
    """slurm.conf as Slurm sees it. `places`: file and line that each line of `text` came from."""

    text: str
    places: tuple[tuple[Path, int], ...]

    def place(self, line: int | None) -> str:
        """Where line number `line` of the text stands; "" for None."""
        if line is None:
            return ""
        path, number = self.places[line - 1]
        return f"{path.name}:{number}"


def read_inlined(conf: Path, without: frozenset[str] = frozenset()) -> Source:
    """`conf` with its `include` lines replaced by what they name; files called as in `without` are left out.

    ConfigError: a file cannot be read.
    """
    lines = list(_lines(conf, conf.parent, without, 0))
    return Source(text="\n".join(line for line, _, _ in lines), places=tuple((path, n) for _, path, n in lines))


def _lines(path: Path, folder: Path, without: frozenset[str], depth: int) -> list[tuple[str, Path, int]]:
    if depth > _DEEPEST:
        raise ConfigError(f"{path} includes itself: take that line out")
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as exc:
        mend = "run this where Slurm is configured, or set slurm.conf in broker.toml"
        raise ConfigError(f"{path} cannot be read ({exc.strerror}): {mend}") from exc
    lines: list[tuple[str, Path, int]] = []
    for number, line in enumerate(text.splitlines(), 1):
        # Slurm wants the word at the very start of the line, in any case.
        found = re.match(r"include\s+(\S+)", line, re.IGNORECASE)
        if found is None:
            lines.append((line, path, number))
        elif Path(found[1]).name not in without:
            lines.extend(_lines(folder / found[1], folder, without, depth + 1))
    return lines
