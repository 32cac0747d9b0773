"""The operator's commands as an operator runs them, in processes of their own."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner

from passbox.__main__ import cli
from passbox.errors import Misconfigured

PASSBOX = [sys.executable, "-m", "passbox"]
DOCS = Path(__file__).parent.parent / "docs" / "reference" / "commands.md"


def passbox(*arguments: str, home: Path, status: int = 0) -> str:
    command = [*PASSBOX, *arguments, "--home", str(home)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == status, ran.stderr
    return ran.stdout if status == 0 else ran.stderr


def as_json(*arguments: str, home: Path) -> Any:
    return json.loads(passbox(*arguments, "--json", home=home))


def test_an_account_is_made_and_its_secret_is_shown_once(tmp_path: Path) -> None:
    made = as_json("account", "create", "111111111111", "--name", "airline", home=tmp_path)
    assert made["account"] == "111111111111"
    assert len(made["secretAccessKey"]) == 40
    listed = passbox("account", "list", home=tmp_path)
    assert made["accessKeyId"] in listed
    assert made["secretAccessKey"] not in listed
    assert made["secretAccessKey"].encode() not in (tmp_path / "passbox.sqlite").read_bytes()
    [row] = as_json("account", "list", home=tmp_path)
    assert (row["id"], row["name"]) == ("111111111111", "airline")


def test_an_account_with_a_key_of_its_own(tmp_path: Path) -> None:
    given = ["--access-key-id", "AKIAEXAMPLE", "--secret-access-key", "secret"]
    made = as_json("account", "create", "111111111111", "--name", "a", *given, home=tmp_path)
    assert (made["accessKeyId"], made["secretAccessKey"]) == ("AKIAEXAMPLE", "secret")
    told = passbox("account", "create", "222222222222", "--name", "b", *given, home=tmp_path, status=1)
    assert "AKIAEXAMPLE exists already" in told
    assert [row["id"] for row in as_json("account", "list", home=tmp_path)] == ["111111111111"]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["account", "create", "12", "--name", "a"], 2, "twelve digits"),
        (["account", "list"], 1, "create an account first"),
        (["ledger", "show"], 1, "create an account first"),
        (["job", "list"], 1, "create an account first"),
    ],
)
def test_an_error_is_a_line_with_the_next_step(
    tmp_path: Path, arguments: list[str], status: int, words: str
) -> None:
    told = passbox(*arguments, home=tmp_path / "none", status=status)
    assert words in told
    assert "Traceback" not in told


def test_the_same_account_twice(tmp_path: Path) -> None:
    passbox("account", "create", "111111111111", "--name", "a", home=tmp_path)
    told = passbox("account", "create", "111111111111", "--name", "b", home=tmp_path, status=1)
    assert "exists already" in told


def test_an_image_is_added_and_listed(tmp_path: Path) -> None:
    folder = tmp_path / "image"
    folder.mkdir()
    (folder / "train").write_text("#!/usr/bin/env python3\n")
    (folder / "train").chmod(0o755)
    added = as_json("image", "add", "registry.example/a:1", str(folder), home=tmp_path / "home")
    assert added["digest"].startswith("sha256:")
    assert as_json("image", "list", home=tmp_path / "home") == [added]
    assert added["digest"] in passbox("image", "list", home=tmp_path / "home")


def test_what_is_no_archive_of_an_image_is_one_line(tmp_path: Path) -> None:
    from lib.runtime_images import file, layout

    home, good, archive = tmp_path / "home", tmp_path / "base", tmp_path / "image.tar"
    good.mkdir()
    layout(good, [file("x", os.urandom(6000))])
    [large] = [one for one in (good / "blobs/sha256").iterdir() if one.stat().st_size > 5000]
    archive.write_bytes(b"no archive" * 100)
    broken = bytearray(large.read_bytes())
    broken[0:512] = b"\xff" * 512
    large.write_bytes(broken)
    for path, words in ((archive, "is no archive of an image"), (good, "a layer of the image is broken")):
        told = passbox("image", "add", "registry.example/a:1", str(path), home=home, status=1)
        assert words in told
        assert told.count("\n") == 1


def test_an_image_of_an_account_that_is_not_here(tmp_path: Path) -> None:
    folder = tmp_path / "image"
    folder.mkdir()
    (folder / "serve").write_text("#!/usr/bin/env python3\n")
    (folder / "serve").chmod(0o755)
    home = tmp_path / "home"

    def refused(command: str) -> None:
        asked = ("image", command, "registry.example/a:1", str(folder), "--account", "222222222222")
        told = passbox(*asked, home=home, status=1)
        assert "--account 222222222222 is no account of this room" in told
        assert "passbox account create" in told

    refused("add")
    passbox("account", "create", "111111111111", "--name", "a", home=home)
    refused("add")
    refused("build")
    assert as_json("image", "list", home=home) == []


def test_an_image_is_built_exported_and_forgotten(tmp_path: Path) -> None:
    from lib.runtime_images import file, layout

    home, base, code = tmp_path / "home", tmp_path / "base", tmp_path / "code"
    for folder in (base, code):
        folder.mkdir()
    layout(base, [file("x", "1")])
    (code / "serve").write_text("#!/bin/sh\n")
    (code / "serve").chmod(0o755)
    as_json("image", "add", "registry.example/base:1", str(base), home=home)
    out = str(tmp_path / "built.tar")
    arguments = ["--from", "registry.example/base:1", "--out", out]
    built = as_json("image", "build", "registry.example/a:1", str(code), *arguments, home=home)
    again = as_json("image", "add", "registry.example/b:1", out, home=home)
    assert built == {"uri": "registry.example/a:1", "digest": again["digest"], "account": None}
    out = str(tmp_path / "out.tar")
    exported = as_json("image", "export", "registry.example/a:1", "--out", out, home=home)
    assert as_json("image", "add", "registry.example/c:1", out, home=home)["digest"] == exported["digest"]
    assert as_json("image", "remove", "registry.example/a:1", home=home)["removed"] is True
    names = [row["uri"].rpartition("/")[2] for row in as_json("image", "list", home=home)]
    assert names == ["b:1", "base:1", "c:1"]
    assert "there is no image" in passbox("image", "remove", "registry.example/a:1", home=home, status=1)


def test_without_an_engine_an_image_needs_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSBOX_DOCKER_HOST", f"unix://{tmp_path}/none")
    told = passbox("image", "add", "registry.example/a:1", home=tmp_path / "home", status=1)
    assert "PASSBOX_DOCKER_HOST, or give the path" in told


@pytest.mark.parametrize(
    ("uri", "arguments", "owner"),
    [
        ("111111111111.dkr.ecr.us-east-1.amazonaws.com/a:1", [], "111111111111"),
        ("999999999999.dkr.ecr.us-east-1.amazonaws.com/a:1", [], None),  # no account of this room
        ("registry.example/a:1", [], None),
        ("registry.example/a:1", ["--account", "111111111111"], "111111111111"),
    ],
)
def test_whose_image_it_is(tmp_path: Path, uri: str, arguments: list[str], owner: str | None) -> None:
    folder = tmp_path / "image"
    folder.mkdir()
    (folder / "serve").write_text("#!/usr/bin/env python3\n")
    (folder / "serve").chmod(0o755)
    home = tmp_path / "home"
    passbox("account", "create", "111111111111", "--name", "a", home=home)
    assert as_json("image", "add", uri, str(folder), *arguments, home=home)["account"] == owner
    [listed] = as_json("image", "list", home=home)
    assert listed["account"] == owner


def test_the_ledger_and_the_jobs_of_a_room_without_work(tmp_path: Path) -> None:
    passbox("account", "create", "111111111111", "--name", "a", home=tmp_path)
    assert as_json("ledger", "show", home=tmp_path) == {"balances": True, "lines": []}
    assert as_json("ledger", "check", home=tmp_path) == {"balances": True, "transfers": 0}
    assert as_json("ledger", "transfers", home=tmp_path) == []
    assert "The book is empty" in passbox("ledger", "transfers", home=tmp_path)
    assert "Nothing has been charged yet" in passbox("ledger", "show", home=tmp_path)
    assert as_json("job", "list", home=tmp_path) == []
    assert "Nothing has been submitted yet" in passbox("job", "list", home=tmp_path)


def test_the_operator_calls_a_job_off(tmp_path: Path) -> None:
    from lib.work import World

    world = World(tmp_path)
    row = world.submit()
    job = world.job(row).id
    assert as_json("job", "cancel", job, home=tmp_path) == {"id": job, "cancelled": True}
    world.work_until(lambda: world.job(row).state == "ended", world.supervisor())
    assert world.resource(row).status == "INACTIVE"
    assert "has ended" in passbox("job", "cancel", job, home=tmp_path, status=1)
    assert "There is no job" in passbox("job", "cancel", "none", home=tmp_path, status=1)


def test_the_doctor_looks_at_this_machine(tmp_path: Path) -> None:
    findings = as_json("doctor", home=tmp_path)
    assert {"python", "engine sail", "disk", "home"} <= {finding["what"] for finding in findings}
    assert any(finding["what"].startswith("sandbox") for finding in findings)
    assert "engine sail" in passbox("doctor", home=tmp_path)


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    passbox("account", "create", "111111111111", "--name", "a", home=tmp_path)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "key").chmod(0o644)
    told = passbox("account", "create", "222222222222", "--name", "b", home=tmp_path, status=1)
    assert "chmod 600" in told


def test_a_database_of_another_version_is_refused(tmp_path: Path) -> None:
    passbox("account", "create", "111111111111", "--name", "a", home=tmp_path)
    with sqlite3.connect(tmp_path / "passbox.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    told = passbox("account", "list", home=tmp_path, status=1)
    assert "schema version 99" in told


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str, dict[str, str]]]:
    pair = as_json("account", "create", "111111111111", "--name", "a", home=tmp_path)
    command = [*PASSBOX, "serve", "--home", str(tmp_path), "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        yield process, json.loads(process.stdout.readline())["endpoint"], pair
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def workers_of(pid: int) -> list[int]:
    """The direct children of a process."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(folder.name))
    return found


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return True
    return state == "Z"


