"""One clock for all parties, faster than the wall's."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, kw_only=True)
class Pace:
    """`epoch`: what the clock showed when the machine's monotonic clock stood at `began`; both in seconds."""

    epoch: float
    began: float
    speed: float

    @classmethod
    def from_now(cls, speed: float) -> "Pace":
        return cls(epoch=time.time(), began=time.monotonic(), speed=speed)

    def seconds(self) -> float:
        """Seconds since 1970 by this clock; never goes back."""
        return self.epoch + (time.monotonic() - self.began) * self.speed

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds(), UTC)

    def sleep(self, seconds: float) -> None:
        """For so many seconds of this clock."""
        if seconds > 0:
            time.sleep(seconds / self.speed)

    def real(self, seconds: float) -> float:
        """So many seconds of this clock, in the wall's."""
        return seconds / self.speed
