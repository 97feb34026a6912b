"""What the documents say, and how."""

from datetime import timedelta
from decimal import Decimal

from factories import NOON, an_offer
from unit.api.memory import a_view

from broker.core.leases import LeaseState
from broker.core.usage import CostBounds
from broker.services.views import NodeAccess, Why, WhyLine

COST = CostBounds(low=Decimal("0.40712345678"), high=Decimal("1E+1"), currency="USD")


def test_the_status_names_cluster_pause_activities_and_providers(api):
    document = api.ask("GET", "/api/v1/status").json

    assert document == {
        "schema_version": 1,
        "version": "0.1.0",
        "cluster": "demo",
        "slurm": "commands, as configured",
        "paused": None,
        "living_leases": 0,
        "activities": {
            "launch": {"last_success_at": "2026-11-24T12:00:00.000Z", "last_error": None},
            "sweep": {"last_success_at": None, "last_error": "lambda-a: HTTP 500"},
        },
        "providers": {"lambda-a": "ok", "lambda-b": "the key was refused"},
    }


def test_an_offer_has_its_price_as_a_decimal_text_beside_its_currency(api):
    api.operations.offered = [an_offer(price_per_hour=Decimal("2.490"))]

    (offer,) = api.ask("GET", "/api/v1/offers").json["offers"]

    assert (offer["price_per_hour"], offer["currency"]) == ("2.490", "USD")
    assert offer["id"] == "lambda-a/gpu_1x_h100_sxm5/us-east-1/on_demand"
    assert offer["hardware"]["accelerator"] == "H100"
    assert offer["observed_at"] == "2026-11-24T12:00:00.000Z"


def test_offers_may_be_asked_for_one_gpu(api):
    api.operations.offered = [an_offer(), an_offer(accelerator="A10")]

    offers = api.ask("GET", "/api/v1/offers?gpu=A10").json["offers"]

    assert [offer["hardware"]["accelerator"] for offer in offers] == ["A10"]


def test_a_lease_comes_with_its_history_steps_usage_and_cost(api):
    api.operations.add(a_view(COST, id="l0000000001", state=LeaseState.READY))

    lease = api.ask("GET", "/api/v1/leases/l0000000001").json["lease"]

    assert lease["state"] == "ready"
    assert lease["cost"] == {"low": "0.407123", "high": "10", "currency": "USD"}
    assert lease["events"][0]["became"] == "requested"
    assert lease["steps"] == [{"name": "bundle", "finished_at": "2026-11-24T12:00:40.000Z", "seconds": 3.25}]
    assert lease["usage"][0]["kind"] == "start"


def test_a_lease_list_leaves_the_history_to_the_single_lease(api):
    api.operations.add(a_view())

    (lease,) = api.ask("GET", "/api/v1/leases").json["leases"]

    assert "events" not in lease
    assert lease["price_per_hour"] is None


def test_released_leases_are_listed_only_when_asked_for(api):
    api.operations.add(a_view(id="l0000000001"), a_view(id="l0000000002", state=LeaseState.RELEASED))

    def listed(query):
        return {lease["id"] for lease in api.ask("GET", f"/api/v1/leases{query}").json["leases"]}

    assert listed("") == {"l0000000001"}
    assert listed("?all=true") == {"l0000000001", "l0000000002"}
    assert listed("?node=h100-9") == set()


def test_pages_follow_one_another_newest_first_while_leases_come_and_go(api):
    for number in range(5):
        api.operations.add(a_view(id=f"l000000000{number}", created_at=NOON + timedelta(seconds=number // 2)))

    first = api.ask("GET", "/api/v1/leases?limit=2").json
    api.operations.add(a_view(id="lffffffffff", created_at=NOON + timedelta(hours=1)))
    del api.operations.known["l0000000003"]
    second = api.ask("GET", f"/api/v1/leases?limit=2&cursor={first['next_cursor']}").json
    third = api.ask("GET", f"/api/v1/leases?limit=2&cursor={second['next_cursor']}").json

    assert [lease["id"] for page in (first, second, third) for lease in page["leases"]] == [
        "l0000000004",
        "l0000000003",
        "l0000000002",
        "l0000000001",
        "l0000000000",
    ]
    assert third["next_cursor"] is None


def test_a_story_is_told_with_its_machines_and_no_more_of_them_than_their_owner_needs(api):
    view = a_view(COST, state=LeaseState.READY, address="192.0.2.7", host_key="ssh-ed25519 AAAA")
    api.operations.stories["4711"] = Why(
        target="4711",
        headline="Job 4711 runs.",
        story=(WhyLine(at=NOON, text="Slurm asked for h100-1."), WhyLine(at=None, text="And so on.")),
        awaited=None,
        owner="alice",
        leases=(view,),
    )

    document = api.ask("GET", "/api/v1/why/4711").json

    assert document["story"][0] == {"at": "2026-11-24T12:00:00.000Z", "text": "Slurm asked for h100-1."}
    assert document["leases"][0]["node"] == "h100-1"
    assert "192.0.2.7" not in str(document)


def test_a_log_is_one_of_two(api):
    api.operations.add(a_view(id="l0000000001"))
    api.operations.logs["l0000000001", "console"] = "login:"

    assert api.ask("GET", "/api/v1/leases/l0000000001/logs/console").json["text"] == "login:"
    assert api.ask("GET", "/api/v1/leases/l0000000001/logs/other").status == 422


def test_the_way_into_a_node_comes_with_its_pinned_key(api):
    api.operations.access["h100-1"] = NodeAccess(
        node="h100-1", address="192.0.2.7", port=22, user="ubuntu", host_key="ssh-ed25519 AAAA", key_file="/k"
    )

    document = api.ask("GET", "/api/v1/nodes/h100-1/access").json

    assert document["host_key"] == "ssh-ed25519 AAAA"


def test_the_api_describes_itself(api):
    paths = api.ask("GET", "/api/v1/openapi.json").json["paths"]

    assert set(paths) == {
        "/api/v1/status",
        "/api/v1/pause",
        "/api/v1/resume",
        "/api/v1/offers",
        "/api/v1/leases",
        "/api/v1/leases/{lease_id}",
        "/api/v1/leases/{lease_id}/logs/{which}",
        "/api/v1/leases/{lease_id}/release",
        "/api/v1/why/{target}",
        "/api/v1/nodes/{name}/access",
        "/api/v1/webhooks/{provider}",
        "/api/v1/webhooks/stripe",
        *(f"/api/v1/billing/{what}" for what in ("terms", "preview", "close", "push")),
        *(f"/api/v1/invoices{what}" for what in ("", "/export", "/{invoice_id}", "/{invoice_id}/credit")),
        *(f"/api/v1/stripe{what}" for what in ("", "/reconcile")),
        *(f"/api/v1/stripe/{{account}}/{what}" for what in ("setup-link", "grants", "subscription")),
        "/api/v1/providers",
        *(f"/api/v1/providers/{{name}}{deed}" for deed in ("", "/test", "/quote", "/trial", "/pause", "/resume")),
        "/metrics",
    }
