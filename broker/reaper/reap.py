"""One look of the reaper: lists what each credential has of ours, judges, ends, and waits for the provider's word."""

import time
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from broker.core.errors import (
    BrokerError,
    ConfigError,
    InstanceNotFound,
    ProviderError,
    Refused,
    SlurmUnavailable,
)
from broker.core.leases import lease_of_label
from broker.core.living import LivingWord
from broker.core.offers import Instance, InstanceState
from broker.providers.base import Provider
from broker.reaper.judge import Verdict, judge, needs_slurm
from broker.reaper.sightings import Sightings

# A host whose clock is further from the provider's ends nothing: it cannot tell what has outlived its lease. Below it,
# the error must fit into the 15 minutes after a job's end. Too small: a provider's sloppy clock stops the reaper.
_SKEW = timedelta(minutes=2)
_LOOK_AGAIN = 2.0


class Outcome(StrEnum):
    KEPT = "kept"
    WOULD_END = "would_end"
    ENDED = "ended"
    """The provider says that there is no such instance any more."""
    ASKED = "asked"
    """The provider was asked, and has not confirmed it yet: the next look asks again."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One instance with our label."""

    provider: str
    instance_id: str
    label: str
    node: str | None
    outcome: Outcome
    why: str


@dataclass(frozen=True)
class Trouble:
    """What went wrong, and at which credential (None: at none of them)."""

    where: str | None
    error: BrokerError

    def __str__(self) -> str:
        text = str(self.error)
        return text if self.where is None or text.startswith(self.where) else f"{self.where}: {text}"


@dataclass(frozen=True, kw_only=True)
class Look:
    """What came of one look. `word_said_at` None: there was no word. `strangers`: instances without our label."""

    at: datetime
    word_said_at: datetime | None
    findings: tuple[Finding, ...]
    strangers: int
    problems: tuple[Trouble, ...]


@dataclass(frozen=True, kw_only=True)
class Credential:
    """`skew`: how far our clock was ahead of the provider's at its last answer; None: it did not tell."""

    provider: Provider
    skew: Callable[[], timedelta | None]


