"""Protected jobs by the real service: API, worker, engine and the sealed script.

Scripts report what they could reach as rows of a result, which the partner, who wrote them, receives.
"""

import hashlib
import io
import json
import tarfile
import textwrap
import time
from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as parquet
import pytest

from lib.queries import ENDS
from lib.runtime import processes_with
from lib.scripts import EVERYTHING, Studio
from lib.service import Service, serving_home, wait
from lib.workshop import ledger

LEAST = 32 * 600 * 1000  # milli-CRPU-seconds of 16 CR.1X for ten minutes
PURCHASES = "person,amount\n1,10.5\n1,2.0\n3,7.0\n9,100.0\n"
JOIN = """\
from pyspark.sql import functions as F

@F.udf("string")
def loud(name):
    return name.upper() + MARK

MARK = "!"

def entrypoint(context):
    tables, least = context["referencedTables"], float(context["analysisParameters"]["least"])
    spent = tables["people"].join(tables["purchases"], F.col("id") == F.col("person"))
    spent = spent.where(F.col("amount") >= least)
    context["sparkSession"].sql("SELECT count(*) AS n FROM purchases").createOrReplaceTempView("counted")
    return {"results": {
        "by-name": spent.groupBy(loud("name").alias("who")).agg(F.sum("amount").alias("spent")).sort("who"),
        "count": context["sparkSession"].table("counted"),
    }}
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving_home(tmp_path_factory.mktemp("home")) as service:
        yield service


@pytest.fixture(scope="module")
def studio(service: Service) -> Studio:
    studio = Studio(service.room)
    studio.lend("purchases", PURCHASES, party="runner")
    return studio


def ended(studio: Studio, job: Any, status: str = "SUCCESS") -> Any:
    found = wait(lambda: studio.job(job["id"]), ENDS, seconds=90)
    assert found["status"] == status, found.get("error")
    return found


def failed(studio: Studio, template: Any, code: str = "MALFORMED_SCRIPT", **changes: Any) -> str:
    """The message of a job that must fail, of which nothing is delivered or paid."""
    before = len(studio.entries())
    job = studio.run(template, **changes)
    found = ended(studio, job, "FAILED")
    assert found["error"]["code"] == code, found
    assert found["statistics"]["billedResourceUtilization"] == {"units": 0.0}
    assert "result" not in found
    assert [kind for kind, _, _ in studio.entries()[before:]] == ["reserve", "void"]
    assert studio.results(job["id"]) == {}
    return str(found["error"]["message"])


def rows(studio: Studio, job: Any, result: str = "all") -> list[dict[str, Any]]:
    """What the partner reads of a result."""
    files = [file for name, file in studio.results(job["id"]).items() if name.startswith(f"{result}/part")]
    return [row for file in files for row in parquet.read_table(file).to_pylist()]


def script(body: str) -> str:
    """An entrypoint with this body."""
    return "def entrypoint(context):\n" + textwrap.indent(textwrap.dedent(body), "    ")


def seen(studio: Studio, body: str, *tables: str) -> list[str]:
    """What a script's `found`, a list of texts, came to be."""
    tail = """
    frame = context["sparkSession"].createDataFrame([(str(one),) for one in found], "seen string")
    return {"results": {"all": frame}}
    """
    job = studio.run(studio.script(script(textwrap.dedent(body) + textwrap.dedent(tail)), *tables))
    ended(studio, job)
    return [str(row["seen"]) for row in rows(studio, job)]


