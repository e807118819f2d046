"""Who may reach what, as the NetworkPolicies say it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.kustomize import Labels, build_with, of_kind, selects, templates

ANYWHERE = "0.0.0.0/0"


class Network:
    def __init__(self, text: str) -> None:
        self.policies = [policy["spec"] for policy in of_kind(text, "NetworkPolicy")]
        (rayjob,), (board,) = of_kind(text, "RayJob"), of_kind(text, "Deployment")
        pods = {**templates(rayjob), "tensorboard": board["spec"]["template"]}
        types = {"head": "head", "on-demand": "worker", "spot": "worker"}  # KubeRay's own label
        self.pods: dict[str, Labels] = {
            who: {**pod["metadata"]["labels"], "ray.io/node-type": types.get(who, "")} for who, pod in pods.items()
        }

    def outside(self, who: str) -> set[tuple[str, int]]:
        """Addresses and ports outside the cluster, but for those of DNS."""
        return {
            (peer["ipBlock"]["cidr"], port["port"])
            for rule in self._rules(who, "egress")
            for peer in rule["to"]
            for port in rule.get("ports", [])
            if "ipBlock" in peer and port["port"] != 53
        }

    def reaches(self, who: str, whom: str, port: int) -> bool:
        return self._lets(who, "egress", "to", whom, port) and self._lets(whom, "ingress", "from", who, port)

    def _rules(self, who: str, direction: str) -> list[dict[str, Any]]:
        chosen = [policy for policy in self.policies if selects(policy["podSelector"], self.pods[who])]
        return [rule for policy in chosen for rule in policy.get(direction, [])]

    def _lets(self, who: str, direction: str, peers: str, other: str, port: int) -> bool:
        return any(
            set(peer) == {"podSelector"}
            and selects(peer["podSelector"], self.pods[other])
            and ("ports" not in rule or port in [each["port"] for each in rule["ports"]])
            for rule in self._rules(who, direction)
            for peer in rule[peers]
        )


@pytest.fixture
def network(tmp_path: Path) -> Network:
    return Network(build_with(tmp_path, "overlays/gcp", ["tensorboard"]))


def test_the_internet_is_for_who_needs_it(network: Network) -> None:
    """The API server may be anywhere, too: on 443, or on 6443, which is the head's alone."""
    ports = {who: {port for where, port in network.outside(who) if where == ANYWHERE} for who in network.pods}
    workers = {"on-demand": {443}, "spot": {443}}
    assert ports == {"submitter": set(), "head": {443, 6443}, **workers, "tensorboard": {443}}


def test_the_submitter_has_no_cloud_identity(network: Network) -> None:
    assert network.outside("submitter") == set()
    assert ("169.254.169.254/32", 80) in network.outside("head")


def test_the_submitter_reaches_the_head_s_dashboard_and_nothing_else(network: Network) -> None:
    assert network.reaches("submitter", "head", 8265)
    assert not network.reaches("submitter", "head", 6379)
    assert not network.reaches("submitter", "on-demand", 8265)


def test_ray_s_own_pods_reach_each_other_on_every_port(network: Network) -> None:
    for who, whom in (("head", "spot"), ("spot", "head"), ("on-demand", "spot")):
        assert network.reaches(who, whom, 34567)
    assert not network.reaches("tensorboard", "head", 8265)