def wait_until(condition: Any, seconds: float = 20) -> None:
    import time

    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_serve_answers_and_leaves_nothing_behind(service: Any, how: signal.Signals) -> None:
    process, endpoint, pair = service
    client = boto3.client(
        "cleanrooms",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=pair["accessKeyId"],
        aws_secret_access_key=pair["secretAccessKey"],
    )
    assert client.list_collaborations()["collaborationList"] == []
    client.close()
    wait_until(lambda: workers_of(process.pid))
    workers = workers_of(process.pid)
    process.send_signal(how)
    process.wait(20)
    wait_until(lambda: all(gone(worker) for worker in workers))


def test_a_worker_that_dies_is_replaced(service: Any) -> None:
    process, _, _ = service
    wait_until(lambda: workers_of(process.pid))
    before = set(workers_of(process.pid))
    for worker in before:
        os.kill(worker, signal.SIGKILL)
    wait_until(lambda: set(workers_of(process.pid)) - before)


def test_a_port_that_is_taken_is_said(service: Any, tmp_path: Path) -> None:
    _, endpoint, _ = service
    told = passbox("serve", "--port", endpoint.rsplit(":", 1)[1], home=tmp_path / "other", status=1)
    assert "choose another --host or --port" in told


def test_every_command_and_setting_has_a_heading() -> None:
    """The reference cannot drift from the commands, their options, the settings and the quotas."""
    from passbox import settings
    from passbox.operations import quotas

    text = DOCS.read_text()

    def walk(group: Any, path: str) -> Iterator[tuple[str, Any]]:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from walk(command, f"{path} {name}")
            else:
                yield f"{path} {name}", command

    for path, command in walk(cli, "passbox"):
        assert f"## {path}\n" in text, path
        section = text.split(f"## {path}\n", 1)[1].split("\n## ", 1)[0]
        names = {
            option for parameter in command.params for option in parameter.opts if option.startswith("--")
        }
        # a client of the room has an endpoint where a command of the operator has a home
        jobs = tuple(f"passbox job {name}" for name in ("explain", "manifest", "report"))
        clients = ("passbox payer ", "passbox query ", *jobs)
        common = {"--endpoint", "--region"} if path.startswith(clients) else {"--home"}
        if path in ("passbox verify", "passbox synthesize"):  # of files, of nobody's room
            common = set()
        assert names >= {*common, "--json"}, path
        for option in names - {*common, "--json", "--help"}:
            assert option in section, f"{path} {option}"
    for line in (settings.__doc__ or "").splitlines():
        if line.startswith("| PASSBOX_"):
            assert f"## {line.split('|')[1].strip()}\n" in text
    for quota in quotas.DEFAULTS:
        assert f"`{quota}`" in text