def test_two_parties_tables_and_two_results(service: Service, studio: Studio) -> None:
    before = len(studio.entries())
    least = {"name": "least", "type": "STRING", "defaultValue": "1000"}
    template = studio.script(JOIN, "People", "purchases", analysisParameters=[least])
    assert template["schema"] == {"referencedTables": ["People", "purchases"]}
    template = studio.script(JOIN, "people", "purchases", analysisParameters=[least])
    job = studio.run(template, parameters={"least": "5"})
    done = ended(studio, job)
    assert rows(studio, job, "by-name") == [{"who": "ADA!", "spent": 10.5}, {"who": "CY!", "spent": 7.0}]
    assert rows(studio, job, "count") == [{"n": 4}]
    parts = {"by-name/part-00000.parquet", "by-name/_SUCCESS", "count/part-00000.parquet", "count/_SUCCESS"}
    assert set(studio.results(job["id"])) == parts
    assert all(
        name.startswith(f"partner-own/jobs/{job['id']}/")
        for name in studio.received("partner")
        if job["id"] in name
    )
    assert studio.results(job["id"], "runner") == {}
    # less than ten minutes on 16 CR.1X
    assert done["statistics"]["billedResourceUtilization"] == {"units": 32 * 600 / 3600}
    assert studio.entries()[before:] == [("reserve", "runner", LEAST), ("post", "runner", LEAST)]
    assert [entry["cost_type"] for entry in ledger(studio.room.settings.home)["transfers"]][
        -1
    ] == "jobCompute"
    assert done["result"] == {"output": {"memberList": [{"accountId": studio.accounts["partner"]}]}}
    assert "partner-own" not in str(done)
    manifest = service.room.passbox(studio.accounts["partner"]).get_run_manifest(
        **studio.own("partner"), jobIdentifier=job["id"]
    )
    said = json.loads(manifest["document"])["job"]
    assert (said["kind"], said["identifier"]) == ("PROTECTED_JOB", job["id"])
    opened = [json.loads(one["value"]) for one in manifest["openings"]]
    files = {file["key"]: file["sha256"] for one in opened if isinstance(one, list) for file in one}
    for name, path in studio.results(job["id"]).items():
        assert files[name] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_script_sees_the_columns_that_may_leave_and_no_file_of_a_member(studio: Studio) -> None:
    rule = studio.any_job(disallowedOutputColumns=["salary"])
    studio.lend("payroll", "who,salary,iban\n1,70000,i-1\n", rule, columns=["who", "salary"])
    found = seen(
        studio,
        """
        import os, pyarrow.parquet as parquet
        found = sorted(context["referencedTables"]) + context["referencedTables"]["payroll"].columns
        files = []
        for top in set(os.listdir("/")) - {"proc", "sys", "dev", "usr"}:
            for folder, folders, names in os.walk(f"/{top}"):
                folders[:] = [one for one in folders if one != "site-packages"]
                files += [f"{folder}/{name}" for name in names]
        mine = [path for path in files if path.startswith("/job/tables")]
        for path in mine:
            found += parquet.read_table(path).to_pylist()
        held = [open(path, "rb").read() for path in mine]
        found += [any(word in one for one in held for word in (b"70000", b"i-1", b"salary", b"ada"))]
        found += [path for path in set(files) - set(mine) if path.endswith((".csv", ".parquet", ".sqlite"))]
        """,
        "payroll",
    )
    assert found == ["payroll", "who", "{'who': 1}", "False"]


def test_a_script_reaches_no_host_and_no_network(studio: Studio, service: Service) -> None:
    host, port = "127.0.0.1", service.address.rpartition(":")[2]
    home = str(service.settings.home)
    found = seen(
        studio,
        f"""
        import os, socket
        found = []
        def attempt(what):
            try:
                found.append(f"reached {{what()}}")
            except Exception as error:
                found.append("refused")
        spark = context["sparkSession"]
        attempt(lambda: socket.create_connection(("{host}", {port}), 2))
        attempt(lambda: socket.create_connection(("192.0.2.1", 80), 2))
        attempt(lambda: socket.getaddrinfo("example.com", 80))
        attempt(lambda: os.listdir("{home}"))
        attempt(lambda: spark.read.text("{home}/key").collect()[0])
        attempt(lambda: spark.read.text("/etc/shadow").collect()[0])
        attempt(lambda: open("/job/script.py", "a"))
        attempt(lambda: os.mkdir("/service/passbox/x"))
        attempt(lambda: os.setuid(0))
        found.append([name for name in os.environ if "AWS" in name or "PASSBOX" in name])
        found.append(sorted(os.listdir("/job")))
        """,
    )
    assert found == ["refused"] * 9 + ["[]", "['job.json', 'script.py', 'tables']"]


def test_a_fork_bomb_ends_with_its_job(studio: Studio) -> None:
    body = """
    import subprocess
    while True:
        try:
            subprocess.Popen(["/bin/sleep", MARK])
        except OSError:
            break
    raise RuntimeError("enough")
    """
    mark = f"654321.{time.time_ns()}"
    failed(studio, studio.script(f"MARK = '{mark}'\n{script(body)}"))
    assert processes_with(mark) == []


LEAKS = script(
    """
    [row] = context["referencedTables"]["people"].where("id = 2").collect()
    raise type(f"Error{row.name}", (Exception,), {})(f"the name is {row.name}")
    """
)


def test_an_exception_says_nothing_of_the_data(studio: Studio) -> None:
    said = failed(studio, studio.script(LEAKS))
    assert said.startswith("The script raised an exception.")
    assert "bo" not in said
    # the words are asked for, but an owner has agreed to a whole account, not to this template
    kept = failed(studio, studio.script(LEAKS, errorMessageConfiguration={"type": "DETAILED"}))
    assert kept == said


