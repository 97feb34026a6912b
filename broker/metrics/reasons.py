"""The class of a lease event's reason: the text itself, with its ids and amounts, has no end. Pure."""

from broker.core.errors import CredentialsRefused, NoCapacity, ProviderUnavailable, QuotaExceeded, RateLimited
from broker.reconcile.refusals import NOTHING, WORDS

OTHER = "other"
_BEGINS: tuple[tuple[str, str], ...] = (
    ("Slurm asked for the node", "asked"),
    ("attempt ", "next_offer"),
    ("buying is paused", "paused"),
    ("buying ", "buying"),
    ("bought", "bought"),
    ("adopted", "adopted"),
    ("the node answers Slurm", "joined"),
    ("Slurm let the idle node go", "idle"),
    ("released by ", "operator"),
    (WORDS[NoCapacity], "sold_out"),
    (WORDS[QuotaExceeded], "quota"),
    (WORDS[CredentialsRefused], "credential"),
    (WORDS[ProviderUnavailable], "unreachable"),
    (WORDS[RateLimited], "rate_limited"),
    ("refused", "refused"),
    (NOTHING, "nothing_to_buy"),
    ("its job ended", "job_over"),
    ("the provider confirms", "confirmed"),
    ("no machine with its label", "never_bought"),
    ("the purchase never happened", "never_bought"),
    ("not joined before", "resume_timeout"),
    ("not joined ", "boot_timeout"),
    ("the machine is no good", "bad_machine"),
    ("Slurm refuses the node", "bad_machine"),
    ("slurmd started, but", "bad_machine"),
    ("served by a machine", "taken_over"),
    ("Slurm holds the node for powered down", "missed_call"),
    ("Slurm wakes the node again", "missed_call"),
)
_HOLDS: tuple[tuple[str, str], ...] = (
    ("ResumeTimeout", "resume_timeout"),
    ("vanished", "vanished"),
    ("the provider ended the machine", "vanished"),
    ("since it was bought", "bad_machine"),
    ("too few machines", "group"),
)


def reason_class(reason: str) -> str:
    """One of a few words; `other` for a reason that nobody has classed yet."""
    begins = (word for start, word in _BEGINS if reason.startswith(start))
    holds = (word for part, word in _HOLDS if part in reason)
    return next(begins, None) or next(holds, OTHER)
