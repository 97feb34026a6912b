"""Every mistake is named with its place and its mend, all of them at once."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.config import InvalidConfig, load, parse
from broker.core.errors import ConfigError

# (what stands in the good file, what is put in its place, where the problem is, words of its text)
MISTAKES = [
    ('cluster = "demo"', "", "site.cluster", "is missing"),
    ('cluster = "demo"', 'cluster = "My Cluster"', "site.cluster", '"My Cluster" does not fit'),
    ('cluster = "demo"', 'cluster = "-x"', "site.cluster", "neither first nor last"),
    ('cluster = "demo"', f'cluster = "{"x" * 33}"', "site.cluster", "at most 32"),
    ('cluster = "demo"', "cluster = 7", "site.cluster", "a whole number"),
    ('cluster = "demo"', 'clustr = "demo"', "site.clustr", 'did you mean "cluster"?'),
    ('cluster = "demo"', 'cluster = "demo"\ncurrency = "EUR"', "site.currency", 'write "USD"'),
    ('cluster = "demo"', 'cluster = "demo"\nstate_dir = "var"', "site.state_dir", "starts with /"),
    ('["root", "ada"]', '"root"', "site.operators", "not a list"),
    ('["root", "ada"]', '["root", "ro ot"]', "site.operators", "a Unix user"),
    ('["root", "ada"]', '["ada", "ada"]', "site.operators", "twice"),
    ("[overlay]", '[slurm]\nresume_timeout_s = "25m"\n[overlay]', "slurm.resume_timeout_s", "write 1500"),
    ("[overlay]", "[slurm]\nresume_timeout_s = 300.0\n[overlay]", "slurm.resume_timeout_s", "write 300"),
    ("[overlay]", "[slurm]\nresume_timeout_s = true\n[overlay]", "slurm.resume_timeout_s", "truth value"),
    ("[overlay]", "[slurm]\nresume_timeout_s = 0\n[overlay]", "slurm.resume_timeout_s", "from 1 to"),
    ("[overlay]", "[slurm]\nresume_timeout = 10\n[overlay]", "slurm.resume_timeout", '"resume_timeout_s"'),
    ("[overlay]", "[slrum]\n[overlay]", "slrum", 'did you mean "slurm"?'),
    ("[overlay]", "slurm = 3\n[overlay]", "site.slurm", "no such key"),
    ("[site]", "max_nodes = 3\n[site]", "max_nodes", "move it below [limits]"),
    ("[site]", "policy = 3\n[site]", "policy", "write [policy]"),
    ("[overlay]", "[[node]]\n[overlay]", "node", "write [node]"),
    ("[overlay]", '[policy]\nmode = "green"\n[overlay]', "policy.mode", 'write "cheap"'),
    ("[overlay]", "[node]\nexport_port = 70000\n[overlay]", "node.export_port", "65535"),
    ("[overlay]", '[node]\nssh_user = "-oProxy"\n[overlay]', "node.ssh_user", "login"),
    ("10.77.0.0/24", "10.77.0.0/30", "overlay.cidr", "write /29"),
    ("10.77.0.0/24", "10.77.0.9/24", "overlay.cidr", 'write "10.77.0.0/24"'),
    ("10.77.0.0/24", "8.8.8.0/24", "overlay.cidr", "not private"),
    ("10.77.0.0/24", "fd00::/64", "overlay.cidr", "no IPv4 network"),
    ("10.77.0.0/24", "10.77.0.0/33", "overlay.cidr", "no IPv4 network"),
    ("hub.example.org:51820", "hub.example.org", "overlay.endpoint", "host:port"),
    ("hub.example.org:51820", "hub.example.org:0", "overlay.endpoint", "1 to 65535"),
    ("hub.example.org:51820", "http://hub:1", "overlay.endpoint", "host:port"),
    ("[limits]", 'interface = "much-too-long-a-name"\n[limits]', "overlay.interface", "1 to 15"),
    ("[limits]", "mtu = 100\n[limits]", "overlay.mtu", "1280"),
    ('"12.50"', '"$12"', "limits.max_usd_per_hour", "plain amount"),
    ('"12.50"', "-1", "limits.max_usd_per_hour", "out of range"),
    ('"12.50"', "nan", "limits.max_usd_per_hour", "out of range"),
    ('"12.50"', "inf", "limits.max_usd_per_hour", "out of range"),
    ('"12.50"', "1e999999", "limits.max_usd_per_hour", "out of range"),
    ('"12.50"', "0x" + "f" * 5000, "limits.max_usd_per_hour", "out of range"),
    ("cpus = 16", "cpus = inf", "shape[1].cpus", "a number with a fraction"),
    ("cpus = 16", "cpus = nan", "shape[1].cpus", "a number with a fraction"),
    ("cpus = 16", "cpus = 1e999999", "shape[1].cpus", "a number with a fraction"),
    ("cpus = 16", "cpus = 0x" + "f" * 5000, "shape[1].cpus", "many digits is out of range"),
    ("cpus = 16", "cpus = " + "9" * 5000, "the file", "is not TOML"),
    ("cpus = 16", "cpus = " + "[" * 5000, "the file", "is not TOML"),
    ('cluster = "demo"', 'cluster = "demo"\nmetrics_listen = "9101"', "site.metrics_listen", "host:port"),
    ('cluster = "demo"', 'cluster = "demo"\nmetrics_listen = "[::1]:0"', "site.metrics_listen", "1 to 65535"),
    ("cpus = 16", f'cpus = "{"9" * 5000}"', "shape[1].cpus", "without quotes"),
    ('"12.50"', "[12]", "limits.max_usd_per_hour", "a list"),
    ("max_nodes = 8", "max_nodes = -1", "limits.max_nodes", "from 0"),
    ("max_nodes = 8", "max_nodes = 8\nmax_node = 8", "limits.max_node", '"max_nodes"'),
    ('name = "cpu"', 'name = "h100"', "shape[2].name", "shape[1] already"),
    ('name = "cpu"', 'name = "CPU_big"', "shape[2].name", "a-z, 0-9"),
    ('partition = "cloud"', 'partition = "default"', "shape[1].partition", "not DEFAULT"),
    ('"NVIDIA H100"', '"H1000"', "shape[1].gpu", 'did you mean "H100"?'),
    ('"NVIDIA H100"', '"banana"', "shape[1].gpu", "the models are"),
    ("cpus = 8", "cpus = 8\ngpu_count = 2", "shape[2].gpu_count", "there is no gpu beside it"),
    ("cpus = 16", "cpus = 16\ngpu_count = 0", "shape[1].gpu_count", "from 1"),
    ("memory_gib = 128", "memory_gb = 128", "shape[1].memory_gb", '"memory_gib"'),
    ("memory_gib = 128", "memory_gb = 128", "shape[1].memory_gib", "is missing"),
    ("memory_gib = 128", 'memory_gib = "1T"', "shape[1].memory_gib", "write 1024"),
    ("memory_gib = 128", "memory_gib = 131072", "shape[1].memory_gib", "65536"),
    ("nodes = 3", "nodes = 0", "shape[2].nodes", "from 1"),
    ("nodes = 3", "nodes = 300", "overlay.cidr", "need 303"),
    ('kind = "lambda"', 'kind = "lamda"', "provider.lambda-a.kind", 'did you mean "lambda"?'),
    ('kind = "lambda"', "", "provider.lambda-a.kind", "is missing"),
    ('trust = "full"', 'trust = "yes"', "provider.lambda-a.trust", '"full" or "none"'),
    ('trust = "full"', 'trust = ["full"]', "provider.lambda-a.trust", "not one of"),
    ('trust = "full"', 'base_url = "ftp://x"', "provider.lambda-a.base_url", "http or https"),
    ('trust = "full"', 'base_url = "https://u:p@x"', "provider.lambda-a.base_url", "holds a login"),
    ('trust = "full"', 'base_url = "http://[::"', "provider.lambda-a.base_url", "http or https"),
    ('["us-east-1"]', "[]", "provider.lambda-a.regions", "leave the key out"),
    ('["us-east-1"]', '"us-east-1"', "provider.lambda-a.regions", "not a list"),
    ("[provider.lambda-a]", "[provider.Lambda_A]", "provider.Lambda_A", "a-z, 0-9"),
    ("[provider.lambda-a]", "[provider]", "provider.kind", "[provider.NAME]"),
    ("[provider.lambda-a]", "[[provider]]", "provider", "[provider.NAME]"),
]


@pytest.mark.parametrize(("old", "new", "where", "words"), MISTAKES, ids=[f"{m[2]}: {m[3]}" for m in MISTAKES])
def test_a_mistake_is_named_with_its_place_and_its_mend(site, old, new, where, words):
    problems = site.change(old, new).problems()

    assert where in problems
    assert words in problems[where]


def test_every_mistake_is_reported_at_once_under_the_files_name(site):
    site.change('cluster = "demo"', 'cluster = ""').change("nodes = 2", 'nodes = "two"').change('"lambda"', '"x"')

    with pytest.raises(ConfigError) as caught:
        site.load()

    first, *lines = str(caught.value).splitlines()
    assert first == f"{site.path} cannot be used, 3 problems:"
    assert [line.split(":")[0].strip() for line in lines] == [
        "site.cluster",
        "shape[1].nodes",
        "provider.lambda-a.kind",
    ]


def test_a_single_shape_in_single_brackets_is_explained(site):
    start = site.text.index("[[shape]]")
    site.text = site.text[:start] + '[shape]\nname = "x"\n' + site.text[site.text.index("[provider.") :]

    assert "two brackets" in site.problems()["shape"]


def test_a_file_without_shapes_and_providers_is_no_site(site):
    site.text = site.text[: site.text.index("[[shape]]")]

    assert site.problems().keys() == {"shape", "provider"}


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"[site\n", "is not TOML"), (b"\xff\xfe", "not UTF-8"), (b"a = 1\na = 2\n", "is not TOML")],
)
def test_a_file_that_is_no_toml_says_so(tmp_path, content, words):
    path = tmp_path / "broker.toml"
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=words):
        load(path, {})


def test_a_missing_file_says_how_to_write_one(tmp_path):
    with pytest.raises(ConfigError, match="broker init"):
        load(tmp_path / "nowhere.toml", {})


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path, {})


class TestSecrets:
    KEY = "provider.lambda-a.api_key_file"

    def test_a_missing_file_is_named(self, site):
        site.key.unlink()

        assert f"{site.key} does not exist" in site.problems()[self.KEY]

    def test_a_file_that_every_user_can_read_is_refused(self, site):
        site.key.chmod(0o644)

        assert f"chmod 0640 {site.key}" in site.problems()[self.KEY]

    def test_a_file_that_the_group_can_read_is_taken(self, site):
        site.key.chmod(0o640)

        assert site.problems() == {}

    @pytest.mark.parametrize("content", ["", " \n"])
    def test_an_empty_file_is_refused(self, site, content):
        site.key.write_text(content)

        assert "is empty" in site.problems()[self.KEY]

    @pytest.mark.parametrize("content", ["two\nlines", "two words", "\x00", "schlüssel", "x" * 20000])
    def test_a_file_that_holds_no_key_is_refused_and_not_shown(self, site, content):
        site.key.write_text(content)

        problem = site.problems()[self.KEY]

        assert "is not one API key" in problem
        assert content not in problem

    def test_a_fifo_is_refused_and_does_not_stop_the_daemon(self, site):
        site.key.unlink()
        os.mkfifo(site.key, 0o600)

        assert "not a plain file" in site.problems()[self.KEY]

    def test_a_key_pasted_in_place_of_its_path_is_not_shown(self, site):
        site.change(str(site.key), "sk_live_1234")

        assert "sk_live_1234" not in str(site.problems())
        assert "not an absolute path" in site.problems()[self.KEY]

    def test_a_key_pasted_in_place_of_its_variable_is_not_shown(self, site):
        site.change(f'api_key_file = "{site.key}"', 'api_key_env = "sk_live_1234"')

        problems = site.problems()

        assert problems.keys() == {"provider.lambda-a.api_key_env"}
        assert "sk_live_1234" not in str(problems)

    def test_a_key_in_the_file_itself_is_refused_and_not_shown(self, site):
        site.change(f'api_key_file = "{site.key}"', 'api_key = "sk_live_1234"')

        problems = site.problems()

        assert "api_key_file" in problems["provider.lambda-a.api_key"]
        assert "sk_live_1234" not in str(problems)

    def test_a_variable_that_is_not_set_is_named(self, site):
        site.change(f'api_key_file = "{site.key}"', 'api_key_env = "LAMBDA_A_KEY"')

        assert "no LAMBDA_A_KEY" in site.problems()["provider.lambda-a.api_key_env"]

    def test_one_source_is_asked_for(self, site):
        site.change(f'api_key_file = "{site.key}"', "")
        assert "is missing" in site.problems()[self.KEY]

    def test_one_key_in_two_sections_is_refused_since_each_would_count_its_calls_alone(self, site):
        site.add(f"""
            [provider.lambda-b]
            kind = "lambda"
            api_key_file = "{site.key}"
        """)

        problems = site.problems()

        assert "the same API key as provider.lambda-a" in problems["provider.lambda-b"]
        assert "secret_key_1" not in str(problems)

    def test_two_sources_are_one_too_many(self, site):
        site.change("trust", 'api_key_env = "HOME"\ntrust')
        assert "keep one" in site.problems()[self.KEY]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_no_value_of_any_key_does_worse_than_a_named_problem(site, data):
    lines = [line for line in site.text.splitlines() if " = " in line]
    line = data.draw(st.sampled_from(lines))
    key = line.split(" = ")[0]
    value = data.draw(
        st.one_of(
            st.integers().map(str),
            st.floats().map(repr),
            st.booleans().map(lambda truth: str(truth).lower()),
            st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=30).map(
                lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\x7f", "") + '"'
            ),
            st.sampled_from(["[]", "{}", "[[1]]", "inf", "nan", "1e400", "1979-05-27", "07:32:00", "[1, 'a']"]),
        )
    )

    try:
        parse(site.text.replace(line, f"{key} = {value}", 1), site.path, {})
    except InvalidConfig as exc:
        assert exc.problems


class TestTheDatabase:
    @pytest.mark.parametrize(
        ("lines", "where", "said"),
        [
            ('database = "mysql://db/broker"', "site.database", "PostgreSQL or SQLite"),
            ('database = "postgresql://db.example"', "site.database", "names no database"),
            ('database = "sqlite:///broker.db"', "site.database", "four slashes"),
            ("database = 5", "site.database", "no URL"),
            ('database = "postgresql://ada:hunter2@db/broker"', "site.database", "database_password_file"),
            ('database = "postgresql://db/broker?password=hunter2"', "site.database", "database_password_file"),
            ('database_password_env = "P"', "site.database_password_env", "no P"),
            (
                'database = "postgresql:///b"\ndatabase_password_file = "hunter2"',
                "site.database_password_file",
                "not an absolute path",
            ),
            (
                'database = "postgresql:///b"\ndatabase_password_file = "/a"\ndatabase_password_env = "B"',
                "site.database_password_file",
                "keep one",
            ),
            (
                'database = "sqlite:////var/lib/broker/broker.db"\ndatabase_password_file = "/a"',
                "site.database_password_file",
                "only PostgreSQL",
            ),
        ],
    )
    def test_a_wrong_one_is_named_with_the_mend_and_shows_no_password(self, site, lines, where, said):
        problems = site.change('cluster = "demo"', f'cluster = "demo"\n{lines}').problems()

        assert problems.keys() == {where}
        assert said in problems[where] and "hunter2" not in problems[where]
