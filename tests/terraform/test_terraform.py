"""What matters most of the cloud: what is public, what may be done, what costs while nobody trains.

That buckets are closed, and that pods do not reach the identity of their node, checkov looks at: `make lint-terraform`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
import yaml

from support import kustomize
from support.hcl import CLOUDS, EXAMPLES, MODULES, ROOT, TERRAFORM, Body, blocks, everywhere, locals_of, of_kind

PINS = {"aws": "~> 6.69", "google": "~> 8.7", "helm": "~> 3.3"}
PLATFORM = (ROOT / "k8s/platform/README.md").read_text()
GPU_POOLS = {
    "aws": of_kind("modules/aws/cluster", "resource", "aws_eks_node_group")["gpu"],
    "gcp": of_kind("modules/gcp/cluster", "resource", "google_container_node_pool")["gpu"],
}
CAN_T_BE_LIMITED = re.compile("(autoscaling|ec2):(Describe|GetInstanceTypesFrom)[A-Za-z]+")
"""Actions that look, and for which AWS knows no resources."""


# What is public


def test_nothing_is_granted_to_everybody() -> None:
    members = [member for _, member in granted("member")]
    assert members
    assert not [member for member in members if "allUsers" in member or "allAuthenticatedUsers" in member]


def test_objects_are_read_over_tls_alone() -> None:
    policy = of_kind("modules/aws/storage", "resource", "aws_s3_bucket_policy")["this"]
    assert policy["for_each"] == "${aws_s3_bucket.this}"
    assert policy["policy"] == "${data.aws_iam_policy_document.tls_only[each.key].json}"
    (statement,) = of_kind("modules/aws/storage", "data", "aws_iam_policy_document")["tls_only"]["statement"]
    (condition,) = statement["condition"]
    assert (statement["effect"], statement["actions"], condition["values"]) == ("Deny", ["s3:*"], ["false"])
    assert condition["variable"] == "aws:SecureTransport"


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_whole_internet_may_not_ask_the_api_server(cloud: str) -> None:
    rules = of_kind(f"modules/{cloud}/cluster", "variable")["api_cidrs"]["validation"]
    assert any('split("/", cidr)[1]) >= 8' in rule["condition"] for rule in rules)


# What may be done


def allowed() -> Iterator[tuple[str, Body]]:
    for where, document in everywhere("data", "aws_iam_policy_document").items():
        for statement in document["statement"]:
            if statement.get("effect", "Allow") == "Allow":
                yield where, statement


def granted(name: str) -> Iterator[tuple[str, str]]:
    for folder in (*MODULES, *EXAMPLES):
        for block in blocks(folder):
            if block.kind == "resource" and re.search("_iam_(member|binding|policy)$", block.labels[0]):
                yield f"{folder}: {'.'.join(block.labels)}", block.body.get(name, "")


def test_no_action_has_a_wildcard() -> None:
    statements = list(allowed())
    assert len(statements) > 15
    for where, statement in statements:
        assert not [action for action in statement["actions"] if "*" in action], where
        assert "not_actions" not in statement, where
    for where, role in everywhere("resource", "google_project_iam_custom_role").items():
        assert not [permission for permission in role["permissions"] if "*" in permission], where


def test_a_resource_is_named_where_it_can_be() -> None:
    for where, statement in allowed():
        if "*" in statement.get("resources", []):
            assert all(CAN_T_BE_LIMITED.fullmatch(action) for action in statement["actions"]), where


def test_no_policy_is_written_past_the_checks() -> None:
    for where, policy in everywhere("resource", "aws_iam_role_policy").items():
        assert re.search(r"aws_iam_policy_document|each\.value\.policy", policy["policy"]), where
    assert not everywhere("resource", "aws_iam_policy")
    assert not everywhere("resource", "aws_iam_user")


def test_roles_of_gcp_are_small_ones() -> None:
    roles = {role for _, role in granted("role")}
    assert {role for role in roles if role.startswith("roles/")} == {
        "roles/artifactregistry.reader",
        "roles/cloudkms.cryptoKeyEncrypterDecrypter",
        "roles/iam.workloadIdentityUser",
        "roles/pubsub.publisher",
        "roles/pubsub.subscriber",
    }
    (on_the_project,) = everywhere("resource", "google_project_iam_member").values()
    assert on_the_project["role"] == "${each.key}"
    assert re.findall("roles/[A-Za-z.]+", on_the_project["for_each"]) == [
        "roles/container.defaultNodeServiceAccount",
        "roles/serviceusage.serviceUsageConsumer",
    ]


@pytest.mark.parametrize("cloud", CLOUDS)
def test_identities_are_those_of_the_manifests(cloud: str) -> None:
    manifests = [*yaml.safe_load_all((ROOT / "k8s/base/access.yaml").read_text())]
    accounts = {each["metadata"]["name"] for each in manifests if each["kind"] == "ServiceAccount"}
    (namespace,) = yaml.safe_load_all((ROOT / "k8s/base/namespace.yaml").read_text())
    defaults = {name: body.get("default") for name, body in of_kind(f"modules/{cloud}/identity", "variable").items()}
    assert defaults["namespace"] == namespace["metadata"]["name"]
    assert defaults["run_service_account"] in accounts


def test_a_role_of_aws_is_for_one_service_account() -> None:
    documents = of_kind("modules/aws/identity", "data", "aws_iam_policy_document")
    (statement,) = documents["trust"]["statement"]
    conditions = {each["variable"]: (each["test"], each["values"]) for each in statement["condition"]}
    assert conditions == {
        "${local.issuer}:sub": (
            "StringEquals",
            ["system:serviceaccount:${var.namespace}:${each.value.service_account}"],
        ),
        "${local.issuer}:aud": ("StringEquals", ["sts.amazonaws.com"]),
    }


def test_an_identity_of_gcp_is_for_one_service_account() -> None:
    (binding,) = of_kind("modules/gcp/identity", "resource", "google_service_account_iam_member").values()
    assert binding["role"] == "roles/iam.workloadIdentityUser"
    assert binding["member"] == "serviceAccount:${var.workload_pool}[${var.namespace}/${each.value}]"
    pool = of_kind("modules/gcp/cluster", "output")["workload_pool"]["value"]
    assert pool == "${google_container_cluster.this.workload_identity_config[0].workload_pool}"  # once it is there
    assert of_kind("examples/gcp", "module")["identity"]["workload_pool"] == "${module.cluster.workload_pool}"


def test_a_first_plan_knows_the_project() -> None:
    """A data source of a module that depends on the project's services is read too late to name buckets."""
    ((where, project),) = everywhere("data", "google_project").items()
    assert where.startswith("examples/gcp")
    assert project == {"project_id": "${var.project}"}
    modules = of_kind("examples/gcp", "module")
    assert {name for name, body in modules.items() if body.get("project") == "${local.project}"} == {
        name for name in modules if name != "kuberay" and "project" in of_kind(f"modules/gcp/{name}", "variable")
    }


