"""The order of the gate's steps: text in, an ApprovedPlan out, or a refusal.

parse → constructs → names and lineage → rules → regenerate → the same again on the regenerated text, which
must give the same text and the same lineage. What the engine runs is the regenerated text and nothing else.
Pure: no state, no clock, no files. This module knows the order; each step knows its own business.
"""

from collections.abc import Mapping

from sqlglot import exp

from passbox.analysis import construct, lineage, rules, text
from passbox.analysis.lineage import Lineage
from passbox.analysis.plan import _KEY, ApprovedPlan, Parameter, Purpose, Table, Text
from passbox.errors import QueryRefused


def approve(
    query: str, parameters: Mapping[str, str | Parameter], tables: Mapping[str, Table], purpose: Purpose
) -> ApprovedPlan:
    """See `passbox.analysis.approve`."""
    try:
        tree, facts = _analyse(query, parameters, tables)
        if rules.enforce(tree, facts, tables, purpose):
            # a rule added a condition: what it added must be analysed like everything else
            facts = lineage.trace(tree, tables)
        sql = text.render(tree)
        again, same = _analyse(sql, parameters, tables, limited=False)
        if same != facts or not (text.same(tree, again) or text.render(again) == sql):
            raise QueryRefused(
                "The query does not keep its meaning when it is written back; write it more simply.",
                rule="sql.roundtrip",
            )
    except RecursionError:
        raise text.too_deep() from None
    return ApprovedPlan(
        sql=sql,
        parameters={
            name: value if isinstance(value, Parameter) else Parameter("string", value)
            for name, value in parameters.items()
        },
        tables=tuple(facts.reads),
        columns=_registered(facts, tables),
        outputs=tuple(output.name for output in facts.outputs),
        key=_KEY,
    )


def _analyse(
    query: str, parameters: Mapping[str, object], tables: Mapping[str, Table], *, limited: bool = True
) -> tuple[exp.Query, Lineage]:
    tree = text.parse(query, limited=limited)
    used = construct.check(tree)
    for name in sorted(used - parameters.keys()):
        raise QueryRefused(f"The query uses the parameter :{name}, which has no value.", rule="sql.parameter")
    for name in sorted(parameters.keys() - used):
        raise QueryRefused(
            f"The parameter {name} has a value but the query does not use :{name}.", rule="sql.parameter"
        )
    return tree, lineage.trace(tree, tables)


def read(query: str) -> Text:
    """See `passbox.analysis.read`."""
    try:
        tree = text.parse(query)
        used = construct.check(tree)
    except RecursionError:
        raise text.too_deep() from None
    own = {cte.alias.lower() for cte in tree.ctes}
    tables: dict[str, str] = {}
    for table in tree.find_all(exp.Table):
        if table.name.lower() not in own:
            tables.setdefault(table.name.lower(), table.name)
    if not tables:
        raise QueryRefused("The query reads no table of the collaboration.", rule="sql.table")
    return Text(tuple(sorted(tables.values())), used)


def _registered(facts: Lineage, tables: Mapping[str, Table]) -> dict[str, tuple[str, ...]]:
    """The columns an engine must register; a table that is only counted still needs one to have rows."""
    by_name = {table.name: table for table in tables.values()}
    return {
        name: columns or tuple(column.name for column in by_name[name].columns[:1])
        for name, columns in facts.reads.items()
    }
