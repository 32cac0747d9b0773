"""What a member brings into a collaboration: its row, and the part of its record that all nouns share."""

from collections.abc import Mapping
from typing import Any

from passbox import names
from passbox.access.call import Call
from passbox.operations.registry import Output, Params
from passbox.state.resources import Resource


def new(
    call: Call,
    kind: str,
    name: str | None,
    body: Mapping[str, Any],
    *,
    status: str | None = None,
    parent: str | None = None,
    id: str | None = None,
    arn: str | None = None,
) -> Resource:
    """A row under the call's membership, not stored yet.

    arn: `…:membership/MEMBERSHIP/KIND-WITH-DASHES/ID` where none is given
    """
    now, id = names.now(), id or names.new_id()
    place = f"membership/{call.membership.id}/{kind.replace('_', '-')}/{id}"
    return Resource(
        kind=kind,
        id=id,
        arn=arn or names.arn("cleanrooms-ml", call.room.region, call.account, place),
        account=call.account,
        collaboration=call.collaboration.id,
        membership=call.membership.id,
        parent=parent,
        name=name,
        status=status,
        created=now,
        updated=now,
        body=body,
    )


def asked(params: Params) -> dict[str, Any]:
    """The request as a row's body keeps it: without what has a column of its own."""
    return {key: value for key, value in params.items() if key not in ("name", "membershipIdentifier")}


def described(row: Resource) -> Output:
    """The row as its modelled record, its ARN aside; a scope's shape leaves out what it must not show."""
    return {
        **row.body,
        "membershipIdentifier": row.membership,
        "collaborationIdentifier": row.collaboration,
        "creatorAccountId": row.account,
        "name": row.name,
        "status": row.status,
        "createTime": row.created,
        "updateTime": row.updated,
    }
