"""Slurm's node, as far as we look at it."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Node:
    """`state` is Slurm's base word, `flags` the words after `+`. Test for flags you care about, never for equality."""

    name: str
    state: str
    flags: frozenset[str]
    reason: str | None

    @property
    def is_up(self) -> bool:
        """Registered and answering: what a job may start on."""
        down = {"POWERING_UP", "POWERED_DOWN", "POWERING_DOWN", "POWER_DOWN", "NOT_RESPONDING", "INVALID_REG"}
        return self.state not in {"DOWN", "UNKNOWN", "FUTURE"} and not self.flags & down
