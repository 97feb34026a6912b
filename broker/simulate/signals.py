"""What a policy may know at one moment of a replay: the past. The truth stays here, behind `as_of`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from broker.placement.outlook import HourlyOutlook, hourly
from broker.simulate.intensity import Intensity

_DAY = 24
_ERROR_DAYS = 7


@dataclass(frozen=True)
class View:
    """The readings of all hours that are over, by zone, the newest last; copies, so that nothing leads to the truth."""

    hour: int
    """The hour of the replay that has begun and is not over."""
    past: Mapping[str, tuple[float, ...]]
    outlooks: dict[str, HourlyOutlook] = field(default_factory=dict)
    """What the forecaster made of it, once an hour."""


Forecaster = Callable[[View, str], HourlyOutlook]
"""What is thought of a zone from the beginning of `View.hour` on."""


class Signals:
    """Intensities of all zones of a site: the truth for the accounts, the past for the policies."""

    def __init__(self, zones: Mapping[str, Intensity], first_hour: int, history_hours: int = 14 * _DAY) -> None:
        """`first_hour` of the intensities is hour 0 of the replay; what lies before is known from the start."""
        self._values = {zone: intensity.g_per_kwh for zone, intensity in zones.items()}
        self._first, self._history = first_hour, history_hours
        self.hours = min(len(values) for values in self._values.values()) - first_hour
        self.truth = {zone: hourly(values[first_hour:]) for zone, values in self._values.items()}

    def as_of(self, now_h: float) -> View:
        """What could be known `now_h` hours after the beginning. The hour that runs is not over, so not known."""
        hour = int(now_h)
        end = self._first + hour
        begin = max(0, end - self._history)
        return View(hour, {zone: values[begin:end] for zone, values in self._values.items()})


def persistence(view: View, zone: str) -> HourlyOutlook:
    """The last day again, for ever. Its error: how much an hour differed from the same hour a day before, lately."""
    past = view.past[zone]
    if not past:
        return hourly([_UNKNOWN_G])
    day = past[-_DAY:]
    # A day not whole yet is stretched out by its mean: no hour of it may stand for another.
    values = day if len(day) == _DAY else [sum(day) / len(day)]
    changes = [
        now - before
        for before, now in zip(past[-(_ERROR_DAYS + 1) * _DAY : -_DAY], past[-_ERROR_DAYS * _DAY :], strict=False)
    ]
    error = (sum(change * change for change in changes) / len(changes)) ** 0.5 if changes else 0.0
    return hourly(values, errors=(0.0, error))


_UNKNOWN_G = 450.0


def profile(view: View, zone: str) -> HourlyOutlook:
    """The mean day of the last week, and what the last hours lay above it, fading. For two weeks ahead.

        base(h) = mean over the last 7 days of the same hour        e(t) = value(t) - base(t)
        outlook(now + k) = base(now + k) + r^(k+1) x mean of e over the last 3 hours

    Its error at a lead: what forecasts of that kind were wrong by over the last week.
    """
    past = view.past[zone]
    days = min(_ERROR_DAYS, len(past) // _DAY)
    if days < 2:
        return persistence(view, zone)
    week = past[-days * _DAY :]
    # base[k]: the hour k from now; the week ends with the hour before now, so that its first hour is one of base[0]'s.
    base = [sum(week[k::_DAY]) / days for k in range(_DAY)]
    off = [value - base[k % _DAY] for k, value in enumerate(week)]
    fade = _fade(off)
    level = sum(off[-_RECENT:]) / _RECENT
    ahead = [max(0.0, base[k % _DAY] + level * fade ** (k + 1)) for k in range(_AHEAD_DAYS * _DAY)]
    return hourly(ahead, period=_DAY, errors=_errors(off, fade))


_RECENT = 3
_AHEAD_DAYS = 3


def _fade(off: list[float]) -> float:
    """How much of a deviation is left an hour later: its correlation with itself a quarter of a day on, an hour's share."""
    lag = 6
    power = sum(value * value for value in off[:-lag])
    together = sum(one * two for one, two in zip(off, off[lag:], strict=False))
    return min(0.98, max(0.0, together / power) ** (1 / lag)) if power > 0 else 0.0


def _errors(off: list[float], fade: float) -> list[float]:
    """By hours of lead, 0 to 24: root mean square of what was left, windows of six hours beside those that began at once.

    Measured at a few leads; the hours up to one share its error.
    """
    sums = [0.0, *accumulate(off)]
    window = [(end - begin) / 6 for begin, end in zip(sums, sums[6:], strict=False)]
    found = [0.0]
    for lead in _LEADS:
        left = 1 - fade**lead
        wrong = [
            later - now + left * known
            for known, now, later in zip(off[_RECENT - 1 :], window[_RECENT:], window[_RECENT + lead :], strict=False)
        ]
        error = (sum(each * each for each in wrong) / len(wrong)) ** 0.5 if wrong else found[-1]
        found += [error] * (lead - len(found) + 1)
    return found


_LEADS = (1, 2, 4, 8, 16, 24)


def perfect(signals: Signals) -> Forecaster:
    """The truth as a forecast: how good a policy could be, which no policy can be. For comparisons only."""
    truth = dict(signals.truth)

    def outlook(view: View, zone: str) -> HourlyOutlook:
        return truth[zone].later(view.hour)

    return outlook
