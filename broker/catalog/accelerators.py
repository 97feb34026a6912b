"""GPU models we know. Vendors' spellings end at the adapter: `identify` and `canonical` turn them into our names."""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Board:
    """One way in which a model is built. `form`: SXM, PCIe, NVL …; `memory_gb`: the sizes it is sold with."""

    form: str
    memory_gb: tuple[int, ...]
    power_w: int


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """A GPU model. `power_source`: whose figures the boards' watts are."""

    name: str
    words: tuple[str, ...]
    boards: tuple[Board, ...]
    power_source: str

    @property
    def memory_gb(self) -> tuple[int, ...]:
        """Every size it is sold with, the smallest first."""
        return tuple(sorted({size for board in self.boards for size in board.memory_gb}))


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """What a vendor's text says of a GPU, in our words. None: the text leaves it open.

    `odd_memory`: no such board was ever sold with this memory: a modified card, or a mistake in the text.
    `board_known`: the text fits one board only, so that `power_w` is that board's; else it is the one that draws the most.
    """

    name: str
    memory_gb: int | None
    form: str | None
    power_w: int
    odd_memory: bool
    board_known: bool


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A GPU as somebody asks for it: `A100`, `A100 80GB`, `H100 PCIe`. None: any will do."""

    name: str
    memory_gb: int | None
    form: str | None

    def fits(self, gpu: Gpu) -> bool:
        """Whether `gpu` is such a one; what is not known of it is no reason against it."""
        return (
            self.name == gpu.name
            and (None in {self.memory_gb, gpu.memory_gb} or self.memory_gb == gpu.memory_gb)
            and (None in {self.form, gpu.form} or self.form == gpu.form)
        )


@cache
def known() -> dict[str, Accelerator]:
    """Canonical name → model, from `accelerators.toml`."""
    return {
        row["name"]: Accelerator(
            name=row["name"],
            words=tuple(row["words"]),
            boards=tuple(
                Board(form=board["form"], memory_gb=tuple(board["memory_gb"]), power_w=board["power_w"])
                for board in row["boards"]
            ),
            power_source=row["power_source"],
        )
        for row in _table()["accelerator"]
    }


def names() -> list[str]:
    """Every canonical name, sorted."""
    return sorted(known())


def canonical(text: str) -> str | None:
    """Our name for the GPU that `text` speaks of (`NVIDIA H100 80GB HBM3` → `H100`); None: a model we do not know."""
    plain = _plain(text)
    if any(pattern.search(plain) for pattern, _ in _unsold()):
        return None
    return next((name for pattern, name in _patterns() if pattern.search(plain)), None)


def identify(text: str, memory_gb: float | None = None) -> Gpu | None:
    """`text` with the memory that the vendor states beside it; None: a model we do not know or do not sell.

    `memory_gb` may be what is left of it in GiB (79.6 for 80): the nearest size that was sold is meant.
    """
    name = canonical(text)
    if name is None:
        return None
    return _on_board(known()[name], _form(text), memory_gb, _memory(text))


def of_model(name: str, memory_gb: float | None, text: str = "") -> Gpu | None:
    """`identify` for a canonical name; `text`, such as an instance type's name, may tell the form."""
    model = known().get(name)
    return None if model is None else _on_board(model, _form(text), memory_gb, None)


def wanted(text: str) -> Wanted | None:
    """What `text` asks for; None: a model we do not know."""
    found = identify(text)
    if found is None:
        return None
    stated = _memory(text)
    return Wanted(name=found.name, memory_gb=None if stated is None else round(stated), form=_form(text))


def unsold(text: str) -> str | None:
    """Why we do not sell the GPU that `text` speaks of; None: we do, or do not know it."""
    plain = _plain(text)
    return next((because for pattern, because in _unsold() if pattern.search(plain)), None)


# Both are called GB, and drivers keep some for themselves: 23 GiB of an A10's 24 GB are told.
_NEAR = 0.12


def _on_board(model: Accelerator, form: str | None, stated: float | None, written: float | None) -> Gpu:
    boards = [board for board in model.boards if board.form == form] or list(model.boards)
    size = _sold_size(boards, stated)
    if size is None and stated is None:
        # Some texts name another memory than the GPU's: `GH200 480GB` is its CPU's.
        size = _sold_size(boards, written)
    fitting = [board for board in boards if size is None or size in board.memory_gb]
    sizes = {size for board in fitting for size in board.memory_gb}
    forms = {board.form for board in fitting}
    odd = stated is not None and size is None
    known_size = size or (next(iter(sizes)) if len(sizes) == 1 else None)
    return Gpu(
        name=model.name,
        memory_gb=round(stated) if odd and stated is not None else known_size,
        form=next(iter(forms)) if len(forms) == 1 else None,
        power_w=max(board.power_w for board in fitting),
        odd_memory=odd,
        board_known=len({board.power_w for board in fitting}) == 1,
    )


def _sold_size(boards: list[Board], memory_gb: float | None) -> int | None:
    if memory_gb is None:
        return None
    sizes = sorted({size for board in boards for size in board.memory_gb}, key=lambda size: abs(size - memory_gb))
    return sizes[0] if abs(sizes[0] - memory_gb) <= _NEAR * sizes[0] else None


def _form(text: str) -> str | None:
    plain = _plain(text)
    return next((form for pattern, form in _FORMS if pattern.search(plain)), None)


def _memory(text: str) -> float | None:
    found = re.search(r"(?<![\d.])(\d{1,3})\s?G(?:i?B)?(?![A-Za-z0-9])", _plain(text))
    return float(found[1]) if found else None


def _plain(text: str) -> str:
    return re.sub(r"[-_]+", " ", text)


# PCIe before the rest: `H100 PCIe NVLink` is a PCIe board with a bridge. `NVLink` alone says nothing of the board.
_FORMS = tuple(
    (re.compile(rf"(?<![A-Za-z0-9]){words}(?![A-Za-z0-9])", re.IGNORECASE), form)
    for words, form in (("PCIe", "PCIe"), ("SXM ?\\d?", "SXM"), ("HGX", "SXM"), ("NVL", "NVL"), ("Max Q", "Max-Q"))
)


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("accelerators.toml").read_text())


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    return _longest_first([(word, model.name) for model in known().values() for word in (*model.words, model.name)])


@cache
def _unsold() -> list[tuple[re.Pattern[str], str]]:
    return _longest_first([(word, row["because"]) for row in _table()["unsold"] for word in row["words"]])


def _longest_first(words: list[tuple[str, str]]) -> list[tuple[re.Pattern[str], str]]:
    """`RTX 6000 Ada` must win over `RTX 6000`."""
    words = sorted(words, key=lambda entry: (-len(entry[0]), entry))
    return [
        (re.compile(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])", re.IGNORECASE), meaning)
        for word, meaning in words
    ]
