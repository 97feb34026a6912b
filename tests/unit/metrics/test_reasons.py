import pytest

from broker.metrics.reasons import OTHER, reason_class


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("Slurm asked for the node for job 4711", "asked"),
        ("attempt 2: the one before ended (sold out: lambda-a)", "next_offer"),
        ("buying gpu_1x_h100_pcie in us-east-1 from lambda-a at 3.29 USD/h", "buying"),
        ("adopted by its label: instance i1, waiting for it to boot", "adopted"),
        ("sold out: lambda-a POST /instance-operations/launch: Not enough capacity", "sold_out"),
        ("the credential's quota is full: lambda-a", "quota"),
        ("too many calls on the credential: lambda-a", "rate_limited"),
        ("nothing to buy for h100: 4 × sold out", "nothing_to_buy"),
        ("not joined before Slurm's ResumeTimeout", "resume_timeout"),
        ("ResumeTimeout: Slurm gave the node up", "resume_timeout"),
        ("Slurm's ResumeTimeout is near: buying is paused", "resume_timeout"),
        ("not joined 0:04:00 after it was bought (boot_timeout_s): no address", "boot_timeout"),
        ("the machine is no good: facts: NVIDIA A10", "bad_machine"),
        ("the machine is unhealthy since it was bought", "bad_machine"),
        ("the machine vanished at the provider", "vanished"),
        ("the provider ended the machine while it booted (terminating)", "vanished"),
        ("released by root: maintenance", "operator"),
        ("us-east-1 of lambda-a has too few machines for 4 nodes", "group"),
        ("something new", OTHER),
    ],
)
def test_reasons_have_few_classes(reason, word):
    assert reason_class(reason) == word
