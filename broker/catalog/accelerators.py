"""GPU models we know. Vendors' spellings end at the adapter: `canonical` turns them into our names."""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """A GPU model. `memory_gb`: the sizes it is sold with; `power_w`: board power in watts."""

    name: str
    memory_gb: tuple[int, ...]
    power_w: int
    words: tuple[str, ...]


@cache
def known() -> dict[str, Accelerator]:
    """Canonical name → model, from `accelerators.toml`."""
    table = tomllib.loads(Path(__file__).with_name("accelerators.toml").read_text())
    return {
        row["name"]: Accelerator(
            name=row["name"],
            memory_gb=tuple(row["memory_gb"]),
            power_w=row["power_w"],
            words=tuple(row["words"]),
        )
        for row in table["accelerator"]
    }


def names() -> list[str]:
    """Every canonical name, sorted."""
    return sorted(known())


def canonical(text: str) -> str | None:
    """Our name for the GPU that `text` speaks of (`NVIDIA H100 80GB HBM3` → `H100`); None: a model we do not know."""
    plain = re.sub(r"[-_]+", " ", text)
    for pattern, name in _patterns():
        if pattern.search(plain):
            return name
    return None


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    words = [(word, model.name) for model in known().values() for word in (*model.words, model.name)]
    # Longest first: `RTX 6000 Ada` must win over `RTX 6000`.
    words.sort(key=lambda entry: (-len(entry[0]), entry))
    return [
        (re.compile(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])", re.IGNORECASE), name) for word, name in words
    ]