@dataclass(frozen=True, kw_only=True)
class Reaper:
    """`read_word` raises BrokerError when there is no word that can be used. `busy_nodes`: where Slurm has jobs.

    `confirm_seconds`: how long one look waits for the provider's confirmation.
    """

    cluster: str
    credentials: Mapping[str, Credential]
    read_word: Callable[[], LivingWord]
    busy_nodes: Callable[[], Set[str]]
    clock: Callable[[], datetime]
    max_age: timedelta | None = None
    sightings: Sightings | None = None
    confirm_seconds: float = 120.0
    sleep: Callable[[float], None] = time.sleep

    def look(self, dry_run: bool = False) -> Look:
        """Look once. What goes wrong at one credential is a problem of the look and stops none of the others."""
        problems: list[Trouble] = []
        findings: list[Finding] = []
        strangers = 0
        word = self._word(problems)
        for name, credential in self.credentials.items():
            try:
                listed = credential.provider.instances()
                ours = [i for i in listed if lease_of_label(self.cluster, i.label) is not None]
                strangers += len(listed) - len(ours)
                findings += self._reap(credential, ours, word, dry_run, problems)
            except BrokerError as exc:
                problems.append(Trouble(name, exc))
        if self.max_age is not None or not findings:
            # It was to do without, or nothing had to be judged.
            problems = [problem for problem in problems if not isinstance(problem.error, NoWord)]
        return Look(
            at=self.clock(),
            word_said_at=word.said_at if word is not None else None,
            findings=tuple(findings),
            strangers=strangers,
            problems=tuple(problems),
        )

    def _word(self, problems: list[Trouble]) -> LivingWord | None:
        try:
            word = self.read_word()
        except BrokerError as exc:
            problems.append(Trouble(None, NoWord(str(exc))))
            return None
        if word.cluster != self.cluster:
            raise ConfigError(
                f"the word is of cluster {word.cluster}, and [site] cluster is {self.cluster}: name the right file with "
                "--living, or the right configuration with --config"
            )
        if word.said_at > self.clock() + _SKEW:
            raise Refused(
                f"the daemon's word is of {word.said_at:%Y-%m-%d %H:%M:%S} UTC, and by this host's clock that is still to "
                "come: one of the two clocks is wrong; nothing is ended until they agree"
            )
        return word

    def _reap(
        self,
        credential: Credential,
        ours: list[Instance],
        word: LivingWord | None,
        dry_run: bool,
        problems: list[Trouble],
    ) -> list[Finding]:
        self._check_clock(credential)
        now = self.clock()
        name = credential.provider.name
        since = self.sightings.note(name, [i.id for i in ours], now) if self.sightings is not None else {}
        busy = self._busy(word, ours, now, problems)
        findings = []
        for instance in ours:
            verdict = self._verdict(instance, word, busy, since.get(instance.id, now))
            known = word.machines.get(instance.label or "") if word is not None else None
            finding = Finding(
                provider=name,
                instance_id=instance.id,
                label=instance.label or "",
                node=known.node if known is not None else None,
                outcome=Outcome.KEPT,
                why=verdict.why,
            )
            if verdict.end and dry_run:
                finding = replace(finding, outcome=Outcome.WOULD_END)
            elif verdict.end:
                finding = self._end(credential.provider, finding, instance, busy, since.get(instance.id, now), problems)
            findings.append(finding)
        return self._confirmed(credential.provider, findings, problems)

    def _check_clock(self, credential: Credential) -> None:
        skew = credential.skew()
        if skew is None:
            raise Refused(
                "the provider's answer tells no time, so this host's clock cannot be checked: nothing is ended"
            )
        if abs(skew) > _SKEW:
            raise Refused(
                f"this host's clock is {abs(skew.total_seconds()):.0f} s {'ahead of' if skew > timedelta(0) else 'behind'} the "
                "provider's: nothing is ended until they agree (is this host's time synchronised?)"
            )

    def _busy(
        self, word: LivingWord | None, ours: list[Instance], now: datetime, problems: list[Trouble]
    ) -> Set[str] | None:
        if not any(needs_slurm(word, instance.label, now) for instance in ours):
            return None
        try:
            return self.busy_nodes()
        except SlurmUnavailable:
            return None  # the machines are kept until their jobs must be over
        except BrokerError as exc:
            problems.append(Trouble(None, exc))
            return None

    def _verdict(self, instance: Instance, word: LivingWord | None, busy: Set[str] | None, since: datetime) -> Verdict:
        return judge(instance, word, self.clock(), busy=busy, seen_since=since, max_age=self.max_age)

    def _end(
        self,
        provider: Provider,
        finding: Finding,
        instance: Instance,
        busy: Set[str] | None,
        since: datetime,
        problems: list[Trouble],
    ) -> Finding:
        # Once more, by the newest word: the daemon may have come back since we read it.
        try:
            word = self.read_word()
        except BrokerError as exc:
            if self.max_age is None:
                return replace(finding, why=f"the daemon's word is gone since a moment ago: {exc}")
            word = None
        verdict = self._verdict(instance, word, busy, since)
        if not verdict.end:
            return replace(finding, why=verdict.why)
        try:
            provider.delete(instance.id)
        except InstanceNotFound:
            return replace(finding, outcome=Outcome.ENDED)
        except ProviderError as exc:
            problems.append(Trouble(provider.name, exc))
        return replace(finding, outcome=Outcome.ASKED)

    def _confirmed(self, provider: Provider, findings: list[Finding], problems: list[Trouble]) -> list[Finding]:
        """Ask again until the provider says that the instances are gone, or `confirm_seconds` are over."""
        limit = self.clock() + timedelta(seconds=self.confirm_seconds)
        while any(finding.outcome is Outcome.ASKED for finding in findings):
            if self.clock() >= limit:
                count = sum(finding.outcome is Outcome.ASKED for finding in findings)
                text = (
                    f"{count} machines were to be ended, and the provider has not confirmed it in "
                    f"{self.confirm_seconds:.0f} s: they may go on costing money; the next look asks again"
                )
                problems.append(Trouble(provider.name, NotConfirmed(text)))
                break
            self.sleep(_LOOK_AGAIN)
            findings = [
                replace(finding, outcome=Outcome.ENDED)
                if finding.outcome is Outcome.ASKED and self._is_gone(provider, finding.instance_id)
                else finding
                for finding in findings
            ]
        return findings

    def _is_gone(self, provider: Provider, instance_id: str) -> bool:
        try:
            if provider.instance(instance_id).state is not InstanceState.STOPPING:
                provider.delete(instance_id)
        except InstanceNotFound:
            return True
        except ProviderError:
            return False  # the next round asks again, and the limit says so when none is left
        return False


class NoWord(Refused):
    """There is no word of the daemon that can be used."""


class NotConfirmed(BrokerError):
    """The provider has not said yet that a machine is gone."""
