"""What may not go through a proxy: the addresses of a run's own processes."""

from __future__ import annotations

import os
import socket

import pytest

from job.run.proxies import bypass_proxies, explain_unformed, proxies_in_words, unreachable
from job.run.strategy import free_addresses, group_addresses, join_group

NAMES = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy", "no_proxy", "no_grpc_proxy")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        for spelling in (name, name.upper()):
            monkeypatch.setenv(spelling, "")  # so that what a test sets is undone
            monkeypatch.delenv(spelling)
    monkeypatch.setenv("TF_CONFIG", "")


def test_without_a_proxy_nothing_is_set() -> None:
    bypass_proxies(["10.0.0.1"])
    assert "no_proxy" not in os.environ


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ({}, {"no_proxy": "localhost,127.0.0.1,::1,10.0.0.1"}),
        ({"no_proxy": "*"}, {"no_proxy": "*"}),
        ({"no_proxy": ".corp, 10.0.0.1"}, {"no_proxy": ".corp,10.0.0.1,localhost,127.0.0.1,::1"}),
        (
            {"NO_PROXY": ".corp"},
            dict.fromkeys(("NO_PROXY", "no_proxy"), ".corp,localhost,127.0.0.1,::1,10.0.0.1"),
        ),
        (
            {"no_grpc_proxy": "a"},
            {"no_proxy": "localhost,127.0.0.1,::1,10.0.0.1", "no_grpc_proxy": "a,localhost,127.0.0.1,::1,10.0.0.1"},
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("proxy", ["http_proxy", "HTTPS_PROXY", "grpc_proxy", "all_proxy"])
def test_what_is_excepted_already_stays(
    proxy: str, told: dict[str, str], found: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(proxy, "http://proxy:3128")
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    for _ in range(2):
        bypass_proxies(["10.0.0.1", "10.0.0.1"])
        assert {
            name: os.environ[name] for name in (*NAMES, "NO_PROXY") if name in os.environ and "no" in name.lower()[:2]
        } == found


def test_a_worker_excepts_its_whole_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    join_group(["10.0.0.1:80", "[fd00::1]:81"], 0)
    assert os.environ["no_proxy"].endswith("10.0.0.1,fd00::1")


def test_passwords_of_proxies_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@proxy:3128")
    monkeypatch.setenv("no_proxy", ".corp")
    assert proxies_in_words() == "HTTPS_PROXY=http://proxy:3128, no_proxy=.corp"


def test_a_group_that_does_not_form_says_who_is_away_and_which_proxies_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = f"127.0.0.1:{server.getsockname()[1]}"
        (away,) = free_addresses("127.0.0.1")
        assert unreachable([here, away])[0].startswith(f"{away} (")
        join_group([here, away], 0)
        assert group_addresses() == [here, away]
        told = explain_unformed(group_addresses(), proxies_in_words(), 120.0)
        assert f"workers ({here}, {away}) did not come together in 120 s: nobody answers at {away} (" in told
        assert "http_proxy=http://proxy:3128, no_proxy=localhost,127.0.0.1,::1)." in told
        told = explain_unformed([here, here], "", 120.0)
        assert told.endswith("but they do not get on. Check network policies and firewalls between the workers.")
