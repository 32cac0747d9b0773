"""What the door asks of every query, whether its result feeds a channel or leaves: workers, and the gate."""

from collections.abc import Mapping
from dataclasses import replace

from passbox.access.call import Call, invalid
from passbox.access.fetch import missing
from passbox.analysis import ApprovedPlan, Purpose, spark_properties
from passbox.analysis.spark_properties import PropertyRefused
from passbox.errors import QueryRefused, ValidationException
from passbox.ledger import prices
from passbox.operations.registry import Params
from passbox.operations.submission import Cost
from passbox.state import questions, schemas

_WORKERS = {"CR.1X": (2, 128), "CR.4X": (2, 32), "CR.8X": (2, 16)}  # fewest and most of each type


def workers(
    compute: Params, place: str, allowed: Mapping[str, tuple[int, int]] = _WORKERS
) -> tuple[str, int]:
    """Type and number of the workers that a ComputeConfiguration asks for; 16 CR.1X where it says nothing.

    place: what refusals call the configuration; allowed: type → fewest and most
    """
    worker = compute.get("worker", {})
    type, number = worker.get("type", "CR.1X"), worker.get("number", 16)
    least, most = allowed[type]
    if not least <= number <= most:
        raise invalid(
            f"{place}.worker.number", f"{place}.worker.number must be {least} to {most} for {type}."
        )
    return type, number


def worker(call: Call, compute: Params, place: str) -> Params:
    """The modelled worker of a query, defaults filled in, whose Spark properties the engine can honour."""
    type, number = workers(compute, place)
    properties = compute.get("worker", {}).get("properties", {}).get("spark", {})
    try:
        spark_properties.session(properties, call.room.engine, type, number)
    except PropertyRefused as refused:
        field = f"{place}.worker.properties.spark"
        raise invalid(f"{field}.{refused.name}", f"{field}.{refused}") from refused
    return {"type": type, "number": number, **({"properties": {"spark": properties}} if properties else {})}


def sources(call: Call, plan: ApprovedPlan) -> list[str]:
    """The ids of the table associations that a plan reads."""
    return [row.id for row in schemas.named(call.tx, call.collaboration.id, plan.tables)]


def approved(call: Call, sql: Params, place: str, purpose: Purpose) -> ApprovedPlan:
    """What the gate lets through, at the door; the worker asks again.

    sql: modelled parameters with a text or a template; place: what refusals call them
    """
    answer = ask(call, sql, place, purpose)
    if isinstance(answer, QueryRefused):
        field = f"{place}.{'analysisTemplateArn' if 'analysisTemplateArn' in sql else 'queryString'}"
        message = answer.explained()
        raise ValidationException(message, fields=[(field, message)], reason="INVALID_QUERY") from answer
    return answer


def ask(call: Call, sql: Params, place: str, purpose: Purpose) -> ApprovedPlan | QueryRefused:
    """What the gate says, aside because parsing is slow."""
    if ("queryString" in sql) == ("analysisTemplateArn" in sql):
        raise invalid(place, f"{place}: give either queryString or analysisTemplateArn.")
    purpose = replace(purpose, engine=call.room.engine)
    question = questions.question(call.tx, call.collaboration.id, sql, purpose)
    if question is None:
        missing("analysis_template", sql["analysisTemplateArn"])
    field = f"{place}.analysisTemplateArn"
    if question.is_script:
        raise invalid(field, f"{field}: the analysis template is PySpark's; run it with StartProtectedJob.")
    if question.synthetic and purpose.additional_analysis is None:
        raise invalid(
            field,
            f"{field}: the analysis template makes synthetic data, for ML input channels only; name "
            "a template without syntheticDataParameters.",
        )

    def answer() -> ApprovedPlan | QueryRefused:
        try:
            return question.approve()
        except QueryRefused as refusal:
            return refusal

    found: ApprovedPlan | QueryRefused = call.aside(
        ("query", repr((question.tables, question.purpose))), answer
    )
    return found


def cost(payer: str, worker: Params) -> Cost:
    """The least that a query on so many workers costs; how long it runs, nobody knows before."""
    type, number = worker["type"], worker["number"]
    crpu = prices.CRPU_PER_WORKER[type] * number
    basis = (
        f"{number} {type} workers ({crpu} CRPU) for the minimum of {prices.MINIMUM_QUERY_SECONDS} s; "
        "a query that takes longer is charged by the second"
    )
    return Cost(prices.QUERY_COMPUTE, payer, prices.crpu_milliseconds(type, number, 0), basis)
