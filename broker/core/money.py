"""Money is `Decimal` in a named currency; it is rounded once, on the invoice."""

from decimal import Decimal

HOUR_SECONDS = Decimal(3600)


def cost(price_per_hour: Decimal, seconds: Decimal) -> Decimal:
    """What `seconds` of a thing cost at `price_per_hour`; unrounded."""
    return price_per_hour * seconds / HOUR_SECONDS


def amount_text(amount: Decimal, places: int = 2) -> str:
    """`amount` as a plain decimal string with `places` decimals (half-even), for people and for JSON."""
    return str(amount.quantize(Decimal(1).scaleb(-places)))
