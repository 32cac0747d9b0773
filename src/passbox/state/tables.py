"""Every table of the database. Knows shapes, no behaviour.

    account ─┬─ access_key
             └─ resource ── event           one row a thing that has an identifier; its modelled body as JSON
                   └── job                  one row a piece of work for the worker
    balance ── transfer                     the book: transfers are never updated nor deleted
        └───── cap                          what a payer lets the book spend

Times are seconds since the epoch (REAL), amounts are integers.
"""

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    text,
)

MANY = 1_000_000  # rows of a table, as the planner is told
CHARGES = "transfer.kind IN ('post', 'refund') AND transfer.unit = 'usd_micro'"  # money, not uses of tables
ARN_END = "substr(resource.arn, -36)"  # as long as an id

metadata = MetaData()

account = Table(
    "account",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("name", String, nullable=False),
    Column("created", Float, nullable=False),
)

access_key = Table(
    "access_key",
    metadata,
    Column("id", String, primary_key=True),
    Column("account", ForeignKey("account.id"), nullable=False, index=True),
    Column("sealed_secret", LargeBinary, nullable=False),
    Column("created", Float, nullable=False),
)


def _by(*columns: str, rows: list[int]) -> Index:
    """An index of resources by kind and columns; partial, as what a row does not have costs it nothing.

    rows: how many the planner expects to have the same first column, first two columns, …
    """
    missing = [f"{column} IS NOT NULL" for column in columns if column != "account"]
    return Index(
        f"resource_by_{'_'.join(columns)}",
        "kind",
        *columns,
        sqlite_where=text(" AND ".join(missing)) if missing else None,
        info={"rows": [MANY, MANY // 10, *rows]},
    )


resource = Table(
    "resource",
    metadata,
    # SQLite's row number, so every index ends in it and gives its rows in the order of their commits; never
    # given twice, so that a row's sequence and version name what was committed
    Column("sequence", Integer, primary_key=True),
    Column("kind", String, nullable=False),
    Column("id", String, nullable=False, unique=True),
    Column("arn", String, nullable=False),
    Column("account", String, nullable=False),
    Column("created", Float, nullable=False),
    Column("updated", Float, nullable=False),
    Column("collaboration", String),
    Column("membership", String),
    Column("parent", String),
    Column("name", String),
    Column("status", String),
    Column("version", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    # an ARN mostly ends in its row's id, which has an index; this one is for the others
    Index(
        "resource_by_arn_end",
        text(ARN_END.replace("resource.", "")),
        sqlite_where=text(f"{ARN_END} <> id".replace("resource.", "")),
        info={"rows": [MANY // 10, 2]},
    ),
    _by("account", rows=[1000]),
    _by("account", "status", rows=[1000, 200]),
    _by("collaboration", rows=[1000]),
    _by("membership", rows=[1000]),
    _by("membership", "name", rows=[1000, 2]),
    _by("membership", "status", rows=[1000, 200]),
    _by("parent", rows=[10]),
    sqlite_autoincrement=True,
)

event = Table(
    "event",
    metadata,
    Column("sequence", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("subject", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("before", String),
    Column("after", String),
)

job = Table(
    "job",
    metadata,
    Column("id", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("resource", String, nullable=False),
    Column("collaboration", String, nullable=False),
    Column("account", String, nullable=False),
    Column("state", String, nullable=False),  # queued · running · ended
    Column("step", String, nullable=False),  # the spine's next step
    Column("attempt", Integer, nullable=False),
    Column("worker", String),
    Column("lease", Float, nullable=False),
    Column("cancel", Boolean, nullable=False),
    Column("progress", String),
    Column("outcome", LargeBinary),
    Column("created", Float, nullable=False),
    Column("updated", Float, nullable=False),
    # what jobs of a resource are found by: it grows, while a new random identifier belongs anywhere
    Column("resource_sequence", ForeignKey("resource.sequence"), nullable=False, index=True),
    Index("job_to_claim", "state", "lease", "created"),
    sqlite_with_rowid=False,
)

balance = Table(
    "balance",
    metadata,
    Column("book_account", String, primary_key=True),
    Column("unit", String, primary_key=True),
    Column("payer", String),  # whose account it is, and for which month; the room's own have no payer
    Column("month", String, nullable=False),
    Column("debits_pending", Integer, nullable=False),
    Column("debits_posted", Integer, nullable=False),
    Column("credits_pending", Integer, nullable=False),
    Column("credits_posted", Integer, nullable=False),
    Column("quantity", Integer, nullable=False),  # posted, thousandths of the cost type's unit
    Column("charges", Integer, nullable=False),  # posted and not given back
    Index("balance_by_payer", "payer", "month", sqlite_where=text("payer IS NOT NULL")),
    sqlite_with_rowid=False,
)

transfer = Table(
    "transfer",
    metadata,
    Column("sequence", Integer, primary_key=True),  # the order of the book
    Column("id", String, nullable=False, unique=True),
    Column("kind", String, nullable=False),  # reserve · post · void · refund
    Column("debit", String, nullable=False),
    Column("credit", String, nullable=False),
    Column("unit", String, nullable=False),
    Column("amount", Integer, nullable=False),
    Column("job", String, nullable=False),  # every id begins with it
    Column("collaboration", String, nullable=False),
    Column("payer", String, nullable=False),  # '' where nobody pays
    Column("cost_type", String, nullable=False),  # or access/ASSOCIATION
    Column("month", String, nullable=False),  # of the submission
    Column("quantity", Integer, nullable=False),  # thousandths of quantity_unit
    Column("quantity_unit", String, nullable=False),
    Column("price", Integer, nullable=False),  # micro-dollars for price_per whole units
    Column("price_per", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Column("tier_from", Integer),  # whole units of the month; above them the price is
    Column("tier_price", Integer),  # so many micro-dollars for price_per whole units
    Column("counted", Integer, nullable=False),  # thousandths of quantity_unit of the month before this
    Column("settles", ForeignKey("transfer.id")),
    Index("transfer_by_settles", "settles", unique=True, sqlite_where=text("settles IS NOT NULL")),
    # what statements and exports list; a submission writes none of it
    Index("transfer_by_month", "month", "payer", sqlite_where=text(CHARGES.replace("transfer.", ""))),
)

cap = Table(
    "cap",
    metadata,
    Column("payer", String, primary_key=True),
    Column("collaboration", String, primary_key=True),
    Column("cost_type", String, primary_key=True),
    Column("period", String, primary_key=True),  # MONTH · LIFETIME
    Column("limit", Integer, nullable=False),  # micro-dollars
    Column("created", Float, nullable=False),
    Column("updated", Float, nullable=False),
    sqlite_with_rowid=False,
)
