"""Where a result may go: additionalAnalyses of a table's rule, and the rule of its association.

A direct result needs every receiver in allowedResultReceivers; a result that feeds a model needs the model
algorithm association in allowedAdditionalAnalyses. An association without a rule allows neither. The owner
of a table is bound by its own rules like everyone else. This module knows accounts and ARNs; it must not
know SQL.
"""

from passbox.analysis.plan import Purpose, Table
from passbox.errors import QueryRefused


def enforce(table: Table, purpose: Purpose) -> None:
    """Refuse a purpose that the rules of one table do not allow."""
    kind = (table.rule_type or "").lower()
    allowed = str((table.rule or {}).get("additionalAnalyses") or "NOT_ALLOWED")
    if purpose.additional_analysis is not None:
        if allowed not in ("ALLOWED", "REQUIRED"):
            raise QueryRefused(
                f"The rule of {table.name} does not allow additional analyses (it says {allowed}): a result "
                "that holds its data may not feed a model.",
                rule=f"{kind}.additionalAnalyses",
                table=table.name,
            )
    elif allowed not in ("ALLOWED", "NOT_ALLOWED"):
        raise QueryRefused(
            f"The rule of {table.name} requires additional analyses: its data may only feed a model, never "
            "be returned directly.",
            rule=f"{kind}.additionalAnalyses",
            table=table.name,
        )
    if table.collaboration_rule is None:
        raise QueryRefused(
            f"The association of {table.name} has no collaboration analysis rule; its owner must add one "
            "before any result may leave.",
            rule="collaborationRule",
            table=table.name,
        )
    if purpose.additional_analysis is not None:
        _additional(table, purpose.additional_analysis)
    else:
        _direct(table, purpose.receivers)


def _additional(table: Table, arn: str) -> None:
    patterns = (table.collaboration_rule or {}).get("allowedAdditionalAnalyses") or []
    if not any(matches(str(pattern), arn) for pattern in patterns):
        raise QueryRefused(
            f"The collaboration rule of {table.name} does not allow {arn}; it allows: "
            + (", ".join(map(str, patterns)) or "nothing")
            + ".",
            rule="collaborationRule.allowedAdditionalAnalyses",
            table=table.name,
            allowed=patterns,
        )


def _direct(table: Table, receivers: tuple[str, ...]) -> None:
    allowed = (table.collaboration_rule or {}).get("allowedResultReceivers") or []
    if not receivers:
        raise QueryRefused(
            "A direct query must name who receives its result.",
            rule="collaborationRule.allowedResultReceivers",
            table=table.name,
        )
    for receiver in receivers:
        if receiver not in allowed:
            raise QueryRefused(
                f"The collaboration rule of {table.name} does not allow {receiver} to receive results; "
                "it allows: " + (", ".join(map(str, allowed)) or "nobody") + ".",
                rule="collaborationRule.allowedResultReceivers",
                table=table.name,
                allowed=allowed,
            )


def matches(pattern: str, arn: str) -> bool:
    """Whether `arn` is `pattern`, where each `*` stands for any characters; it never backtracks.

    The first piece must start the ARN and the last end it; those between are found leftmost, in order.
    """
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == arn
    *middle, last = rest
    if len(arn) < len(first) + len(last) or not arn.startswith(first) or not arn.endswith(last):
        return False
    place, end = len(first), len(arn) - len(last)
    for piece in middle:
        place = arn.find(piece, place, end)
        if place < 0:
            return False
        place += len(piece)
    return True
