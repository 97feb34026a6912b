import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.errors import BrokerError
from broker.slurm.hostlist import expand, expand_in_order, fold


@pytest.mark.parametrize(
    ("hostlist", "names"),
    [
        ("h100-[1-3,7]", ["h100-1", "h100-2", "h100-3", "h100-7"]),
        ("r[1-2]n[01-02]", ["r1n01", "r1n02", "r2n01", "r2n02"]),
        ("h[08-11],login", ["h08", "h09", "h10", "h11", "login"]),
        ("a,b,a", ["a", "b"]),
        ("", []),
        ("(null)", []),
    ],
)
def test_a_hostlist_stands_for_its_names(hostlist, names):
    assert sorted(expand(hostlist)) == names


@pytest.mark.parametrize(
    "text",
    ["h[1-", "h]1", "h[]", "h[3-1]", "a!b", "@racks", "a b", "h[0-8/2]", "h[1-99999999]", "a;b", "h[1-9999][1-9999]"],
)
def test_what_is_no_hostlist_is_refused_with_its_own_words(text):
    with pytest.raises(BrokerError, match="hostlist"):
        expand(text)


@given(
    st.lists(st.from_regex(r"\A[a-z]{1,3}([0-9]{0,3}-)?[0-9]{0,3}\Z").filter(lambda name: name.strip("-")), max_size=30)
)
def test_folding_keeps_every_name_whatever_the_order(names):
    folded = fold(names)
    assert sorted(expand(folded)) == sorted(set(names))
    assert fold(reversed(names)) == folded


def test_a_fold_has_brackets_only_at_the_end_of_a_name_as_slurm_demands():
    assert fold(["h100-1", "h200-1"]) == "h100-1,h200-1"
    assert fold(["n1-ib", "n2-ib"]) == "n1-ib,n2-ib"


def test_order_is_kept_where_slurm_pairs_lists():
    assert expand_in_order("10.77.0.[254-255],10.77.1.[0-1]") == (
        "10.77.0.254",
        "10.77.0.255",
        "10.77.1.0",
        "10.77.1.1",
    )
    assert expand_in_order("b,a") == ("b", "a")


def test_a_strange_name_is_not_folded():
    with pytest.raises(BrokerError, match="not a node name"):
        fold(["h100-1", "a[1-2]"])


def test_ten_thousand_names_are_no_work():
    start = time.process_time()
    assert len(expand("h100-[1-10000]")) == 10_000
    assert time.process_time() - start < 5
