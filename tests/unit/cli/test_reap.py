"""`broker reap` without a provider in reach: what it refuses, and how it ends."""

import pytest
from unit.config.conftest import GOOD


@pytest.fixture
def config(tmp_path):
    key = tmp_path / "key"
    key.write_text("secret_1")
    key.chmod(0o600)
    text = GOOD.replace("KEY_FILE", str(key)).replace(
        'kind = "lambda"', 'kind = "lambda"\nbase_url = "http://127.0.0.1:1"'
    )
    path = tmp_path / "broker.toml"
    path.write_text(text.replace('cluster = "demo"', f'cluster = "demo"\nstate_dir = "{tmp_path}"'))
    return path


WORD = '{"schema_version": 1, "cluster": "%s", "said_at": "%s", "quiet_s": 60, "machines": []}'
GONE_BY = "2026-11-24T12:00:00Z"


def test_a_provider_that_does_not_answer_ends_it_with_5(broker, config, tmp_path):
    (tmp_path / "living.json").write_text(WORD % ("demo", GONE_BY))

    ended = broker("reap", "--config", config, "--json")

    assert ended.code == 5
    assert ended.json["schema_version"] == 1
    assert (ended.json["machines"], ended.json["other_instances"]) == ([], 0)
    assert ended.json["word_said_at"] == GONE_BY
    assert "lambda-a GET /instances" in ended.json["problems"][0]
    assert "lambda-a GET /instances" in ended.err


def test_the_word_may_come_by_stdin(broker, config):
    ended = broker("reap", "--config", config, "--json", "--living", "-", input=WORD % ("demo", GONE_BY))
    assert ended.json["word_said_at"] == GONE_BY


def test_another_clusters_word_is_refused(broker, config):
    ended = broker("reap", "--config", config, "--living", "-", input=WORD % ("other", GONE_BY))
    assert ended.code == 1
    assert "of cluster other" in ended.err


def test_a_word_from_the_future_is_refused(broker, config):
    ended = broker("reap", "--config", config, "--living", "-", input=WORD % ("demo", "2999-01-01T00:00:00Z"))
    assert ended.code == 3
    assert "one of the two clocks is wrong" in ended.err


@pytest.mark.parametrize(
    "words",
    [("--once", "--every", "60"), ("--every", "60", "--living", "-"), ("--every", "1"), ("--max-age", "60")],
)
def test_what_makes_no_sense_is_a_usage_error(broker, config, words):
    assert broker("reap", "--config", config, *words).code == 2
