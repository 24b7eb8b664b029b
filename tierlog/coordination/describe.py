"""The answers of ListGroups and DescribeGroups. Reads only."""

from __future__ import annotations

from collections.abc import Iterable

from tierlog.coordination.classic_group import EMPTY, STABLE, ClassicGroup
from tierlog.errors import ErrorCode
from tierlog.wire.messages.describe_groups import DescribedGroup, DescribedGroupMember
from tierlog.wire.messages.list_groups import ListedGroup

GROUP_TYPE = "classic"
ERROR_FOR_UNKNOWN_SINCE = 6  # DescribeGroups version; older ones show an unknown group as Dead


def list_groups(
    group_ids: Iterable[str], groups: dict[str, ClassicGroup], states: list[str], types: list[str]
) -> list[ListedGroup]:
    """The rows of the groups in ``states`` and of ``types``; an empty filter matches all, case does not matter."""
    wanted_states = {state.lower() for state in states}
    if types and GROUP_TYPE not in {name.lower() for name in types}:
        return []
    rows = []
    for group_id in group_ids:
        group = groups.get(group_id)
        state = EMPTY if group is None else group.state
        if wanted_states and state.value.lower() not in wanted_states:
            continue
        rows.append(
            ListedGroup(
                group_id=group_id,
                protocol_type=(group.protocol_type or "") if group is not None else "",
                group_state=state.value,
                group_type=GROUP_TYPE,
            )
        )
    return rows


def describe_group(
    group_id: str, group: ClassicGroup | None, exists: bool, api_version: int
) -> DescribedGroup:
    """One row. As in Kafka, only a Stable group is shown with member metadata and protocol."""
    if not exists:
        if api_version < ERROR_FOR_UNKNOWN_SINCE:
            return DescribedGroup(group_id=group_id, group_state="Dead")
        return DescribedGroup(
            group_id=group_id,
            group_state="Dead",
            error_code=ErrorCode.GROUP_ID_NOT_FOUND,
            error_message=f"Group {group_id} not found.",
        )
    if group is None:
        return DescribedGroup(group_id=group_id, group_state=EMPTY.value)
    is_stable = group.state is STABLE
    return DescribedGroup(
        group_id=group_id,
        group_state=group.state.value,
        protocol_type=group.protocol_type or "",
        protocol_data=(group.protocol_name or "") if is_stable else "",
        members=[
            DescribedGroupMember(
                member_id=member.member_id,
                group_instance_id=member.instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                member_metadata=member.metadata(group.protocol_name) if is_stable else b"",
                member_assignment=member.assignment,
            )
            for member in group.members.values()
        ],
    )
