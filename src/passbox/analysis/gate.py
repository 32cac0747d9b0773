"""The order of the gate's steps: text in, an ApprovedPlan out, or a refusal.

parse → chains cut → constructs → names and lineage → rules → bounds → regenerate → the same again on the
regenerated text, which must give the same text and the same lineage. What the engine runs is the regenerated
text and nothing else.
Pure: no state, no clock, no files. This module knows the order; each step knows its own business.
"""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from sqlglot import exp

from passbox.analysis import (
    chains,
    construct,
    differential_privacy,
    lineage,
    place,
    rules,
    sail,
    text,
    unfailing,
)
from passbox.analysis.lineage import Lineage
from passbox.analysis.plan import _KEY, ApprovedPlan, Parameter, Purpose, Table, Text
from passbox.analysis.tree import same
from passbox.analysis.types import Types
from passbox.errors import QueryRefused

# casts and brackets that may stand around one operator of a member's once the gate has written it
_WRITTEN = 4


def approve(
    query: str, parameters: Mapping[str, str | Parameter], tables: Mapping[str, Table], purpose: Purpose
) -> ApprovedPlan:
    """See `passbox.analysis.approve`."""
    with _uncollected():
        return _approve(query, parameters, tables, purpose)


def _approve(
    query: str, parameters: Mapping[str, str | Parameter], tables: Mapping[str, Table], purpose: Purpose
) -> ApprovedPlan:
    try:
        with _placed(query):
            tree, facts = _analyse(query, parameters, tables)
            changed = _enforce(tree, facts, tables, purpose)
            if changed:
                unfailing.settle([tree], Types(tree, tables, parameters))
            leaving = facts.outputs
            private = differential_privacy.bound(tree, facts, tables, purpose, parameters)
        if private is not None:
            tree = private[0]
        if changed or private is not None:
            # a rule added a condition: what it added must be analysed like everything else
            facts = lineage.trace(tree, tables)
        if purpose.engine == "sail":
            with _placed(query):
                sail.fit(tree, tables, parameters)
        sql = text.render(tree)
        again, found = _analyse(sql, parameters, tables, limited=False)
        if found != facts or not (same(tree, again) or text.render(again) == sql):
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
        outputs=tuple(output.name for output in leaving),
        sources={output.name: tuple(sorted(output.sources)) for output in leaving},
        privacy=None if private is None else private[1],
        key=_KEY,
    )


@contextmanager
def _uncollected() -> Iterator[None]:
    """No search for garbage while trees grow: their nodes are many, all are alive, and it asks each again.

    It is the process's: whichever thread ends first lets it search again, so that it is never off for long.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _placed(query: str) -> Iterator[None]:
    """Refusals say where in `query`; those of its regeneration, which nobody wrote, say nothing of it."""
    try:
        yield
    except QueryRefused as refusal:
        if refusal.at is not None:
            refusal.place = place.of(query, refusal.at)
        raise


def _enforce(tree: exp.Query, facts: Lineage, tables: Mapping[str, Table], purpose: Purpose) -> bool:
    """The rules; where one has no better place for a refusal, it is where its table is first named."""
    try:
        return rules.enforce(tree, facts, tables, purpose)
    except QueryRefused as refusal:
        if refusal.at is None and refusal.table is not None:
            named = [table for table in tree.find_all(exp.Table) if table.name == refusal.table]
            refusal.at = min((at for at in map(place.at, named) if at is not None), default=None)
        raise


def _grammar(query: str, *, limited: bool = True) -> tuple[exp.Query, frozenset[str]]:
    """The tree of a text that holds nothing but the gate's own grammar, and the parameters that it uses."""
    tree = text.parse(query, limited=limited)
    chains.cut(tree, query)
    return tree, construct.check(tree, written=1 if limited else _WRITTEN)


def _analyse(
    query: str, parameters: Mapping[str, object], tables: Mapping[str, Table], *, limited: bool = True
) -> tuple[exp.Query, Lineage]:
    tree, used = _grammar(query, limited=limited)
    for name in sorted(used - parameters.keys()):
        [first, *_] = [node for node in tree.find_all(exp.Placeholder) if node.this == name]
        raise QueryRefused(
            f"The query uses the parameter :{name}, which has no value.",
            rule="sql.parameter",
            at=place.at(first),
        )
    for name in sorted(parameters.keys() - used):
        raise QueryRefused(
            f"The parameter {name} has a value but the query does not use :{name}.", rule="sql.parameter"
        )
    return tree, lineage.trace(tree, tables)


def read(query: str) -> Text:
    """See `passbox.analysis.read`."""
    try:
        with _placed(query):
            tree, used = _grammar(query)
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
