"""The table of permissions in docs/cloud.md: what the policies allow, and the code that needs it."""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

import pytest

from support.hcl import CLOUDS, ROOT, Body, of_kind

WHERE = {
    "data_bucket": "data",
    "store_bucket": "store",
    "watch_writes": "its part of the store",
    "kms_key": "key",
    "queue": "queue",
    "subscription": "queue",
}
"""What the table calls that which a policy names by a variable."""


class Row(NamedTuple):
    who: str
    permission: str
    on: str


def table(cloud: str) -> list[tuple[Row, str, str]]:
    """(row, file, call) of docs/cloud.md."""
    text = (ROOT / "docs/cloud.md").read_text()
    section = re.search(rf"^### {cloud.upper()}\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, f"docs/cloud.md has no table of permissions for {cloud}"
    rows = re.findall(r"^\| (run|watch) \| `(.+?)` \| (.+?) \| `(.+?)`: `(.+?)` \|$", section[1], re.MULTILINE)
    return [(Row(who, permission, on), file, call) for who, permission, on, file, call in rows]


def of_aws() -> Counter[Row]:
    documents = of_kind("modules/aws/identity", "data", "aws_iam_policy_document")
    return Counter(
        Row(who, action, target(resource))
        for who in ("run", "watch")
        for statement in documents[who]["statement"]
        for action in statement["actions"]
        for resource in resources(statement)
    )


def of_gcp() -> Counter[Row]:
    folder = "modules/gcp/identity"
    roles = of_kind(folder, "resource", "google_project_iam_custom_role")
    found: Counter[Row] = Counter()
    for kind in ("google_storage_bucket_iam_member", "google_pubsub_subscription_iam_member"):
        for member in of_kind(folder, "resource", kind).values():
            role = re.fullmatch(r"\$\{google_project_iam_custom_role\.(\w+)\.name\}", member["role"])
            who = re.fullmatch(r'\$\{google_service_account\.this\["(\w+)"\]\.member\}', member["member"])
            assert role, member
            assert who, member
            on = target(member.get("bucket") or member["subscription"])
            on = f"its part of the {on}" if "condition" in member else on
            found.update(Row(who[1], permission, on) for permission in roles[role[1]]["permissions"])
    return found


def resources(statement: Body) -> list[str]:
    """A list, or a reference to one."""
    named = statement["resources"]
    return [named] if isinstance(named, str) else named


def target(reference: str) -> str:
    """`${var.data_bucket_arn}/*` -> `data`."""
    name = re.search(r"(?:var|local)\.(\w+?)(_arn)?\b", reference)
    assert name, reference
    return WHERE[name[1]]


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_table_is_what_the_policies_allow(cloud: str) -> None:
    allowed = {"aws": of_aws, "gcp": of_gcp}[cloud]()
    assert len(allowed) > 8
    assert Counter(row for row, _, _ in table(cloud)) == allowed


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_permission_is_needed_by_the_code_that_is_named(cloud: str) -> None:
    for row, file, call in table(cloud):
        assert call in (ROOT / file).read_text(), f"{row}: {file} has no {call}"
