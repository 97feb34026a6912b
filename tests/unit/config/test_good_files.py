import copy
from decimal import Decimal
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from broker import config
from broker.core.demand import Limits
from broker.providers import registry


def test_a_short_file_is_filled_up_with_the_defaults(site):
    settings = site.load()

    assert settings.site.cluster == "demo"
    assert settings.site.currency == "USD"
    assert settings.site.state_dir == Path("/var/lib/broker")
    assert settings.slurm.resume_timeout_s == 1500
    assert settings.overlay.interface == "broker0"
    assert settings.node.bundle_dir == Path("/var/lib/broker/bundle")
    assert settings.providers["lambda-a"].ssh_port == 22
    assert settings.policy.mode == "cheap"


def test_the_bundle_lies_in_the_state_folder_wherever_that_is(site):
    settings = site.change("[overlay]", 'state_dir = "/srv/broker"\n[overlay]').load()

    assert settings.node.bundle_dir == Path("/srv/broker/bundle")


def test_money_is_exact_however_it_is_written(site):
    assert site.load().limits == Limits(
        max_nodes=8, max_usd_per_hour=Decimal("12.50"), max_price_per_gpu_hour=Decimal("2.49")
    )


def test_no_limits_section_means_no_limits(site):
    start = site.text.index("[limits]")
    site.text = site.text[:start] + site.text[site.text.index("[[shape]]") :]

    assert site.load().limits == Limits()


def test_a_gpu_gets_its_canonical_name_and_a_cpu_shape_has_none(site):
    gpu, cpu = site.load().shapes

    assert (gpu.accelerator, gpu.accelerator_count) == ("H100", 1)
    assert (cpu.accelerator, cpu.accelerator_count) == (None, 0)


def test_nodes_get_the_addresses_after_the_hub_in_the_order_of_the_file(site):
    overlay = site.load().overlay

    assert overlay.hub == IPv4Address("10.77.0.1")
    assert {name: str(address) for name, address in overlay.addresses().items()} == {
        "h100-1": "10.77.0.2",
        "h100-2": "10.77.0.3",
        "cpu-1": "10.77.0.4",
        "cpu-2": "10.77.0.5",
        "cpu-3": "10.77.0.6",
    }


def test_the_smallest_network_that_holds_hub_and_nodes_is_enough(site):
    overlay = site.change("10.77.0.0/24", "10.77.0.0/29").load().overlay

    assert set(overlay.addresses().values()) < set(overlay.cidr.hosts())


def test_a_provider_is_trusted_only_when_the_file_says_so(site):
    assert site.load().providers["lambda-a"].trusted
    assert not site.change('trust = "full"', "").load().providers["lambda-a"].trusted


def test_a_key_is_read_from_a_file_without_its_line_end(site):
    assert site.load().providers["lambda-a"].api_key.reveal() == "secret_key_1"


def test_a_key_is_read_from_the_environment(site):
    site.change(f'api_key_file = "{site.key}"', 'api_key_env = "LAMBDA_A_KEY"')

    settings = site.load(environ={"LAMBDA_A_KEY": "from-environment"})

    assert settings.providers["lambda-a"].api_key.reveal() == "from-environment"


def test_settings_never_print_a_key(site):
    settings = site.load()
    key = settings.providers["lambda-a"].api_key

    assert "secret_key_1" not in f"{settings!r} {settings} {key} {key:>20}"


def test_a_key_is_not_pickled(site):
    with pytest.raises(TypeError, match="plain text"):
        copy.deepcopy(site.load().providers["lambda-a"].api_key)


def test_settings_cannot_be_changed(site):
    with pytest.raises(AttributeError):
        site.load().site.cluster = "other"


def test_another_kind_of_provider_is_taken_when_an_adapter_for_it_is_there(site):
    site.change('kind = "lambda"', 'kind = "fake"')

    assert "provider.lambda-a.kind" in site.problems()
    assert site.load(kinds=frozenset({"fake"})).providers["lambda-a"].kind == "fake"


VAST = """
[provider.vast-a]
kind = "vast"
api_key_file = "KEY_FILE"
image = "registry.example/vastai/kvm:cli-22.04"
"""


def test_a_credential_at_vast_is_not_trusted_unless_the_file_says_so_and_logs_in_as_root(site):
    site.add(VAST.replace("KEY_FILE", str(site.key)))

    vast = site.load().providers["vast-a"]

    assert (vast.trusted, vast.ssh_user, vast.image) == (False, "root", "registry.example/vastai/kvm:cli-22.04")


@pytest.mark.parametrize(
    ("line", "problem"),
    [("", "is missing"), ('image = "vastai/kvm:cli"', "registry"), ('image = "registry.example/vastai/kvm"', "tag")],
)
def test_an_image_that_vast_would_run_as_a_container_is_refused(site, line, problem):
    old = 'image = "registry.example/vastai/kvm:cli-22.04"'
    site.add(VAST.replace("KEY_FILE", str(site.key)).replace(old, line))

    assert problem in site.problems()["provider.vast-a.image"]


def test_a_webhooks_secret_is_read_from_its_file_and_only_where_webhooks_come(site):
    secret = f'webhook_secret_file = "{site.key}"\n'
    site.add(VAST.replace("KEY_FILE", str(site.key)) + secret)
    assert site.load().providers["vast-a"].webhook_secret.reveal() == "secret_key_1"

    site.change('kind = "lambda"', f'kind = "lambda"\n{secret}')
    assert "sends no webhooks" in site.problems()["provider.lambda-a.webhook_secret_file"]


def test_a_provider_that_boots_its_own_image_takes_none(site):
    site.change('kind = "lambda"', 'kind = "lambda"\nimage = "x.example/y:z"')

    assert "boots its own image" in site.problems()["provider.lambda-a.image"]


def test_the_kinds_a_file_may_name_are_the_adapters_there_are():
    assert config.KINDS == registry.KINDS


@pytest.mark.parametrize(
    ("text", "where"),
    [("127.0.0.1:9101", ("127.0.0.1", 9101)), ("[::1]:9101", ("::1", 9101)), ("ctl.example:80", ("ctl.example", 80))],
)
def test_metrics_are_served_by_tcp_only_where_the_file_says(site, text, where):
    assert site.load().site.metrics_listen is None
    site.change('cluster = "demo"', f'cluster = "demo"\nmetrics_listen = "{text}"')
    assert site.load().site.metrics_listen == where


class TestTheDatabase:
    def test_the_ledger_lies_in_the_state_dir_unless_said_otherwise(self, site):
        assert site.load().site.ledger == "sqlite:////var/lib/broker/broker.db"

    def test_a_postgresql_url_names_our_driver(self, site):
        site.change('cluster = "demo"', 'cluster = "demo"\ndatabase = "postgresql:///broker?host=/run/postgresql"')

        assert site.load().site.ledger == "postgresql+psycopg:///broker?host=/run/postgresql"

    def test_its_password_comes_from_a_file_or_the_environment_and_is_not_shown(self, site, tmp_path):
        url = 'cluster = "demo"\ndatabase = "postgresql://broker@db.example/broker"\n'
        password = tmp_path / "password"
        password.write_text("hunter2\n")
        password.chmod(0o600)
        site.change('cluster = "demo"', f'{url}database_password_file = "{password}"')
        settings = site.load()
        site.change(f'database_password_file = "{password}"', 'database_password_env = "DB_PASSWORD"')
        other = site.load(environ={"DB_PASSWORD": "hunter3"})

        assert settings.site.database_password.reveal() == "hunter2"
        assert other.site.database_password.reveal() == "hunter3"
        assert "hunter" not in repr(settings) + repr(other)
