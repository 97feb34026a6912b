"""What a job wishes of us: `--comment="broker:spot=no,zones=us-east-1+us-west-2"`.

The same grammar, in the same words, as `slurm_plugins/broker.lua`, which refuses wrong wishes at submit; this one reads
what passed, and what came in where that module is not installed. `tests/unit/slurm/wishes_cases.toml` holds the two
together.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from broker.core.demand import Checkpointing, DataNeed, Mode, Wishes
from broker.core.errors import BrokerError

_LONGEST_WORD = 40
_LONGEST_VALUE = 200


@dataclass(frozen=True, kw_only=True)
class _Rule:
    will_do: Callable[[str], bool]
    wanted: str


def parse_wishes(comment: str) -> Wishes:
    """The wishes in a job's comment; none when it is not for us. BrokerError: what is wrong, and what is right."""
    wishes = read_wishes(comment)
    mode, premium, delay, deadline = (wishes.get(key) for key in ("mode", "premium", "delay", "deadline"))
    cap, budget, ckpt, out = (wishes.get(key) for key in ("carbon-cap", "budget", "ckpt", "out"))
    return Wishes(
        zones=frozenset(wishes.get("zones", "").split("+")) - {""},
        providers=frozenset(wishes.get("providers", "").split("+")) - {""},
        spot=wishes.get("spot"),
        mode=None if mode is None else Mode(mode),
        premium=None if premium is None else float(premium.removesuffix("%")) / 100,
        delay=None if delay is None else duration(delay),
        deadline=None if deadline is None else moment(deadline),
        carbon_cap_kg=None if cap is None else float(cap.removesuffix("kg")),
        budget=None if budget is None else Decimal(budget),
        checkpointing=None if ckpt is None else _checkpointing(ckpt),
        data=tuple(_data(piece) for piece in wishes.get("data", "").split("+") if piece),
        out_gb=None if out is None else float(out),
        signal=wishes.get("signal"),
    )


def duration(text: str) -> timedelta:
    """`90m` or `12h`, as the rules let it through. BrokerError: longer than any job could wait."""
    unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[text[-1]]
    try:
        return timedelta(**{unit: int(text[:-1])})
    except OverflowError:
        raise BrokerError(f"broker: {_shown(text)} is longer than any job can wait") from None


def moment(text: str) -> datetime:
    """A date and time; without a zone it is the controller's own."""
    return datetime.fromisoformat(text).astimezone(UTC)


def _checkpointing(text: str) -> Checkpointing:
    interval, _, cost = text.partition(":")
    return Checkpointing(interval=duration(interval), cost=duration(cost) if cost else timedelta(0))


def _data(text: str) -> DataNeed:
    staged = re.fullmatch(r"in:([^@]*)@(.*)", text)
    return DataNeed(gb=float(staged[1]), place=staged[2]) if staged else DataNeed(name=text)


def read_wishes(comment: str) -> dict[str, str]:
    """As `parse_wishes`, key by key as they were written."""
    text = comment.strip(" ")
    ours = re.fullmatch(r"broker *: *(.*)", text, re.IGNORECASE | re.ASCII | re.DOTALL)
    if ours is None:
        if hidden := re.search(r"broker:[A-Za-z0-9-]+=", text):
            raise BrokerError(
                f'broker: wishes stand alone in the comment: begin it with "{_shown(hidden[0])}..."',
            )
        return {}
    after = ours[1]
    if re.search(r"[^ -~]", after):
        raise BrokerError("broker: the wishes hold a character that is not plain ASCII: type them anew")
    if not after:
        raise BrokerError(
            f'broker: no wish after "broker:": write key=value, such as broker:spot=no. Keys: {", ".join(_RULES)}'
        )
    wishes: dict[str, str] = {}
    for piece in after.split(","):
        key, value = _wish(piece.strip(" "))
        if key in wishes:
            raise BrokerError(f"broker: the wish {key} stands there twice: keep one")
        rule = _RULES[key]
        if len(value) > _LONGEST_VALUE or not rule.will_do(value):
            raise BrokerError(f"broker: {key}={_shown(value)} will not do: wanted {rule.wanted}")
        wishes[key] = value
    return wishes


