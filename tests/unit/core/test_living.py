from datetime import UTC, datetime, timedelta

import pytest
from factories import NOON
from hypothesis import given
from hypothesis import strategies as st

from broker.core.errors import BrokerError
from broker.core.living import HeldJob, KeptMachine, LivingWord, from_text, to_text

times = st.datetimes(datetime(2000, 1, 1), datetime(2999, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))
machines = st.builds(
    KeptMachine,
    label=st.text(),
    provider=st.text(),
    node=st.text(),
    keep_until=times,
    jobs=st.lists(st.builds(HeldJob, id=st.integers(), until=times), max_size=2).map(tuple),
)


@given(times, st.integers(1, 10**6), st.lists(machines, max_size=3, unique_by=lambda machine: machine.label))
def test_what_is_said_is_what_is_read(at, seconds, kept):
    word = LivingWord(
        cluster="test",
        said_at=at,
        quiet=timedelta(seconds=seconds),
        machines={machine.label: machine for machine in kept},
    )

    assert from_text(to_text(word)) == word


GOOD = to_text(LivingWord(cluster="test", said_at=NOON, quiet=timedelta(seconds=60), machines={}))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        GOOD[:-1],
        GOOD.replace('"schema_version": 1', '"schema_version": 2'),
        GOOD.replace("60.0", "0"),
        GOOD.replace("60.0", '"x"'),
        GOOD.replace("60.0", "1e300"),
        GOOD.replace("60.0", "NaN"),
        GOOD.replace("12:00:00Z", "12:00:00"),
        GOOD.replace('"machines": []', '"machines": [{}]'),
        GOOD.replace('"machines": []', '"machines": [7]'),
    ],
)
def test_what_is_not_a_whole_word_is_no_word(text):
    with pytest.raises(BrokerError, match="not a daemon's word"):
        from_text(text)
