from hypothesis import given
from hypothesis import strategies as st

from broker.core.leases import HOLDS_NODE, LIVING, MOVES, LeaseState, label_for, lease_of_label, new_lease_id


def test_every_state_can_reach_released_and_only_released_is_an_end():
    for state in LeaseState:
        seen, todo = set(), [state]
        while todo:
            here = todo.pop()
            if here not in seen:
                seen.add(here)
                todo += MOVES[here]
        assert LeaseState.RELEASED in seen
    assert [state for state in LeaseState if not MOVES[state]] == [LeaseState.RELEASED]


def test_a_node_name_is_free_again_once_its_lease_is_fenced():
    assert LeaseState.RELEASING in LIVING - HOLDS_NODE


@given(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True), st.integers(1, 99))
def test_a_label_leads_back_to_its_lease_and_only_in_its_own_cluster(cluster, epoch):
    lease_id = new_lease_id()
    label = label_for(cluster, lease_id, epoch)
    assert len(label) <= 63
    assert lease_of_label(cluster, label) == lease_id
    assert lease_of_label(cluster + "x", label) is None


def test_names_that_are_not_ours_lead_nowhere():
    for label in (
        None,
        "",
        "broker",
        "broker-x-l0123456789",
        "my-broker-x-l0123456789-e1",
        "broker-x-l0123456789-e1-b",
    ):
        assert lease_of_label("x", label) is None