def test_images_are_streamed_by_nodes_that_may() -> None:
    """The role is in the test of the roles."""
    assert "containerfilesystem" in of_kind("examples/gcp", "resource")["this"]["for_each"]


# What costs while nobody trains


@pytest.mark.parametrize("cloud", CLOUDS)
def test_nodes_of_heads_are_for_heads_alone(cloud: str) -> None:
    kind = {"aws": "aws_eks_node_group", "gcp": "google_container_node_pool"}[cloud]
    pool = of_kind(f"modules/{cloud}/cluster", "resource", kind)["head"]
    (taint,) = (pool if cloud == "aws" else pool["node_config"][0])["taint"]
    assert taint == {"key": "thaw/head", "value": "true", "effect": "NO_SCHEDULE"}
    (rayjob,) = kustomize.of_kind(kustomize.build(ROOT / "k8s/overlays" / cloud), "RayJob")
    toleration = {"key": "thaw/head", "operator": "Exists", "effect": "NoSchedule"}
    tolerated = {
        who: toleration in template["spec"].get("tolerations", [])
        for who, template in kustomize.templates(rayjob).items()
    }
    assert {who for who, tolerates in tolerated.items() if tolerates} == {"head"}


def test_no_zone_is_balanced_at_the_cost_of_a_head() -> None:
    head = of_kind("modules/aws/cluster", "resource", "aws_eks_node_group")["head"]
    assert head["subnet_ids"] == ["${var.subnet_ids[0]}"]


