"""`broker init` writes a file that `broker serve` takes."""

import os
import stat
from decimal import Decimal

import pytest

from broker.cli.offline.questions import questions
from broker.config import InvalidConfig, load


@pytest.fixture
def conf(tmp_path, monkeypatch):
    path = tmp_path / "slurm.conf"
    path.write_text("# ClusterName=wrong\nclustername = Lab_2.0  # ours\n")
    monkeypatch.setenv("SLURM_CONF", str(path))
    return path


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "lambda.key"
    path.write_text("secret_1\n")
    path.chmod(0o600)
    return path


def answers(**given):
    """One line a question, in the order they are asked; not given: the default is taken."""
    asked = questions(None, "")
    assert given.keys() <= {question.name for question in asked}
    return "".join(f"{given.get(question.name, '')}\n" for question in asked)


def test_the_defaults_make_a_good_file_but_for_the_key(conf, broker, tmp_path):
    ended = broker("init", "--output", tmp_path / "broker.toml", "--yes")

    assert ended.code == 0
    with pytest.raises(InvalidConfig) as caught:
        load(tmp_path / "broker.toml", {})
    assert [problem.where for problem in caught.value.problems] == ["provider.lambda-a.api_key_file"]
    assert "put the API key into /etc/broker/lambda-a.key" in " ".join(ended.out.split())


def test_what_it_finds_around_it_becomes_the_default(conf, key, broker, tmp_path):
    output = tmp_path / "broker.toml"
    ended = broker("init", "--output", output, input=answers(api_key_file=key))

    assert ended.code == 0, ended.err
    settings = load(output, {})
    assert settings.site.cluster == "lab-2-0"
    assert settings.slurm.conf == conf
    assert settings.slurm.plugin_dir == tmp_path / "broker"
    assert not settings.providers["lambda-a"].trusted


def test_answers_go_into_the_file(conf, key, broker, tmp_path):
    output = tmp_path / "broker.toml"
    given = answers(
        cluster="demo", gpu="A100", gpu_count=8, nodes=3, max_usd_per_hour="7.25", trust="full", api_key_file=key
    )

    assert broker("init", "--output", output, input=given).code == 0

    settings = load(output, {})
    assert settings.site.cluster == "demo"
    assert settings.limits.max_usd_per_hour == Decimal("7.25")
    assert settings.overlay.nodes == ("a100x8-1", "a100x8-2", "a100x8-3")
    assert settings.providers["lambda-a"].trusted


def test_a_wrong_answer_is_explained_and_asked_again(conf, key, broker, tmp_path):
    output = tmp_path / "broker.toml"
    given = answers(
        cluster="Wrong Name\ndemo", cidr='10.9.0.1/24\n"; rm\n10.9.0.0/24', cpus="many\n4", api_key_file=key
    )

    ended = broker("init", "--output", output, input=given)

    assert ended.code == 0, ended.err
    assert '"Wrong Name" does not fit' in ended.err
    assert 'write "10.9.0.0/24"' in ended.err
    assert load(output, {}).shapes[0].cpus == 4


def test_a_file_that_is_there_is_kept_unless_forced(conf, broker, tmp_path):
    output = tmp_path / "broker.toml"
    output.write_text("mine")

    refused = broker("init", "--output", output, "--yes")
    assert (refused.code, output.read_text()) == (3, "mine")
    assert "--force" in refused.err

    assert broker("init", "--output", output, "--yes", "--force").code == 0
    assert "[site]" in output.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broker.toml", "slurm.conf"]


def test_the_file_is_not_for_everybody(conf, broker, tmp_path):
    before = os.umask(0)
    try:
        broker("init", "--output", tmp_path / "broker.toml", "--yes")
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "broker.toml").stat().st_mode) == 0o640


def test_an_input_that_ends_early_writes_nothing(conf, broker, tmp_path):
    ended = broker("init", "--output", tmp_path / "broker.toml", input="demo\n")

    assert ended.code == 2
    assert not (tmp_path / "broker.toml").exists()


def test_a_missing_folder_is_named(conf, broker, tmp_path):
    ended = broker("init", "--output", tmp_path / "no" / "broker.toml", "--yes")

    assert ended.code == 1
    assert f"mkdir {tmp_path / 'no'}" in ended.err


def test_the_overlay_avoids_the_networks_this_host_has_routes_to():
    # /proc/net/route for 10.0.0.0/8 (0000000A / 000000FF in the host's order) and a default route.
    routes = (
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n"
    )

    def proposed(text):
        return next(question.default for question in questions(None, text) if question.name == "cidr")

    assert proposed("") == "10.77.0.0/16"
    assert proposed(routes) == "172.27.0.0/16"
