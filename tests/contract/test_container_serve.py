"""The inference contract: a server in the sandbox, asked by the batch, cut off in time."""

import json
from urllib.parse import unquote

import pytest

from lib.container import CSV, OWNER, RECEIVER, RUNNER, SERVE, Room, log, server
from passbox.backends.runtimes.base import Isolation
from passbox.backends.runtimes.bubblewrap import BubblewrapRuntime
from passbox.errors import JobFailed
from passbox.jobs.batches import Header
from passbox.jobs.serving import Patience
from passbox.jobs.transform import Asked
from passbox.ledger import prices
from passbox.ledger.prices import MODEL_INFERENCE

QUICK = Patience(start=1.0, ping=0.3, answer=0.7)
CHANNEL = "arn:channel"


@pytest.fixture(scope="module")
def runtime():
    made = BubblewrapRuntime()
    if made.check().isolation is Isolation.NONE:
        pytest.skip("this machine cannot seal")
    return made


@pytest.fixture
def room(runtime, tmp_path):
    made = Room(tmp_path, runtime)
    yield made
    made.close()


def infer(room, serve, files=None, job=None, **changes):
    """Runs one inference over a channel of `files` with this server."""
    channel = room.channel("rows", {"part-00000.csv": CSV} if files is None else files)
    model = room.trained(serve=serve)
    return room.run(room.inference(model, channel, **(job or {})), **changes)


def results(result):
    assert result.failure is None, (result.failure, log(result))
    [delivery] = result.deliveries
    return {name: path.read_text() for name, path in delivery.files.items()}


# what a server was asked, told by itself in its log, a JSON object for each request
TELLING = """
    import json
    print(json.dumps({"body": body.decode(), "headers": dict(self.headers)}), flush=True)
    rows = body.decode().splitlines()
    self.answer(200, "".join(row.split(",")[0] + "\\n" for row in rows).encode())
"""


def asked(result):
    return [json.loads(line) for line in log(result).splitlines()]


def test_a_round_trip(room):
    job = {"outputConfiguration": {"accept": "text/csv", "members": [{"accountId": RECEIVER}]}}
    result = infer(room, server(TELLING), job=job)
    assert results(result) == {"part-00000.csv.out": "id\n1\n2\n3\n"}
    [request] = asked(result)
    assert request["body"] == CSV
    assert request["headers"]["Content-Type"] == request["headers"]["Accept"] == "text/csv"
    assert result.measured == {MODEL_INFERENCE: 3 * prices.MILLI}
    assert result.fields["usage"]["records"] == 3
    assert result.fields["isolation"] == "sealed"
    assert result.fields["inferenceContainerImageDigest"].startswith("sha256:")
    assert result.output.group == "TrainedModelInferenceJobs"
    assert room.progress[-1] == "scoring file 1 of 1"


def test_where_it_is_delivered(room):
    result = infer(room, server())
    [delivery] = result.deliveries
    assert delivery.account == RECEIVER
    assert delivery.uri == f"s3://results/some/prefix/room/late%20arrivals/{RUNNER}/score%2Fit"
    assert unquote(delivery.uri).endswith("score/it")
    room.objects.deliver(delivery.account, delivery.uri, delivery.role, delivery.files)


def test_what_a_server_sees(room):
    look = server(
        """
        import json, os
        found = {"variables": dict(os.environ), "weights": open("/opt/ml/model/weights").read()}
        try:
            open("/opt/ml/model/more", "w")
        except OSError as error:
            found["writing"] = error.strerror
        print(json.dumps(found), flush=True)
        self.answer(200, b"")
        """
    )
    seen = asked(infer(room, look, job={"environment": {"MINE": "1", "SAGEMAKER_BATCH": "false"}}))[0]
    assert seen["weights"] == "42"
    assert seen["writing"] == "Read-only file system"
    expected = {
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "6",
        "SAGEMAKER_BATCH_STRATEGY": "MULTI_RECORD",
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "1",
        "MINE": "1",
    }
    assert {name: seen["variables"].get(name) for name in expected} == expected


def test_batches_are_full_ordered_and_only_the_first_of_a_file_has_the_header(room):
    rows = [f'{number},"{"x" * 20}"' for number in range(100)]
    files = {
        "part-00001.csv": "id,text\n" + "\n".join(rows[60:]) + "\n",
        "part-00000.csv": "id,text\n" + "\n".join(rows[:60]) + "\n",
    }
    # whole records as far as they fit: 500 bytes
    result = infer(room, server(TELLING), files, asked=Asked(500, None))
    bodies = [request["body"] for request in asked(result)]
    assert "".join(bodies) == files["part-00000.csv"] + files["part-00001.csv"]
    assert max(map(len, bodies)) <= 500
    assert all(body.endswith("\n") for body in bodies)
    headed = [index for index, body in enumerate(bodies) if body.startswith("id,text")]
    assert len(headed) == 2
    assert headed[0] == 0
    found = results(result)
    assert list(found) == ["part-00000.csv.out", "part-00001.csv.out"]
    assert found["part-00000.csv.out"].split() == ["id", *map(str, range(60))]
    assert found["part-00001.csv.out"].split() == ["id", *map(str, range(60, 100))]
    assert result.fields["usage"]["records"] == 100