def test_operators_have_a_node_from_the_beginning() -> None:
    system = of_kind("modules/gcp/cluster", "resource", "google_container_node_pool")["system"]
    assert system["initial_node_count"] == 1
    assert system["lifecycle"] == [{"ignore_changes": ["initial_node_count"]}]


def test_add_ons_go_up_with_the_cluster() -> None:
    (latest,) = everywhere("data", "aws_eks_addon_version").values()
    assert latest["kubernetes_version"] == "${var.kubernetes_version}"
    addons = everywhere("resource", "aws_eks_addon")
    assert len(addons) == 2
    for where, addon in addons.items():
        assert addon["addon_version"].startswith("${data.aws_eks_addon_version.this["), where
        assert addon["resolve_conflicts_on_update"] == "OVERWRITE", where


@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_gpu_pool_is_tainted(cloud: str) -> None:
    """With the taints that k8s/components/gpu and spot tolerate, and for spot nodes alone the one of spot."""
    pool = GPU_POOLS[cloud]
    where = pool if cloud == "aws" else pool["node_config"][0]
    assert where["taint"] == [{"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}]
    (spot,) = [each["taint"] for each in where["dynamic"] if "taint" in each]
    assert spot["for_each"] == '${each.value.spot ? ["true"] : []}'
    assert spot["content"] == [{"key": "thaw/spot", "value": "${taint.value}", "effect": "NO_SCHEDULE"}]
    assert 'each.value.spot ? {"thaw/spot" = "true"} : {}' in where["labels"]


@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_gpu_pool_scales_from_nothing(cloud: str) -> None:
    pool = GPU_POOLS[cloud]
    if cloud == "aws":
        (scaling,) = pool["scaling_config"]
        assert (scaling["min_size"], scaling["desired_size"]) == (0, 0)
        assert "gpu" in locals_of("modules/aws/cluster")["storage_gb"]  # or the autoscaler would leave it at nothing
    else:
        (scaling,) = pool["autoscaling"]
        assert (scaling["total_min_node_count"], pool["initial_node_count"]) == (0, 0)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_only_pools_that_the_tests_know_have_gpus(cloud: str) -> None:
    kind = {"aws": "aws_eks_node_group", "gcp": "google_container_node_pool"}[cloud]
    pools = of_kind(f"modules/{cloud}/cluster", "resource", kind)
    assert set(pools) == {"system", "head", "gpu"}
    with_gpu = {name for name, pool in pools.items() if re.search("NVIDIA|guest_accelerator", json.dumps(pool))}
    assert with_gpu == {"gpu"}


# How the parts fit


def test_both_clouds_have_the_same_outputs() -> None:
    aws, gcp = ({*of_kind(example, "output")} for example in EXAMPLES)
    assert aws == gcp
    assert aws == {*json.loads((ROOT / "tests/terraform/outputs/aws.json").read_text())}


@pytest.mark.parametrize("folder", [*MODULES, *EXAMPLES])
def test_versions_are_pinned(folder: str) -> None:
    (versions,) = [block.body for block in blocks(folder) if block.kind == "terraform"]
    providers = {name: each["version"] for name, each in versions["required_providers"][0].items()}
    assert providers.items() <= PINS.items()
    assert versions["required_version"] == ">= 1.11"
    for release in of_kind(folder, "resource", "helm_release").values():
        assert re.fullmatch(r"\d+\.\d+\.\d+", release["version"])


def test_operators_are_those_of_the_platform() -> None:
    (kuberay,) = of_kind("modules/kuberay", "resource", "helm_release").values()
    (kueue,) = of_kind("modules/kueue", "resource", "helm_release").values()
    assert re.findall(r"--version (\S+)", PLATFORM) == [kuberay["version"]] * 2
    assert re.findall(r"kueue/releases/download/v(\S+)/", PLATFORM) == [kueue["version"]]
    assert f"--namespace {kuberay['namespace']} " in PLATFORM
    assert kuberay["values"] == ['${file("${path.module}/../../../k8s/platform/kuberay/values.yaml")}']


def test_the_queue_takes_events_of_its_bucket_alone() -> None:
    (statement,) = of_kind("modules/aws/arrival", "data", "aws_iam_policy_document")["events"]["statement"]
    assert statement["principals"] == [{"type": "Service", "identifiers": ["s3.amazonaws.com"]}]
    assert (statement["actions"], statement["resources"]) == (["sqs:SendMessage"], ["${aws_sqs_queue.events.arn}"])
    assert {(each["test"], each["variable"], *each["values"]) for each in statement["condition"]} == {
        ("ArnEquals", "aws:SourceArn", "${local.bucket_arn}"),
        ("StringEquals", "aws:SourceAccount", "${data.aws_caller_identity.current.account_id}"),
    }
    assert locals_of("modules/aws/arrival")["bucket_arn"].endswith(":s3:::${var.bucket}")


def test_the_topic_takes_events_of_cloud_storage_alone() -> None:
    members = of_kind("modules/gcp/arrival", "resource", "google_pubsub_topic_iam_member")
    on_events = [each for each in members.values() if each["topic"] == "${google_pubsub_topic.events.id}"]
    assert [(each["role"], each["member"]) for each in on_events] == [
        ("roles/pubsub.publisher", "${data.google_storage_project_service_account.current.member}")
    ]


def test_what_cannot_be_used_is_kept() -> None:
    queues = of_kind("modules/aws/arrival", "resource", "aws_sqs_queue")
    assert "deadLetterTargetArn = aws_sqs_queue.dead.arn" in queues["events"]["redrive_policy"]
    subscriptions = of_kind("modules/gcp/arrival", "resource", "google_pubsub_subscription")
    (policy,) = subscriptions["events"]["dead_letter_policy"]
    assert policy["dead_letter_topic"] == subscriptions["dead"]["topic"] == "${google_pubsub_topic.dead.id}"


def test_a_destroy_does_not_take_the_store() -> None:
    kept = [
        *of_kind("modules/aws/storage", "resource", "aws_s3_bucket").values(),
        *of_kind("modules/aws/storage", "resource", "aws_kms_key").values(),
        *of_kind("modules/gcp/storage", "resource", "google_storage_bucket").values(),
    ]
    assert len(kept) == 4
    assert all(body["lifecycle"][0]["prevent_destroy"] is True for body in kept)
    assert not [where for where, body in everywhere("resource", "aws_s3_bucket").items() if "force_destroy" in body]


@pytest.mark.parametrize("folder", MODULES)
def test_a_module_is_small_and_explains_itself(folder: str) -> None:
    assert all((TERRAFORM / folder / name).exists() for name in ("outputs.tf", "variables.tf", "README.md"))
    kinds = {block.kind for block in blocks(folder)}
    assert kinds <= {"resource", "data", "variable", "output", "locals", "terraform"}
    variables = of_kind(folder, "variable")
    assert len(variables) <= 12
    assert all({"type", "description"} <= variable.keys() for variable in variables.values())
    assert not [name for name in variables if re.match("create|enable", name)]
    assert not [block.labels for block in blocks(folder) if "count" in block.body]
    assert all(output["description"] for output in of_kind(folder, "output").values())