def _wish(piece: str) -> tuple[str, str]:
    if not piece:
        raise BrokerError("broker: a comma without a wish beside it: take it away")
    key, equals, value = piece.partition("=")
    key, value = key.rstrip(" "), value.lstrip(" ")
    if not equals:
        raise BrokerError(
            f'broker: "{_shown(piece)}" is not key=value; several values of one wish are joined by "+", as in zones=a+b'
        )
    if key not in _RULES:
        nearest = min(_RULES, key=lambda known: _edit_distance(key[:_LONGEST_WORD], known))
        raise BrokerError(
            f'broker: there is no wish "{_shown(key)}": did you mean "{nearest}"? Keys: {", ".join(_RULES)}'
        )
    return key, value


def _shown(word: str) -> str:
    return word[:_LONGEST_WORD] + "..." if len(word) > _LONGEST_WORD else word


def _edit_distance(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, mine in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            swap = diagonal + (mine != other)
            diagonal, row[j] = row[j], min(swap, row[j] + 1, row[j - 1] + 1)
    return row[-1]


def _is_positive(value: str) -> bool:
    return re.fullmatch(r"[0-9]+(\.[0-9]+)?", value) is not None and float(value) > 0


def _is_duration(value: str) -> bool:
    return re.fullmatch(r"0*[1-9][0-9]*[smhd]", value) is not None


def _one_of(*words: str) -> Callable[[str], bool]:
    return lambda value: value in words


def _with_unit(unit: str) -> Callable[[str], bool]:
    return lambda value: value.endswith(unit) and _is_positive(value.removesuffix(unit))


def _list_of(will_do: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda value: all(will_do(piece) for piece in value.split("+"))


def _is_name(value: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]*", value) is not None


def _is_data(value: str) -> bool:
    staged = re.fullmatch(r"in:([^@]*)@(.*)", value)
    return _is_positive(staged[1]) and _is_name(staged[2]) if staged else _is_name(value)


def _is_checkpoint(value: str) -> bool:
    interval, colon, cost = value.partition(":")
    return _is_duration(interval) and (not colon or _is_duration(cost))


def _is_moment(value: str) -> bool:
    found = re.fullmatch(
        r"(\d{4}-\d\d-\d\d)T([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?(Z|[+-][01]\d:[0-5]\d)?", value, re.ASCII
    )
    if found is None:
        return False
    try:
        date.fromisoformat(found[1])
    except ValueError:
        return False
    return True


_RULES = {
    "budget": _Rule(will_do=_is_positive, wanted="an amount of money, such as 40 or 12.50"),
    "carbon-cap": _Rule(will_do=_with_unit("kg"), wanted="kilograms of CO2, such as 2.5kg"),
    "ckpt": _Rule(will_do=_is_checkpoint, wanted="INTERVAL or INTERVAL:COST, such as 30m or 30m:20s"),
    "data": _Rule(
        will_do=_list_of(_is_data),
        wanted="in:GB@PLACE or a NAME, several joined by +, such as in:120@us-east-1+imagenet",
    ),
    "deadline": _Rule(will_do=_is_moment, wanted="a date and time, such as 2027-03-01T18:00 or 2027-03-01T18:00Z"),
    "delay": _Rule(will_do=_is_duration, wanted="a time with its unit (s, m, h, d), such as 90m or 12h"),
    "mode": _Rule(will_do=_one_of("balanced", "cheap", "fast", "green"), wanted="balanced, cheap, fast or green"),
    "out": _Rule(will_do=_is_positive, wanted="gigabytes, such as 50"),
    "premium": _Rule(will_do=_with_unit("%"), wanted="a percentage, such as 15%"),
    "providers": _Rule(
        will_do=_list_of(_is_name), wanted="names of providers, several joined by +, such as lambda-a+lambda-b"
    ),
    "signal": _Rule(will_do=_one_of("average", "marginal"), wanted="average or marginal"),
    "spot": _Rule(will_do=_one_of("no", "only", "yes"), wanted="no, only or yes"),
    "zones": _Rule(
        will_do=_list_of(_is_name), wanted="names of zones, several joined by +, such as us-east-1+us-west-2"
    ),
}