@pytest.mark.parametrize(
    ("said", "headed"), [("first", [True, False, False]), ("every", [True] * 3), ("none", [False] * 3)]
)
def test_which_requests_have_the_header(room, said, headed):
    job = {"environment": {"PASSBOX_CSV_HEADER": said}}
    rows = "".join(f"{number},{'x' * 10}\n" for number in range(3))
    result = infer(
        room,
        server(TELLING),
        {"part-00000.csv": f"id,text\n{rows}"},
        job,
        asked=Asked(24, None, Header(said)),
    )
    bodies = [request["body"] for request in asked(result)]
    assert [body.startswith("id,text\n") for body in bodies] == headed
    assert "".join(body.removeprefix("id,text\n") for body in bodies) == rows
    assert result.fields["usage"]["records"] == 3


@pytest.mark.parametrize("instances", [1, 3])
def test_files_are_shared_by_instances_and_their_results_keep_their_order(room, instances):
    files = {
        f"part-{file:05d}.csv": "id\n" + "".join(f"{file}-{row}\n" for row in range(5)) for file in range(6)
    }
    here = """
        import socket, time
        time.sleep(0.05)
        self.answer(200, body)
        print("from", id(self.server), flush=True)
    """
    job = {"resourceConfig": {"instanceType": "ml.m5.xlarge", "instanceCount": instances}}
    result = infer(room, server(here), files, job)
    assert results(result) == {f"{name}.out": text for name, text in files.items()}
    assert log(result).count("from") == 6
    assert result.fields["usage"]["records"] == 30
    assert f"starting {instances} containers" in room.progress or instances == 1


def test_one_of_several_that_fails_ends_all(room):
    files = {f"part-{file:05d}.csv": f"id\n{file}\n" for file in range(4)}
    bad = 'self.answer(400 if b"3" in body else 200, body)'
    job = {"resourceConfig": {"instanceType": "ml.m5.xlarge", "instanceCount": 2}}
    result = infer(room, server(bad), files, job)
    assert result.failure == ("AlgorithmError", "The container answered /invocations with status 400.")
    assert all(not delivery.files for delivery in result.deliveries)


# answers the first tries of every request with half of an answer, or with a status of its own
FLAKY = """
tries = {{}}
def invoked(self, body):
    tries[body] = tries.get(body, 0) + 1
    if tries[body] <= {failures}:
        {fails}
    else:
        self.answer(200, body)
Handler.invoked = invoked
"""
HANGS_UP = (
    "self.send_response(200); self.send_header('Content-Length', '999'); self.end_headers(); "
    "self.wfile.write(b'half'); self.wfile.flush(); self.close_connection = True"
)


@pytest.mark.parametrize("fails", ["self.answer(503, b'later')", "self.answer(429)", HANGS_UP])
def test_a_request_is_made_again(room, fails):
    result = infer(room, server(more=FLAKY.format(failures=2, fails=fails)), {"part-00000.csv": CSV})
    assert results(result) == {"part-00000.csv.out": CSV}
    assert result.fields["usage"]["records"] == 3


def test_a_request_is_made_four_times_at_most(room):
    more = FLAKY.format(failures=4, fails="self.answer(503); print('no', flush=True)")
    result = infer(room, server(more=more))
    assert result.failure == ("AlgorithmError", "The container answered /invocations with status 503.")
    assert log(result).count("no") == 4


def test_a_file_without_records_is_not_asked_about(room):
    files = {"part-00000.csv": "id,name\n", "part-00001.csv": CSV}
    result = infer(room, server(TELLING), files)
    assert results(result) == {"part-00000.csv.out": "", "part-00001.csv.out": "id\n1\n2\n3\n"}
    assert len(asked(result)) == 1


def test_a_record_that_does_not_fit(room):
    result = infer(room, server(), {"part-00000.csv": f"id\n{'1' * 100}\n"}, asked=Asked(50, None))
    assert result.failure[0] == "RECORD_TOO_LARGE"


@pytest.mark.parametrize(("answer", "expected"), [("b'1'", "1\n"), ("b'1\\n'", "1\n"), ("b''", "")])
def test_every_answer_ends_its_line(room, answer, expected):
    assert results(infer(room, server(f"self.answer(200, {answer})"))) == {"part-00000.csv.out": expected}


