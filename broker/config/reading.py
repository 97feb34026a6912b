"""Typed reading of one TOML table. Every problem is collected, so that the operator mends the file once."""

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from broker.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Problem:
    """`where` is `section.key`; `text` says what is wrong with it and the mend."""

    where: str
    text: str


class InvalidConfig(ConfigError):
    """Everything that is wrong with one file, at once."""

    def __init__(self, path: Path, problems: Collection[Problem]) -> None:
        self.path = path
        self.problems = tuple(problems)
        lines = [f"  {problem.where}: {problem.text}" for problem in self.problems]
        count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
        super().__init__("\n".join([f"{path} cannot be used, {count}:", *lines]))


_MISSING = object()
_BEYOND = 10**12
"""No setting is that large."""


class Section:
    """Reads the keys of `table` one by one. A wrong value is noted, and a harmless one of the right type returned."""

    def __init__(self, where: str, table: Mapping[str, object], problems: list[Problem]) -> None:
        self.where = where
        self._table = table
        self._problems = problems
        self._known: list[str] = []

    def note(self, key: str, text: str) -> None:
        self._problems.append(Problem(where=f"{self.where}.{key}", text=text))

    def has(self, key: str) -> bool:
        return key in self._table

    def knows(self, key: str) -> bool:
        """Whether the key was asked for already."""
        return key in self._known

    def text(self, key: str, default: str | None = None, *, pattern: str = r".+", rule: str = "text") -> str:
        """A text that matches `pattern`; `rule` says in words what that asks for. No default: the key must be there."""
        value = self._take(key)
        if value is _MISSING:
            return self._absent(key, default, rule) or ""
        if not isinstance(value, str):
            self.note(key, f"{shown(value)} is {_kind(value)}; write {rule} in quotes")
            return ""
        if not re.fullmatch(pattern, value):
            self.note(key, f"{shown(value)} does not fit; write {rule}")
            return ""
        return value

    def texts(
        self,
        key: str,
        default: tuple[str, ...] = (),
        *,
        pattern: str = r".+",
        rule: str = "text",
        if_empty: str | None = None,
    ) -> tuple[str, ...]:
        """A list of texts, each once. `if_empty`: what is wrong with an empty list, None when nothing is."""
        value = self._take(key)
        if value is _MISSING:
            return default
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.note(key, f'{shown(value)} is not a list of texts; write for example {key} = ["one", "two"]')
            return ()
        if not value and if_empty:
            self.note(key, if_empty)
        for item in value:
            if not re.fullmatch(pattern, item):
                self.note(key, f"{shown(item)} does not fit; write {rule}")
        for item in sorted({item for item in value if value.count(item) > 1}):
            self.note(key, f"{shown(item)} stands there twice; keep one")
        return tuple(value)

    def choice(self, key: str, choices: Collection[str], default: str | None = None) -> str:
        allowed = " or ".join(f'"{choice}"' for choice in sorted(choices))
        value = self._take(key)
        if value is _MISSING:
            return self._absent(key, default, allowed) or ""
        if not isinstance(value, str) or value not in choices:
            hint = nearest(value, choices) if isinstance(value, str) else ""
            self.note(key, f"{shown(value)} is not one of the choices{hint}; write {allowed}")
            return ""
        return value

    def whole(self, key: str, default: int | None = None, *, low: int, high: int, unit: str = "") -> int:
        """A whole number of `unit`s in [`low`, `high`]. No default: the key must be there."""
        asked = f"a whole number of {unit}" if unit else "a whole number"
        value = self._take(key)
        if value is _MISSING:
            return int(self._absent(key, None if default is None else str(default), asked) or low)
        if not isinstance(value, int) or isinstance(value, bool):
            mend = _converted(value, unit) or f"write {asked}, without quotes and unit"
            self.note(key, f"{shown(value)} is {_kind(value)}, not {asked}; {mend}")
            return low
        if not low <= value <= high:
            self.note(key, f"{shown(value)} is out of range; write {asked} from {low} to {high}")
            return low
        return value

    def whole_or_none(self, key: str, *, low: int, high: int, unit: str = "") -> int | None:
        return self.whole(key, low=low, high=high, unit=unit) if self._listed(key) else None

    def money_or_none(self, key: str) -> Decimal | None:
        """An amount above nought, written as a number or as a text; exact, never through a binary float."""
        value = self._take(key)
        if value is _MISSING:
            return None
        mend = f'write a plain amount above 0, for example {key} = "12.50"'
        if isinstance(value, bool) or not isinstance(value, (int, str, Decimal)):
            self.note(key, f"{shown(value)} is {_kind(value)}; {mend}")
            return None
        if isinstance(value, str) and not re.fullmatch(r"\d+(\.\d+)?", value):
            self.note(key, f"{shown(value)} is not an amount; {mend}")
            return None
        amount = Decimal(value)
        if not amount.is_finite() or not 0 < amount < _BEYOND:
            self.note(key, f"{shown(value)} is out of range; {mend} (to buy nothing: `broker pause`)")
            return None
        return amount

    def path(self, key: str, default: Path | None = None) -> Path:
        """An absolute path; whether anything is there is not asked."""
        value = self.text(key, None if default is None else str(default), rule="an absolute path")
        if value and not value.startswith("/"):
            self.note(key, f"{shown(value)} is a relative path; write an absolute one, it starts with /")
        if "\0" in value:
            self.note(key, "the path holds a NUL character; take it out")
        return Path(value or "/")

    def secret_source(self, key: str) -> str | None:
        """The value as it is, None when it is no text; a message about it is the caller's, which must not show it."""
        value = self._take(key)
        return value if isinstance(value, str) else None

    def close(self) -> None:
        """Note every key that nobody asked for."""
        for key in self._table:
            if key not in self._known:
                hint = nearest(key, self._known) or f"; the keys here are {', '.join(self._known)}"
                self.note(key, f"there is no such key{hint}")

    def _take(self, key: str) -> object:
        self._known.append(key)
        return self._table.get(key, _MISSING)

    def _listed(self, key: str) -> bool:
        if not self.has(key):
            self._known.append(key)
        return self.has(key)

    def _absent(self, key: str, default: str | None, rule: str) -> str | None:
        if default is None:
            self.note(key, f"is missing; write {rule}")
        return default


