"""How times, ages and money are said to people. Documents of the API in, words out."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

_CONTROL_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.")


def printable(text: object) -> str:
    """`text` without what would steer the terminal: consoles and error texts come from machines we do not trust."""
    plain = _CONTROL_SEQUENCE.sub("", str(text)).replace("\r\n", "\n").replace("\r", "\n")
    return "".join(char for char in plain if char in "\n\t" or not _is_control(char))


def local(at: str) -> datetime:
    """An API time in the reader's own zone."""
    return datetime.fromisoformat(at).astimezone()


def clock(at: str | None) -> str:
    return local(at).strftime("%H:%M:%S") if at else ""


def moment(at: str | None) -> str:
    """Date and time, local."""
    return local(at).strftime("%Y-%m-%d %H:%M:%S") if at else "-"


def age(at: str | None) -> str:
    """How long ago: `12 s`, `5 min`, `3 h`, `2 d`."""
    return "never" if at is None else span((datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds())


def span(seconds: float) -> str:
    """A length of time in its largest unit, rounded down."""
    seconds = max(0, int(seconds))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def price(amount: str | None) -> str:
    """A price an hour, with the decimals it was quoted with: two at least, four at most."""
    if amount is None:
        return "-"
    quoted = Decimal(amount)
    if quoted.as_tuple().exponent not in range(-4, 1):
        quoted = quoted.quantize(Decimal("0.0001"))
    quoted = quoted.normalize()
    exponent = quoted.as_tuple().exponent
    return f"{quoted:f}" if isinstance(exponent, int) and exponent < -2 else f"{quoted:.2f}"


def cost(bounds: dict[str, Any] | None) -> str:
    """`0.41 USD`, or `0.40-0.43 USD` when the provider's bill is known no closer; `-` when nothing was bought."""
    if bounds is None:
        return "-"
    return amounts(Decimal(bounds["low"]), Decimal(bounds["high"]), bounds["currency"])


def amounts(low: Decimal, high: Decimal, currency: str) -> str:
    # Cents, but a machine's first minutes cost less than one.
    places = 2 if high >= Decimal("0.10") or high == 0 else 4
    texts = [f"{amount:.{places}f}" for amount in (low, high)]
    return f"{'-'.join(dict.fromkeys(texts))} {currency}"


def total(leases: list[dict[str, Any]]) -> str | None:
    """The leases' cost together, a sum for each currency; None: nothing was bought."""
    sums: dict[str, tuple[Decimal, Decimal]] = {}
    for bounds in (lease["cost"] for lease in leases if lease["cost"]):
        low, high = sums.get(bounds["currency"], (Decimal(0), Decimal(0)))
        sums[bounds["currency"]] = (low + Decimal(bounds["low"]), high + Decimal(bounds["high"]))
    return " and ".join(amounts(low, high, currency) for currency, (low, high) in sums.items()) or None


def _is_control(char: str) -> bool:
    # C0, DEL and C1, and the marks that turn the direction of writing round.
    code = ord(char)
    return code < 0x20 or 0x7F <= code < 0xA0 or 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069
