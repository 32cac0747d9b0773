"""Every case of tests/spec/functions is answered by sealed Sail as by Spark, or refused with a reason.

The answers in the text are Spark's own. `PASSBOX_REWRITE_GOLDEN=1 pytest tests/spec/test_functions.py` asks a
real Spark again and writes them anew; that wants Java, and 500 MB from PyPI once. Other runs want neither.
"""

import os
import re
from collections import Counter
from pathlib import Path

import pytest

from lib import spark
from passbox.analysis import functions
from passbox.backends.runtimes.base import Isolation
from passbox.backends.runtimes.bubblewrap import BubblewrapRuntime
from passbox.errors import QueryRefused
from spec.functions import asked, corpus, reference

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "functions.md"
REWRITE = "PASSBOX_REWRITE_GOLDEN" in os.environ


@pytest.fixture(scope="module")
def sail(tmp_path_factory):
    runtime = BubblewrapRuntime()
    if runtime.check().isolation is Isolation.NONE:
        pytest.skip("this machine cannot seal")
    with asked.sealed_sail(runtime, tmp_path_factory.mktemp("sail")) as ask:
        yield ask


@pytest.fixture(scope="module", autouse=True)
def rewritten(tmp_path_factory):
    """Where asked to, the answers anew, before any other test reads them."""
    if REWRITE:
        with (
            spark.server() as remote,
            asked.real_spark(remote, tmp_path_factory.mktemp("spark")) as ask,
        ):
            for path in corpus.FILES:
                corpus.record(path, {c.name: (ask(c), asked.where(c)) for c in corpus.cases([path])})
        REFERENCE.write_text(reference.render())


@pytest.mark.parametrize("path", corpus.FILES, ids=[path.stem for path in corpus.FILES])
def test_sail_answers_as_spark_does_or_the_gate_says_why_not(path, sail) -> None:
    """One test a file: a server that is asked a thousand things is started once."""
    wrong = []
    for case in corpus.cases([path]):
        assert case.answer is not None, f"{case.name} has no answer: PASSBOX_REWRITE_GOLDEN=1"
        where = asked.where(case)
        if where != case.where:
            wrong.append(f"{case.name} {case.expression}: {where}, not {case.where}")
        if where == "everywhere":
            found = sail(asked.gate(case))
            if not case.answer.agrees(found):
                wrong.append(f"{case.name} {case.expression}: Spark {case.answer}, Sail {found}")
    assert not wrong, "\n".join(wrong)


def test_a_refusal_tells_where_it_would_run() -> None:
    refused = [case for case in corpus.cases() if case.where == "spark"]
    assert len(refused) >= 100
    for case in refused:
        refusal = asked.gate(case)
        assert isinstance(refusal, QueryRefused)
        assert "run this on Spark" in refusal.message
        assert not isinstance(asked.gate(case, engine="spark"), QueryRefused)


def test_there_are_enough_cases() -> None:
    kinds = Counter((case.name.startswith("queries"), case.where == "everywhere") for case in corpus.cases())
    assert kinds[False, True] >= 280
    assert kinds[True, True] >= 60


def test_a_function_is_verified_by_a_case_or_refused_on_sail() -> None:
    verified = {
        name.lower()
        for case in corpus.cases()
        if case.where == "everywhere" and case.answer is not None and case.answer.type != "fails"
        for name in re.findall(r"\b([A-Za-z_0-9]+)\s*\(", case.query)
    }
    assert sorted(set(functions.ALLOWED) - set(functions.SPARK_ONLY) - verified) == []
    assert sorted(set(functions.SPARK_ONLY) - set(functions.ALLOWED)) == []


def test_the_reference_is_the_table() -> None:
    assert REFERENCE.read_text() == reference.render(), "PASSBOX_REWRITE_GOLDEN=1 writes it anew"