@pytest.mark.parametrize(
    "text",
    [
        "rates = ['x']",
        "a = " + "9" * 5000,
        "a = " + "[" * 5000,
        "[[rates]]\neffective = 2026-11-01\nqueryCompute = 1e999999",
    ],
)
def test_a_rate_card_that_cannot_be_read_is_one_line(tmp_path: Path, text: str) -> None:
    from passbox.serve import application
    from passbox.settings import Settings

    (tmp_path / "rates.toml").write_text(text)
    with pytest.raises(Misconfigured, match=r"rates\.toml: "):
        application(Settings(home=tmp_path))


def test_a_damaged_database_is_one_line(tmp_path: Path) -> None:
    from passbox.state.database import Database

    (tmp_path / "passbox.sqlite").write_bytes(b"garbage" * 1000)
    with pytest.raises(Misconfigured, match="is no database, or is damaged"):
        Database(tmp_path / "passbox.sqlite")


@pytest.mark.parametrize("name", ["", "two\nlines", "\x01", "n" * 256])
def test_a_name_that_cannot_be_printed_is_refused(tmp_path: Path, name: str) -> None:
    arguments = ["account", "create", "111111111111", "--name", name, "--home", str(tmp_path)]
    run = CliRunner().invoke(cli, arguments)
    assert run.exit_code == 2
    assert "can be printed" in run.output


def test_a_payer_that_is_no_account_is_refused(tmp_path: Path) -> None:
    passbox("account", "create", "111111111111", "--name", "a", home=tmp_path)
    for command in (["show"], ["transfers"], ["export", "--month", "2026-11", "--out", "x.csv"]):
        run = CliRunner().invoke(cli, ["ledger", *command, "--payer", "nobody", "--home", str(tmp_path)])
        assert run.exit_code == 2
        assert "twelve digits" in run.output