def test_chunked_answers(room):
    chunked = server(
        """
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"2\\r\\n1\\n\\r\\n2\\r\\n2\\n\\r\\n0\\r\\n\\r\\n")
        """
    )
    assert results(infer(room, chunked)) == {"part-00000.csv.out": "1\n2\n"}


@pytest.mark.parametrize("close", ["Handler.protocol_version = 'HTTP/1.0'", "Handler.timeout = 0.0001"])
def test_a_server_that_keeps_no_connection(room, close):
    files = {"part-00000.csv": CSV, "part-00001.csv": CSV}
    result = infer(room, server(more=close), files, asked=Asked(14, None))
    assert list(results(result).values()) == ["id\n1\n2\n3\n"] * 2


# -- servers that fail or mean harm -------------------------------------------------------------------------


def failure(room, serve, **changes):
    result = infer(room, serve, **{"patience": QUICK, **changes})
    assert result.failure is not None
    return result.failure


@pytest.mark.parametrize("status", [500, 404, 302, 199])
def test_other_answers_than_success(room, status):
    code, message = failure(room, server(f"self.answer({status}, b'row 7 of Ann is bad')"))
    assert (code, message) == ("AlgorithmError", f"The container answered /invocations with status {status}.")


@pytest.mark.parametrize(
    "serve",
    [
        "import time; time.sleep(60)",
        server(more="def get(self): self.answer(503)\nHandler.do_GET = get"),
        server(more="import time\ndef get(self): time.sleep(60)\nHandler.do_GET = get"),
        "import socket, time\ns = socket.create_server(('127.0.0.1', 8080))\ntime.sleep(60)",
        "import socket\ns = socket.create_server(('127.0.0.1', 8080))\n"
        "while True: s.accept()[0].sendall(b'hello ' * 1000)",
    ],
)
def test_a_server_that_never_is_ready(room, serve):
    assert failure(room, serve)[0] == "SERVER_NOT_READY"


def test_a_server_that_ends(room):
    assert failure(room, "raise SystemExit(4)") == (
        "AlgorithmError",
        "The container ended with exit status 4 while it served.",
    )


def test_no_serve_program(room):
    room.channel("rows")
    model = room.trained()
    room.program(train="pass")
    assert "exit status 127" in room.run(room.inference(model, "arn:rows")).failure[1]


def test_a_server_that_ends_in_the_middle(room):
    assert "exit status 5" in failure(room, server("import os; os._exit(5)"))[1]


def test_a_server_that_hangs_up(room):
    cut = """
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"1\\n")
        self.close_connection = True
    """
    assert failure(room, server(cut))[1] == "The container closed the connection without an answer."


@pytest.mark.parametrize(
    "invoked",
    [
        "import time; time.sleep(60)",
        # a byte now and then
        """
        import time
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        self.close_connection = True
        while True:
            self.wfile.write(b"1\\n")
            time.sleep(0.05)
        """,
        # headers without an end
        """
        while True:
            self.wfile.write(b"HTTP/1.1 100 Continue\\r\\n\\r\\n")
        """,
    ],
)
def test_a_server_that_is_slow(room, invoked):
    code, message = failure(room, server(invoked))
    assert (code, message) == ("SERVER_TOO_SLOW", "The container did not answer within 1 seconds.")


def test_a_server_that_does_not_read(room):
    lines = "id\n" + "1234567890\n" * 500_000
    deaf = SERVE.format(
        changes="""
import time
Handler.do_POST = lambda self: time.sleep(60)
"""
    )
    assert failure(room, deaf, files={"part-00000.csv": lines})[0] == "SERVER_TOO_SLOW"


def test_an_answer_without_end(room):
    flood = """
        self.send_response(200)
        self.send_header("Content-Length", str(10**10))
        self.end_headers()
        while True:
            self.wfile.write(b"1\\n" * 10000)
    """
    result = infer(room, server(flood), max_output_bytes=3_000_000)
    assert result.failure[0] == "MAX_OUTPUT_SIZE_EXCEEDED"
    assert "3.00 MB" in result.failure[1]


@pytest.mark.parametrize(
    "headers", ["", 'self.send_header("Content-Length", "-5")', 'self.send_header("Connection", "close")']
)
def test_an_answer_whose_end_is_nowhere_said(room, headers):
    """A server that dies in the middle of such an answer would seem to have answered in full."""
    cut = f"""
        self.send_response(200)
        {headers or "pass"}
        self.end_headers()
        self.wfile.write(b"1\\n")
        import os; os._exit(1)
    """
    code, message = failure(room, server(cut))
    assert code == "AlgorithmError"
    assert "without a Content-Length" in message


def test_a_chunk_of_negative_length(room):
    bad = """
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"-5\\r\\nzz\\r\\n")
    """
    assert failure(room, server(bad)) == (
        "AlgorithmError",
        "The container answered /invocations with what is not HTTP.",
    )


