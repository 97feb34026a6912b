"""Who decides in world `site`: where and when a job runs, from what can be known."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from broker.placement.estimate import Option, Work, stay
from broker.placement.objective import Aims, Kept, choose
from broker.placement.outlook import HourlyOutlook, Outlook
from broker.simulate.signals import Forecaster, View


@dataclass(frozen=True, kw_only=True)
class Listed:
    """The offers as a provider lists them now: those that are sold out are not there."""

    options: tuple[Option, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """Run on `option_id`, `start_h` hours from now. `quoted_usd` beside the cheapest start now, `floor_usd`."""

    option_id: str
    start_h: float
    quoted_usd: float
    floor_usd: float


class Decider(Protocol):
    """`view` is all that a decider learns of carbon: it holds the past. None: nothing is feasible now."""

    def decide(self, work: Work, listed: Listed, view: View, now_h: float, kept: Kept | None) -> Decision | None: ...


class CheapestNow:
    """The least expected money, now; the next when that is sold out (SkyPilot's optimizer for a single task)."""

    def decide(self, work: Work, listed: Listed, view: View, now_h: float, kept: Kept | None) -> Decision | None:
        quotes = _quotes(work, listed)
        if not quotes:
            return None
        usd, name = min(quotes)
        return Decision(name, 0.0, usd, usd)


class GreenestNow:
    """Where the last known intensity times PUE is least, now; the cheaper of equal ones."""

    def decide(self, work: Work, listed: Listed, view: View, now_h: float, kept: Kept | None) -> Decision | None:
        quotes = _quotes(work, listed)
        if not quotes:
            return None
        usd_of = {name: usd for usd, name in quotes}
        _, usd, name = min(
            ((view.past[option.zone] or (0.0,))[-1] * option.pue, usd_of[option.id], option.id)
            for option in listed.options
            if option.id in usd_of
        )
        return Decision(name, 0.0, usd, min(quotes)[0])


class Broker:
    """The product's own objective, `broker.placement.objective`, with a forecaster."""

    def __init__(self, wanted: Aims, forecaster: Forecaster, seed: str = "") -> None:
        self._wanted, self._forecaster, self._seed = wanted, forecaster, seed

    def decide(self, work: Work, listed: Listed, view: View, now_h: float, kept: Kept | None) -> Decision | None:
        since = now_h - view.hour
        outlooks: Mapping[str, Outlook] = {
            zone: self._outlook(view, zone).later(since) for zone in {option.zone for option in listed.options}
        }
        choice = choose(
            work, listed.options, outlooks, self._wanted, starts(since, work.may_wait_h), kept=kept, seed=self._seed
        )
        if choice is None:
            return None
        return Decision(choice.best.option.id, choice.best.start_h, choice.best.usd, choice.cheapest_now.usd)

    def _outlook(self, view: View, zone: str) -> HourlyOutlook:
        made = view.outlooks.get(zone)
        if made is None:
            made = view.outlooks[zone] = self._forecaster(view, zone)
        return made


def starts(since_hour: float, may_wait_h: float) -> list[float]:
    """Now, and the beginning of every hour within the wait: between them an hourly signal has nothing new."""
    first = 1.0 - since_hour
    return [0.0, *(first + step for step in range(max(0, int(may_wait_h - first + 1 + 1e-9))) if first + step > 1e-9)]


def _quotes(work: Work, listed: Listed) -> list[tuple[float, str]]:
    found = ((stay(work, option), option.id) for option in listed.options)
    return [(of.usd, name) for of, name in found if of is not None]
