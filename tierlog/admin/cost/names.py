"""Who is who in a cluster: the owners that topics name in their configs, and the groups that clients belong to."""

from __future__ import annotations

from collections.abc import Iterable

from tiering.cost.owners import Rule, rule_for
from tierlog.admin.client import Client
from tierlog.admin.topic_details import topic_configs
from tierlog.admin.topics import existing
from tierlog.config.topic_table import COST_CENTER, OWNER
from tierlog.wire.messages.describe_groups import DescribeGroupsRequest, DescribeGroupsResponse
from tierlog.wire.messages.list_groups import ListGroupsRequest, ListGroupsResponse


def owners_of(
    client: Client | None, topics: Iterable[str], rules: tuple[Rule, ...]
) -> dict[str, tuple[str, str]]:
    """Owner and cost centre of each topic that has one. A topic's own configs win over the rules."""
    found: dict[str, tuple[str, str]] = {}
    for topic in topics:
        rule = rule_for(rules, topic)
        if rule is not None:
            found[topic] = (rule.owner, rule.cost_center)
    if client is None:
        return found
    wanted = set(topics)
    known = [row.name or "" for row in existing(client, None) if row.name in wanted]
    for topic, configs in topic_configs(client, known).items():
        values = {config.name: config.value or "" for config in configs}
        if values.get(OWNER):
            found[topic] = (values[OWNER], values.get(COST_CENTER, ""))
    return found


def retention_of(client: Client | None, topics: set[str]) -> dict[str, int]:
    """``retention.ms`` of these topics, where a cluster can tell."""
    if client is None:
        return {}
    known = [row.name or "" for row in existing(client, None) if row.name in topics]
    found = {}
    for topic, configs in topic_configs(client, known).items():
        values = {config.name: config.value for config in configs}
        found[topic] = int(values.get("retention.ms") or -1)
    return found


def groups_of(client: Client) -> dict[tuple[str, str], str]:
    """Groups by client id and host of their present members; a client id that only one group uses is known on any host."""
    found: dict[tuple[str, str], str] = {}
    by_client: dict[str, set[str]] = {}
    for broker in client.metadata([]).brokers:
        for group, client_id, host in _members(client, broker.node_id):
            found[client_id, host.removeprefix("/")] = group
            by_client.setdefault(client_id, set()).add(group)
    lone = {(client_id, ""): min(groups) for client_id, groups in by_client.items() if len(groups) == 1}
    return found | lone


def _members(client: Client, node_id: int) -> list[tuple[str, str, str]]:
    """Group, client id and host of all members of the groups that this broker coordinates."""
    broker = client.node(node_id)
    listed = [row.group_id for row in broker.request(ListGroupsRequest(), ListGroupsResponse).groups]
    if not listed:
        return []
    answer = broker.request(DescribeGroupsRequest(groups=listed), DescribeGroupsResponse)
    return [
        (group.group_id, member.client_id, member.client_host)
        for group in answer.groups
        for member in group.members
    ]
