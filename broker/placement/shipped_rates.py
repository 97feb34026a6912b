"""How fast offers come and go, before a site has seen anything itself.

Of Lambda's types: fitted on 90 looks of 31 August 2026 (`python tests/bench/availability.py --rates`). A site's own
readings soon outweigh them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Changes a second: `leave` while it can be had, `back` while it cannot."""

    leave: float
    back: float

    def open_after(self, age_s: float, was_open: bool) -> float:
        """How likely it can be had `age_s` seconds after it was seen."""
        both = self.leave + self.back
        share = self.back / both
        faded = math.exp(-both * age_s)
        return share + (1 - share) * faded if was_open else share * (1 - faded)


def rates(half_life_s: float, return_s: float) -> Rates:
    """From the time after which half of the offers are gone, and that after which half are back."""
    return Rates(leave=math.log(2) / half_life_s, back=math.log(2) / return_s)


_H = 3600.0
DEFAULT = rates(2 * _H, 2 * _H)
"""Of an offer nobody knows anything of."""
SHIPPED: Mapping[str, Rates] = {
    "gpu_1x_a10": rates(22299, 8857),
    "gpu_1x_a100_sxm4": rates(4786, 153),
    "gpu_1x_gh200": rates(684, 551),
    "gpu_1x_h100_pcie": rates(800, 371),
    "gpu_1x_h100_sxm5": rates(340, 1841),
}
"""Instance type → its rates: seconds until half are gone, and until half are back."""
