"""`[signal.NAME]`: good ones, and every mistake with its place and its mend."""

import pytest

from broker.config.settings import Secret


def test_a_source_without_a_key_needs_nothing_but_its_kind(site):
    [found] = site.add('[signal.california]\nkind = "caiso"\n').load().signals

    assert (found.name, found.kind, found.proxy, found.api_key, found.zones, found.path) == (
        "california",
        "caiso",
        None,
        None,
        (),
        None,
    )


def test_a_keyed_source_has_its_key_zones_and_proxy(site):
    settings = site.add(
        """
        [signal.eia]
        kind = "eia930"
        api_key_env = "EIA_API_KEY"
        zones = ["US-NY-NYIS", "US-TEX-ERCO"]
        proxy = "http://proxy.example.org:3128"
        """
    ).load(environ={"EIA_API_KEY": "abc123secret"})

    [found] = settings.signals
    assert found.api_key == Secret("abc123secret")
    assert found.zones == ("US-NY-NYIS", "US-TEX-ERCO")
    assert found.proxy == "http://proxy.example.org:3128"
    assert "abc123secret" not in repr(settings)


def test_no_source_is_none(site):
    assert site.load().signals == ()


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        ('[signal.x]\nkind = "casio"', "signal.x.kind", 'did you mean "caiso"?'),
        ("[signal.x]", "signal.x.kind", "is missing"),
        ('[signal.x]\nkind = "caiso"\nproxi = "http://p:1"', "signal.x.proxi", 'did you mean "proxy"?'),
        ('[signal.x]\nkind = "caiso"\nproxy = "proxy:3128"', "signal.x.proxy", "http://proxy.example:3128"),
        ('[signal.x]\nkind = "caiso"\nproxy = "http://me:pw@p:1"', "signal.x.proxy", "holds a login"),
        ('[signal.x]\nkind = "caiso"\nzones = ["US-CAL-CISO"]', "signal.x.zones", "one zone only"),
        ('[signal.x]\nkind = "caiso"\napi_key_env = "K"', "signal.x.api_key_env", "needs no key"),
        ('[signal.x]\nkind = "caiso"\npath = "/x"', "signal.x.path", 'only the kind "file"'),
        ('[signal.x]\nkind = "eia930"\nzones = ["US-NY-NYIS"]', "signal.x.api_key_file", "wants a key"),
        ('[signal.x]\nkind = "eia930"\napi_key = "s3cr3t"', "signal.x.api_key", "of its own"),
        ('[signal.x]\nkind = "eia930"\napi_key_env = "NONE"', "signal.x.zones", "is missing"),
        ('[signal.x]\nkind = "file"\npath = "/x"\nzones = ["new york"]', "signal.x.zones", "US-CAL-CISO"),
        ('[signal.x]\nkind = "file"\npath = "x"\nzones = ["DE"]', "signal.x.path", "starts with /"),
        ('[signal.x]\nkind = "file"\nzones = []', "signal.x.zones", "names no zone"),
        ('[signal.X_Y]\nkind = "caiso"', "signal.X_Y", "at most 32"),
        ('[signal]\nkind = "caiso"', "signal.kind", "[signal.NAME]"),
        ("[[signal]]", "signal", "[signal.NAME]"),
        ("[signals]", "signals", 'did you mean "signal"?'),
    ],
)
def test_a_mistake_is_named_with_its_mend_and_no_secret(site, text, where, said):
    problems = site.add(f"\n{text}\n").problems()

    assert said in problems[where]
    assert not any("s3cr3t" in text or "pw" in text for text in problems.values())