def test_results_of_all_files_count_against_the_limit(room):
    room.policies |= {"trainedModelInferenceJobs": {"maxOutputSize": {"unit": "GB", "value": 0.01}}}
    files = {f"part-{number:05d}.csv": CSV for number in range(4)}
    result = infer(room, server("self.answer(200, b'1' * 3_000_000)"), files)
    assert result.failure[0] == "MAX_OUTPUT_SIZE_EXCEEDED"
    assert "10.00 MB" in result.failure[1]


@pytest.mark.parametrize("noise", ["b'HTTP/9.9 what\\r\\n\\r\\n'", "b'\\0' * 100_000 + b'\\n'"])
def test_answers_that_are_not_http(room, noise):
    code, message = failure(room, server(f"self.wfile.write({noise}); self.close_connection = True"))
    assert (code, message) == ("AlgorithmError", "The container answered /invocations with what is not HTTP.")


def test_an_archive_that_tricks_is_not_unpacked(room):
    channel = room.channel("rows")
    model = room.trained()
    archive = room.tools.kept(model) / "model.tar.gz"
    archive.write_bytes(b"no archive")
    with pytest.raises(JobFailed):
        room.run(room.inference(model, channel))
    assert archive.exists()


# -- what must still stand ----------------------------------------------------------------------------------

ABILITIES = {"customMLMemberAbilities": ["CAN_RECEIVE_MODEL_OUTPUT"]}
NO_DESTINATION = {"defaultOutputLocation": {"roleArn": "role"}}
NO_BUCKET = {
    "defaultOutputLocation": {"roleArn": "role", "destination": {"s3Destination": {"s3Uri": "s3://NO/"}}}
}


@pytest.mark.parametrize(
    ("kind", "id", "changes"),
    [
        ("member", f"room/{RECEIVER}", {"status": "REMOVED"}),
        ("member", f"room/{RECEIVER}", {"body": {"mlAbilities": ABILITIES}}),
        ("member", f"room/{OWNER}", {"status": "LEFT"}),
        ("ml_configuration", "configuration", {"body": NO_DESTINATION}),
        ("ml_configuration", "configuration", {"body": NO_BUCKET}),
        ("ml_input_channel", "rows", {"status": "INACTIVE"}),
        ("trained_model", "model", {"status": "INACTIVE"}),
    ],
)
def test_what_was_submitted_no_longer_stands(room, kind, id, changes):
    room.channel("rows")
    model = room.trained()
    row = room.inference(model, "arn:rows")
    room.change(kind, model.id if id == "model" else id, **changes)
    with pytest.raises(JobFailed) as caught:
        room.run(row)
    assert caught.value.code in ("INVALID_RECEIVER", "INVALID_RESOURCE")


# -- exports ------------------------------------------------------------------------------------------------


def exporting(room, files, most=0.01):
    room.policies |= {
        "trainedModelExports": {"filesToExport": files, "maxSize": {"unit": "GB", "value": most}}
    }
    code = """
        import os
        open("/opt/ml/model/weights", "wb").write(os.urandom(6_000_000))
        open("/opt/ml/output/data/report", "wb").write(os.urandom(6_000_000))
    """
    return room.export(room.trained(code))


@pytest.mark.parametrize("kind", ["MODEL", "OUTPUT"])
def test_an_export(room, kind):
    result = room.run(exporting(room, [kind]))
    [delivery] = result.deliveries
    assert delivery.account == RECEIVER
    assert delivery.uri == f"s3://results/some/prefix/room/late%20arrivals/{RUNNER}/take%20it"
    assert list(delivery.files) == [f"{kind.lower()}.tar.gz"]
    assert not result.measured
    [address] = room.objects.deliver(delivery.account, delivery.uri, delivery.role, delivery.files)
    assert address == f"{delivery.uri}/{kind.lower()}.tar.gz"


def test_an_export_larger_than_allowed(room):
    row = exporting(room, ["OUTPUT", "MODEL"])
    with pytest.raises(JobFailed) as caught:
        room.run(row)
    assert caught.value.code == "MAX_EXPORT_SIZE_EXCEEDED"
    assert "model.tar.gz and output.tar.gz together have 12" in caught.value.message
    assert "10000000 (10.00 MB)" in caught.value.message


def test_no_export_without_a_policy(room):
    row = room.export(room.trained())
    with pytest.raises(JobFailed, match="trainedModelExports"):
        room.run(row)


def test_the_room_keeps_what_was_exported(room):
    row = exporting(room, ["MODEL"])
    [delivery] = room.run(row).deliveries
    [exported] = delivery.files.values()
    exported.unlink()
    assert len(room.run(row).deliveries) == 1
