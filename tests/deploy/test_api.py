"""The layer over the Kubernetes client, against a server that refuses, stutters and goes away."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from job.deploy import api as room
from job.deploy.api import CONFIGMAPS, RAYJOBS, Api, connect
from job.deploy.refusals import RUN, SUBMITTER, WATCHER, Conflict, Gone, NotAllowed, Role, Unreachable
from job.errors import ClusterError
from support.kube import BREAK, DROP, LOST, Kube

CONFIGMAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}, "data": {"a": "1", "b": "2"}}


def test_objects_are_created_read_merged_and_deleted(api: Api) -> None:
    assert api.get(CONFIGMAPS, "one") is None
    assert api.patch(CONFIGMAPS, "one", {}) is None
    assert not api.delete(CONFIGMAPS, "one")
    made = api.create(CONFIGMAPS, CONFIGMAP)
    assert made["metadata"]["uid"]
    with pytest.raises(Conflict, match="already exists"):
        api.create(CONFIGMAPS, CONFIGMAP)
    assert api.patch(CONFIGMAPS, "one", {"data": {"a": None, "c": "3"}})["data"] == {"b": "2", "c": "3"}
    assert [item["metadata"]["name"] for item in api.list(CONFIGMAPS).items] == ["one"]
    assert api.delete(CONFIGMAPS, "one")
    assert api.get(CONFIGMAPS, "one") is None


@pytest.mark.parametrize("fault", [DROP, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(fault: int, kube: Kube, api: Api) -> None:
    for _ in range(room.TRIES - 1):
        kube.answer("GET", "configmaps", fault)
    assert api.get(CONFIGMAPS, "one") is None
    assert len(kube.requests) == room.TRIES


@pytest.mark.parametrize("fault", [DROP, 503])
def test_what_does_not_pass_is_an_error_after_a_bounded_number_of_tries(fault: int, kube: Kube, api: Api) -> None:
    for _ in range(room.TRIES + 3):
        kube.answer("GET", "rayjobs", fault, {"message": "etcd is away"})
    with pytest.raises(Unreachable, match=rf"could not get rayjobs in {room.TRIES} tries: .*can be reached") as error:
        api.get(RAYJOBS, "one")
    assert error.value.exit_code == 6
    assert len(kube.requests) == room.TRIES


def test_an_answer_that_breaks_off_is_asked_for_again(kube: Kube, api: Api) -> None:
    api.create(CONFIGMAPS, CONFIGMAP)
    for breaks in (room.BREAKS, room.BREAKS + 1):
        for _ in range(breaks):
            kube.answer("GET", "configmaps", BREAK)
        if breaks == room.BREAKS:
            assert api.get(CONFIGMAPS, "one")
        else:
            with pytest.raises(Unreachable, match="connection to the Kubernetes API server broke"):
                api.get(CONFIGMAPS, "one")


@pytest.mark.parametrize(
    ("url", "fault"), [("http://127.0.0.1:1", "Connection refused"), ("https://127.0.0.1:PORT", "SSL")]
)
def test_a_server_that_does_not_take_the_connection_is_an_error(
    url: str, fault: str, kube: Kube, tmp_path: Path
) -> None:
    document = yaml.safe_load((tmp_path / "kubeconfig").read_text())
    cluster = document["clusters"][0]["cluster"]
    cluster["server"] = url.replace("PORT", cluster["server"].rpartition(":")[2])
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(document))
    with pytest.raises(Unreachable, match=f"could not get rayjobs in {room.TRIES} tries: .*{fault}"):
        connect(None, "thaw").get(RAYJOBS, "one")


def test_a_pause_is_as_long_as_the_server_asks_for_within_bounds(
    kube: Kube, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    for asked in ("7", "86400"):
        kube.answer("GET", "configmaps", 429, {"message": "slow down"}, Retry_After=asked)
    kube.answer("GET", "configmaps", 429, {"message": "slow down"})
    assert api.get(CONFIGMAPS, "one") is None
    assert pauses[:2] == [7, room.LONGEST_PAUSE]
    assert pauses[2] < 1


def test_a_create_whose_answer_was_lost_is_told_as_a_conflict(kube: Kube, api: Api) -> None:
    kube.answer("POST", "configmaps", LOST)
    with pytest.raises(Conflict):
        api.create(CONFIGMAPS, CONFIGMAP)
    assert kube.get("configmaps", "one")


def test_a_token_that_has_run_out_is_read_again(kube: Kube, api: Api, tmp_path: Path) -> None:
    kube.tokens = {"another"}
    path = tmp_path / "kubeconfig"
    path.write_text(path.read_text().replace("token: token", "token: another"))
    assert api.list(CONFIGMAPS).items == []
    kube.tokens = {"nobody's"}
    with pytest.raises(ClusterError, match=r"Not allowed to list configmaps in namespace thaw: .*log in.*thaw-submit"):
        api.list(CONFIGMAPS)


def test_who_may_not_is_told_what_to_bind(kube: Kube, api: Api) -> None:
    kube.answer("DELETE", "rayjobs", 403, {"message": 'rayjobs.ray.io "one" is forbidden'})
    with pytest.raises(ClusterError) as error:
        api.delete(RAYJOBS, "one")
    assert str(error.value) == (
        "Not allowed to delete rayjobs in namespace thaw: bind the role thaw-submit (k8s/base/access.yaml) to your "
        'user. The API server says: rayjobs.ray.io "one" is forbidden.'
    )


@pytest.mark.parametrize("status", [401, 403])
def test_what_was_allowed_before_is_asked_for_again(status: int, kube: Kube, api: Api) -> None:
    """A server that is starting refuses all, until its caches of roles are filled."""
    assert api.list(RAYJOBS).items == []
    asked = len(kube.requests)
    for _ in range(room.TRIES - 1):
        kube.answer("GET", "rayjobs", status, {"message": "forbidden"})
    assert api.list(RAYJOBS).items == []
    assert len(kube.requests) == asked + room.TRIES
    for _ in range(3 * room.TRIES):
        kube.answer("GET", "rayjobs", status, {"message": "forbidden"})
    with pytest.raises(
        Unreachable, match=r"Not allowed to list rayjobs in namespace thaw: .*thaw-submit.*It was allowed"
    ):
        api.list(RAYJOBS)


def test_another_request_than_those_that_were_allowed_is_refused_at_once(kube: Kube, api: Api) -> None:
    """A role may lack a verb: nobody waits for that to pass."""
    api.list(RAYJOBS)
    asked = len(kube.requests)
    kube.answer("DELETE", "rayjobs", 403, {"message": "forbidden"})
    with pytest.raises(NotAllowed, match="Not allowed to delete rayjobs"):
        api.delete(RAYJOBS, "one")
    assert len(kube.requests) == asked + 1


@pytest.mark.parametrize(
    ("role", "binding", "looking"),
    [
        (SUBMITTER, r"role thaw-submit \(k8s/base/access.yaml\)", "kubectl -n thaw get rayjobs"),
        (WATCHER, r"role thaw-watch \(k8s/components/watch/access.yaml\)", "kubectl -n thaw get rayjobs"),
        (RUN, r"role thaw-run \(k8s/base/access.yaml\)", "the NetworkPolicy of the head's pod in namespace thaw"),
    ],
)
def test_hints_are_for_who_asks(role: Role, binding: str, looking: str, kube: Kube) -> None:
    api = connect(None, "thaw", role)
    for status in (401, 403):
        kube.answer("PATCH", "rayjobs", status, {"message": "forbidden"})
        kube.answer("PATCH", "rayjobs", status, {"message": "forbidden"})
        with pytest.raises(NotAllowed, match=binding):
            api.patch(RAYJOBS, "one", {})
        kube.answers.clear()
    for _ in range(room.TRIES):
        kube.answer("PATCH", "rayjobs", 503, {"message": "away"})
    with pytest.raises(Unreachable, match=looking):
        api.patch(RAYJOBS, "one", {})


@pytest.mark.parametrize("verb", ["get", "list", "create"])
def test_a_cluster_without_kuberay_is_named(verb: str, kube: Kube, api: Api) -> None:
    kube.has_kuberay = False
    calls = {"get": lambda: api.get(RAYJOBS, "one"), "list": lambda: api.list(RAYJOBS)}
    with pytest.raises(ClusterError, match="KubeRay is not installed in this cluster: see k8s/platform/"):
        calls.get(verb, lambda: api.create(RAYJOBS, CONFIGMAP))()


def test_a_namespace_that_is_missing_is_named(kube: Kube) -> None:
    with pytest.raises(ClusterError, match="There is no namespace elsewhere: `kubectl apply -k` the overlay first"):
        connect(None, "elsewhere").create(CONFIGMAPS, CONFIGMAP)


def test_an_object_that_is_refused_is_answered_with_the_reason(kube: Kube, api: Api) -> None:
    kube.answer("POST", "rayjobs", 422, {"message": "spec.backoffLimit: Invalid value: -1"})
    with pytest.raises(ClusterError, match=r"refuses to create rayjobs .*backoffLimit: Invalid value: -1 \(422\)"):
        api.create(RAYJOBS, CONFIGMAP)


def test_what_is_no_api_server_is_told_so(kube: Kube, api: Api) -> None:
    kube.answer("GET", "configmaps", 200, "<html>Log in</html>")
    with pytest.raises(ClusterError, match="is no Kubernetes API server: it says '<html>Log in</html>'"):
        api.list(CONFIGMAPS)


def test_an_unknown_context_is_named(kube: Kube) -> None:
    with pytest.raises(ClusterError, match=r"the cluster of context nowhere is not in it.*Set KUBECONFIG or --context"):
        connect("nowhere", "thaw")


def test_a_pod_without_a_kubeconfig_is_in_its_own_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    (tmp_path / "token").write_text("the pod's")
    (tmp_path / "ca.crt").write_text("certificate")
    for name, file in (("SERVICE_TOKEN_FILENAME", "token"), ("SERVICE_CERT_FILENAME", "ca.crt")):
        monkeypatch.setattr(f"kubernetes.config.incluster_config.{name}", str(tmp_path / file))
    built: list[object] = []
    monkeypatch.setattr("kubernetes.client.ApiClient", built.append)
    connect(None, "thaw")
    assert built[0].host == "https://10.0.0.1:443"
    assert built[0].auth_settings()["BearerToken"]["value"] == "bearer the pod's"


def test_a_watch_tells_what_happened_since(kube: Kube, api: Api) -> None:
    version = api.list(CONFIGMAPS).version
    api.create(CONFIGMAPS, CONFIGMAP)
    api.patch(CONFIGMAPS, "one", {"data": {"a": "9"}})
    seen = api.watch(CONFIGMAPS, version)
    assert [next(seen)[0] for _ in range(2)] == ["ADDED", "MODIFIED"]
    kube.expire()
    assert list(seen) == []
    with pytest.raises(Gone, match="too old"):
        list(api.watch(CONFIGMAPS, version))


def test_a_watch_that_breaks_says_so(kube: Kube, api: Api) -> None:
    version = api.list(CONFIGMAPS).version
    seen = api.watch(CONFIGMAPS, version)
    api.create(CONFIGMAPS, CONFIGMAP)
    next(seen)
    kube.break_watches()
    with pytest.raises(Unreachable, match="broke"):
        next(seen)
