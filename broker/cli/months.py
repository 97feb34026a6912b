"""How months, dates and amounts are written on the command line."""

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import click


class Month(click.ParamType[str]):
    """`2026-11`."""

    name = "month"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return f"{datetime.strptime(str(value), '%Y-%m').replace(tzinfo=UTC):%Y-%m}"
        except ValueError:
            self.fail(f'"{value}" is no month; write one such as 2026-11', param, ctx)


class Moment(click.ParamType[str]):
    """A day or a time, UTC unless it says otherwise; ISO 8601."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            at = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f'"{value}" is no time; write 2026-11-01 or 2026-11-01T12:00 (UTC)', param, ctx)
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).astimezone(UTC).isoformat()


class Number(click.ParamType[str]):
    """A plain decimal, passed on as text so that it stays exact."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            number = Decimal(str(value))
        except InvalidOperation:
            number = Decimal("NaN")
        if not number.is_finite():
            self.fail(f'"{value}" is no number; write one such as 2.49', param, ctx)
        return f"{number:f}"
