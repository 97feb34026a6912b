from textwrap import dedent

import pytest

from broker.config import InvalidConfig, load

GOOD = """
[site]
cluster = "demo"
operators = ["root", "ada"]

[overlay]
cidr = "10.77.0.0/24"
endpoint = "hub.example.org:51820"

[limits]
max_nodes = 8
max_usd_per_hour = "12.50"
max_price_per_gpu_hour = 2.49

[[shape]]
name = "h100"
partition = "cloud"
gpu = "NVIDIA H100"
cpus = 16
memory_gib = 128
disk_gib = 200
nodes = 2

[[shape]]
name = "cpu"
partition = "cloud"
cpus = 8
memory_gib = 32
disk_gib = 100
nodes = 3

[provider.lambda-a]
kind = "lambda"
api_key_file = "KEY_FILE"
trust = "full"
regions = ["us-east-1"]
"""


class Site:
    """A folder with a good broker.toml and a key; `text` is what the file will say."""

    def __init__(self, folder):
        self.path = folder / "broker.toml"
        self.key = folder / "lambda-a.key"
        self.key.write_text("secret_key_1\n")
        self.key.chmod(0o600)
        self.text = GOOD.replace("KEY_FILE", str(self.key))

    def change(self, old, new):
        assert old in self.text
        self.text = self.text.replace(old, new, 1)
        return self

    def add(self, text):
        self.text += dedent(text)
        return self

    def load(self, **options):
        self.path.write_text(self.text)
        return load(self.path, **{"environ": {}} | options)

    def problems(self, **options):
        """`where` → text of everything that is wrong; empty: the file is good."""
        try:
            self.load(**options)
        except InvalidConfig as exc:
            return {problem.where: problem.text for problem in exc.problems}
        return {}


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)