def nearest(word: str, words: Collection[str]) -> str:
    """` (did you mean "x"?)` when one of `words` is near enough, else nothing."""
    by_plain = {known.lower(): known for known in words}
    close = difflib.get_close_matches(word.lower(), list(by_plain), n=1, cutoff=0.55)
    return f' (did you mean "{by_plain[close[0]]}"?)' if close else ""


def shown(value: object) -> str:
    """`value` as it may stand in a message: quoted, one line, not too long."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = "".join(char if char.isprintable() else "�" for char in value)
        return f'"{text[:57]}…"' if len(text) > 60 else f'"{text}"'
    if isinstance(value, int) and abs(value) > _BEYOND:
        return "a number of many digits"  # Python refuses to print more than 4300
    text = str(value)
    return f"{text[:57]}…" if len(text) > 60 else text


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "a truth value"
    for known, word in ((str, "text"), (int, "a whole number"), (Decimal, "a number with a fraction")):
        if isinstance(value, known):
            return word
    return "a list" if isinstance(value, list) else "a table" if isinstance(value, dict) else "a date or time"


_UNITS: dict[str, dict[str, Decimal]] = {
    "seconds": {"s": Decimal(1), "m": Decimal(60), "min": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)},
    "GiB": {
        "g": Decimal(1),
        "gib": Decimal(1),
        "gb": Decimal(1),
        "t": Decimal(1024),
        "tib": Decimal(1024),
        "tb": Decimal(1024),
        "m": 1 / Decimal(1024),
        "mib": 1 / Decimal(1024),
        "mb": 1 / Decimal(1024),
    },
}


def _converted(value: object, unit: str) -> str | None:
    """`write 1500` for "25m": the operator meant a unit we do not take."""
    if isinstance(value, Decimal):
        is_whole = value.is_finite() and abs(value) < _BEYOND and value == value.to_integral_value()
        return f"write {int(value)}" if is_whole else None
    found = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*([a-zA-Z]*)\s*", value) if isinstance(value, str) else None
    if not found:
        return None
    factor = _UNITS.get(unit, {}).get(found[2].lower()) if found[2] else Decimal(1)
    if factor is None:
        return None
    amount = Decimal(found[1]) * factor
    return f"write {int(amount)}" if amount == amount.to_integral_value() else None
