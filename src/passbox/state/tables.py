"""Every table of the database. Knows shapes, no behaviour.

    account ─┬─ access_key
             └─ resource ── event           one row a thing that has an identifier; its modelled body as JSON
                   └── job                  one row a piece of work for the worker
    balance ── transfer                     the book: transfers are never updated nor deleted

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
    UniqueConstraint,
    text,
)

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

resource = Table(
    "resource",
    metadata,
    # SQLite's row number, so every index ends in it and gives its rows in the order of their commits
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    Column("kind", String, nullable=False),
    Column("arn", String, nullable=False, index=True),
    Column("account", String, nullable=False),
    Column("collaboration", String),
    Column("membership", String),
    Column("parent", String),
    Column("name", String),
    Column("status", String),
    Column("created", Float, nullable=False),
    Column("updated", Float, nullable=False),
    Column("version", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    # partial: what a row does not have costs it nothing
    *(
        Index(
            f"resource_by_{'_'.join(columns)}",
            "kind",
            *columns,
            sqlite_where=text(f"{columns[-1]} IS NOT NULL"),
        )
        for columns in (
            ("name",),
            ("account",),
            ("account", "status"),
            ("collaboration",),
            ("membership",),
            ("membership", "status"),
            ("parent",),
        )
    ),
)

event = Table(
    "event",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("subject", String, nullable=False, index=True),
    Column("kind", String, nullable=False),
    Column("before", String),
    Column("after", String),
)

job = Table(
    "job",
    metadata,
    Column("id", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("resource", ForeignKey("resource.id"), nullable=False, index=True),
    Column("collaboration", String, nullable=False, index=True),
    Column("account", String, nullable=False, index=True),
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
    Index("job_to_claim", "state", "lease", "created"),
)

balance = Table(
    "balance",
    metadata,
    Column("book_account", String, primary_key=True),
    Column("unit", String, primary_key=True),
    Column("debits_pending", Integer, nullable=False),
    Column("debits_posted", Integer, nullable=False),
    Column("credits_pending", Integer, nullable=False),
    Column("credits_posted", Integer, nullable=False),
)

transfer = Table(
    "transfer",
    metadata,
    Column("id", String, primary_key=True),
    Column("kind", String, nullable=False),  # reserve · post · void · correct
    Column("settles", ForeignKey("transfer.id")),
    Column("debit", String, nullable=False),
    Column("credit", String, nullable=False),
    Column("unit", String, nullable=False),
    Column("amount", Integer, nullable=False),
    Column("job", String, nullable=False, index=True),
    Column("collaboration", String, nullable=False),
    Column("payer", String, nullable=False),
    Column("cost_type", String, nullable=False),
    Column("quantity", Integer, nullable=False),  # thousandths of quantity_unit
    Column("quantity_unit", String, nullable=False),
    Column("price", Integer, nullable=False),  # micro-dollars for price_per whole units
    Column("price_per", Integer, nullable=False),
    Column("at", Float, nullable=False),
    UniqueConstraint("settles"),
    Index("transfer_by_payer", "payer", "at"),
    Index("transfer_by_collaboration", "collaboration", "at"),
)
