"""What is published of a job while it runs, and what is not."""

import json
import threading
import time
from pathlib import Path

import pytest

from passbox.backends.runtimes.base import Usage
from passbox.disclosure import metrics
from passbox.jobs import live
from passbox.jobs.kind import Output, Workspace

DEFINITIONS = ({"name": "loss", "regex": "loss=([0-9.]+)"},)


class Watched:
    """A job that is watched every few milliseconds. published: stream → everything it ever held."""

    def __init__(self, folder: Path, noise="NONE", instances=1, usage=lambda: None, breaks=False):
        self.published = {}
        self.breaks = breaks
        self.changed = threading.Event()
        self.logs = [folder / f"log-{number}" for number in range(instances)]
        output = Output("TrainedModels", "job", self.logs[0], metrics=DEFINITIONS, noise=noise)
        (folder / "space").mkdir()
        workspace = Workspace(folder / "space", lambda _line: None, self.publish)
        usages = [usage] * instances
        self.context = live.watched(output, self.logs, usages, 2.0, workspace, 0.01, 0.05)

    def publish(self, group, stream, file):
        if self.breaks:
            raise OSError("the disk is full")
        lines = [json.loads(line) for line in file.read_bytes().splitlines()]
        self.published[stream] = [*self.published.get(stream, []), lines]
        self.changed.set()

    def say(self, text, instance=0):
        with self.logs[instance].open("a") as log:
            log.write(text)

    def wait(self, stream, count):
        """Until a stream has so many lines; fails after a while."""
        deadline = time.monotonic() + 20
        while len(self.published.get(stream, [[]])[-1]) < count:
            assert time.monotonic() < deadline
            self.changed.wait(0.05)


def test_metrics_come_as_soon_as_their_line_is_whole(tmp_path):
    job = Watched(tmp_path)
    with job.context:
        job.say("start\nloss=1.5\nloss=0.")
        job.wait("job.metrics.jsonl", 1)
        assert job.published["job.metrics.jsonl"][-1] == [{"name": "loss", "value": 1.5, "line": 2}]
        job.say("25\nloss=9")
        job.wait("job.metrics.jsonl", 2)
    # what was told is what `disclose` tells at the end of it
    found, _ = metrics.collect(job.logs[0].read_bytes().rpartition(b"\n")[0], DEFINITIONS)
    assert job.published["job.metrics.jsonl"][-1] == [metric.stored() for metric in found]


@pytest.mark.parametrize("noise", [None, "LOW", "MEDIUM", "HIGH"])
def test_noisy_and_closed_metrics_wait_for_the_end(tmp_path, noise):
    job = Watched(tmp_path, noise)
    with job.context:
        job.say("loss=1.5\n")
        time.sleep(0.1)
    assert job.published == {}


def test_instances_are_told_in_their_order(tmp_path):
    job = Watched(tmp_path, instances=2)
    with job.context:
        job.say("loss=2\n", 1)
        job.wait("job.metrics.jsonl", 1)
        job.say("loss=1\n", 0)
        job.wait("job.metrics.jsonl", 2)
    assert [metric["value"] for metric in job.published["job.metrics.jsonl"][-1]] == [1.0, 2.0]


def test_a_flood_is_cut(tmp_path):
    job = Watched(tmp_path)
    with job.context:
        job.say("loss=1\n" * 20_000)
        job.wait("job.metrics.jsonl", metrics.MOST_VALUES)
    assert len(job.published["job.metrics.jsonl"][-1]) == metrics.MOST_VALUES


def test_usage_is_told_coarsely_and_at_the_end_once_more(tmp_path):
    began = time.monotonic()
    job = Watched(tmp_path, None, usage=lambda: Usage(0.62 * (time.monotonic() - began), 150 << 20))
    with job.context:
        job.wait("job.system.jsonl", 3)
    lines = job.published["job.system.jsonl"][-1]
    assert {line["memoryMiB"] for line in lines} == {256}
    assert all(line["cpuPercent"] % 10 == 0 for line in lines)
    assert lines[1]["cpuPercent"] == 30  # 0.62 of a CPU, of two
    assert {line["instance"] for line in lines} == {1}


def test_what_is_not_measured_is_not_told(tmp_path):
    job = Watched(tmp_path)
    with job.context:
        time.sleep(0.1)
    assert job.published == {}


def test_trouble_with_publishing_is_not_the_jobs(tmp_path):
    job = Watched(tmp_path, usage=lambda: Usage(1.0, 1), breaks=True)
    with job.context:
        job.say("loss=1\n")
        time.sleep(0.1)
    with pytest.raises(KeyError), Watched(_made(tmp_path / "other")).context:
        raise KeyError  # the body's own trouble goes on its way


def _made(folder):
    folder.mkdir()
    return folder
