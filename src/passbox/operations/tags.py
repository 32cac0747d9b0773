"""Tags of resources, on both services: a resource's owner puts them on, takes them off and reads them.

Which kinds can be tagged through which service is the pattern of `resourceArn` in the service's model.
"""

from collections.abc import Mapping

from passbox.access.call import Call, invalid
from passbox.operations.registry import Output, Params, operation
from passbox.state import resources

MOST = 50  # of the user's own, by the documentation; the models' shapes allow 200


def check_tags(tags: Mapping[str, str] | None) -> None:
    """Refuses reserved keys and too many tags; creating operations call it with the request's `tags`."""
    for key in tags or {}:
        if key.lower().startswith("aws:"):
            raise invalid("tags", f"The tag key {key} begins with `aws:`, which is reserved; choose another.")
    if len(tags or {}) > MOST:
        raise invalid("tags", f"A resource can have {MOST} tags, not {len(tags or {})}; remove some.")


@operation("cleanrooms.TagResource")
@operation("cleanroomsml.TagResource")
def tag_resource(call: Call, params: Params) -> Output:
    """Adds tags; a key that is there already gets the new value."""
    tags = {**call.target.body.get("tags", {}), **params["tags"]}
    check_tags(tags)
    resources.change(call.tx, call.target, body={"tags": tags})
    return {}


@operation("cleanrooms.UntagResource")
@operation("cleanroomsml.UntagResource")
def untag_resource(call: Call, params: Params) -> Output:
    """Removes tags by key; keys that are not there are ignored."""
    gone = set(params["tagKeys"])
    tags = {key: value for key, value in call.target.body.get("tags", {}).items() if key not in gone}
    resources.change(call.tx, call.target, body={"tags": tags})
    return {}


@operation("cleanrooms.ListTagsForResource")
@operation("cleanroomsml.ListTagsForResource")
def list_tags_for_resource(call: Call, params: Params) -> Output:
    """All tags of a resource."""
    return {"tags": call.target.body.get("tags", {})}