def test_details_where_every_owner_agreed_to_the_template(studio: Studio) -> None:
    template = studio.script(
        LEAKS.replace('"people"', '"agreed"'), "agreed", errorMessageConfiguration={"type": "DETAILED"}
    )
    studio.lend("agreed", "id,name\n2,bo\n", {"allowedAnalyses": [template["arn"]]})
    said = failed(studio, template)
    assert "Errorbo: the name is bo" in said
    assert "analysis.py, line 4, in entrypoint" in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def entrypoint(context:\n", "not valid Python"),
        ("def main(context):\n    pass\n", "no function entrypoint"),
        (script("return {}"), "must return"),
        (script("return {'results': {'a': 1}}"), "must return"),
        (script("return {'results': {'../a': context['referencedTables']['people']}}"), "must return"),
        (script("import os; os._exit(0)"), "must return"),
        (script("import os; os._exit(200)"), "ended before"),
        (script("import os; os.symlink('/etc/passwd', '/results/a'); os._exit(0)"), "must return"),
        (script("import os; os.mkdir('/results/a'); os.mkfifo('/results/a/part-00000.parquet'); os._exit(0)"),
         "must return"),
        (script("return {'results': {'a': context['sparkSession'].sql('SELECT 1/(id-1) x FROM people')}}"),
         "could not be computed"),
        (script("return {'results': {'a': context['sparkSession'].sql('SELECT 1 AS a, 2 AS a')}}"),
         "could not be computed"),
    ],
    ids=range(11),
)  # fmt: skip
def test_scripts_that_cannot_be(studio: Studio, text: str, words: str) -> None:
    assert words in failed(studio, studio.script(text))


def test_a_script_that_was_changed_is_refused(studio: Studio) -> None:
    template = studio.script(EVERYTHING)
    key = template["source"]["artifacts"]["entryPoint"]["location"]["key"]
    studio.put(EVERYTHING + "# a change\n", key)
    assert "SHA-256 has changed" in failed(studio, template, "INVALID_RESOURCE")
    studio.place(key).unlink()
    said = failed(studio, template, "INVALID_RESOURCE")
    assert "cannot be read" in said
    assert key not in said
    studio.put(EVERYTHING, key)
    ended(studio, studio.run(template))


def packed(**files: str) -> bytes:
    """A virtual environment with these modules, as venv-pack packs one."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"lib/python3.11/site-packages/{name}.py")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return made.getvalue()


def test_libraries_that_a_script_brings(studio: Studio) -> None:
    text = "import brought\n" + script("""return {"results": {"all": brought.all(context)}}""")
    content = packed(brought="def all(context):\n    return context['referencedTables']['people'].limit(1)\n")
    sha256 = studio.put(content, "libraries.tar.gz")
    template = studio.script(text, libraries="libraries.tar.gz")
    hashes = template["sourceMetadata"]["artifacts"]["additionalArtifactHashes"]
    assert hashes == [{"sha256": sha256}]
    job = studio.run(template)
    ended(studio, job)
    assert len(rows(studio, job)) == 1
    studio.put(b"no archive", "broken.tar.gz")
    assert "virtual environment" in failed(studio, studio.script(text, libraries="broken.tar.gz"))


SLOW = script(
    """
    import subprocess
    subprocess.run(["/bin/sleep", MARK])
    return {"results": {"all": context["referencedTables"]["people"]}}
    """
)


def slowly(studio: Studio, seconds: int) -> tuple[Any, str]:
    """A job whose script sleeps so long, once it does, and a mark on the command line of its sleep."""
    mark = f"{seconds}.{time.time_ns()}"
    job = studio.run(studio.script(f"MARK = '{mark}'\n{SLOW}"))
    wait(lambda: {"status": "sleeps" if processes_with(mark) else ""}, ("sleeps",), seconds=60)
    return job, mark


def test_a_running_script_is_called_off_within_two_seconds(studio: Studio) -> None:
    job, mark = slowly(studio, 600)
    asked = time.monotonic()
    assert studio.call_off(job["id"])["status"] == "CANCELLING"
    ended(studio, job, "CANCELLED")
    assert time.monotonic() - asked < 2.0
    assert processes_with(mark) == []
    assert studio.results(job["id"]) == {}
    assert list(studio.room.settings.scratch.iterdir()) == []
    reserved = [line["reserved"] for line in ledger(studio.room.settings.home)["lines"]]
    assert set(reserved) == {0}


def test_a_job_ends_with_its_collaboration(service: Service) -> None:
    studio = Studio(service.room)
    job, mark = slowly(studio, 600)
    studio.client("owner").delete_collaboration(collaborationIdentifier=studio.id)
    ended(studio, job, "CANCELLED")
    assert processes_with(mark) == []
    assert studio.results(job["id"]) == {}


def test_the_worker_is_killed_in_the_middle_of_a_script(service: Service, studio: Studio) -> None:
    job, _ = slowly(studio, 3)
    before = len(studio.entries())
    service.kill_worker(job["id"])
    ended(studio, job)
    assert service.job(job["id"]).attempt == 2
    assert len(rows(studio, job)) == 3
    assert studio.entries()[before:] == [("post", "runner", LEAST)]
