"""The ML configuration of a membership: where its member receives logs, metrics and results. One each."""

from passbox import names
from passbox.access import fetch
from passbox.access.call import Call
from passbox.operations.configured_model_algorithm import own_role
from passbox.operations.registry import Output, Params, operation
from passbox.state import resources
from passbox.state.resources import Resource

KIND = "ml_configuration"


@operation("cleanroomsml.PutMLConfiguration")
def put_ml_configuration(call: Call, params: Params) -> None:
    """Sets or replaces the membership's configuration."""
    location = params["defaultOutputLocation"]
    own_role(call, "defaultOutputLocation.roleArn", location["roleArn"])
    if "destination" in location:
        role = names.Role(location["roleArn"], call.membership.arn)
        call.room.objects.check(call.account, location["destination"]["s3Destination"]["s3Uri"], role)
    found = resources.first(call.tx, KIND, membership=call.membership.id)
    if found is not None:
        resources.change(call.tx, found, body={"defaultOutputLocation": location})
        return
    now, id = names.now(), names.new_id()
    resources.add(
        call.tx,
        Resource(
            kind=KIND,
            id=id,
            arn=f"{call.membership.arn}/ml-configuration",
            account=call.account,
            collaboration=call.collaboration.id,
            membership=call.membership.id,
            created=now,
            updated=now,
            body={"defaultOutputLocation": location},
        ),
    )


def _own(call: Call) -> Resource:
    found = resources.first(call.tx, KIND, membership=call.membership.id)
    return found or fetch.missing(KIND, f"of membership {call.membership.id}")


@operation("cleanroomsml.GetMLConfiguration")
def get_ml_configuration(call: Call, params: Params) -> Output:
    """The membership's configuration."""
    row = _own(call)
    return {
        **row.body,
        "membershipIdentifier": row.membership,
        "createTime": row.created,
        "updateTime": row.updated,
    }


@operation("cleanroomsml.DeleteMLConfiguration")
def delete_ml_configuration(call: Call, params: Params) -> None:
    """Deletes it; the member receives nothing any more."""
    resources.remove(call.tx, _own(call))
