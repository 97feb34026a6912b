"""What still costs money when the instance is gone: disks, addresses, keys."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Residue:
    """One thing that a provider charges for. `kind` is the provider's word for it; `label` is ours (None: somebody else's)."""

    kind: str
    id: str
    label: str | None
    said: str
    """What it is and costs, in words."""
