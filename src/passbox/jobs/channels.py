"""Channels as the instances of a training see them: files, or pipes, all of them or each instance its share.

Knows SageMaker's /opt/ml/input/data; must not know what is trained. File and FastFile are one and the same
here, a read-only view of the kept files, because those lie on this machine already.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from passbox.backends.runtimes.base import Mount
from passbox.jobs.kind import Workspace
from passbox.jobs.pipes import Pipes

DATA = "/opt/ml/input/data"
MODEL_TYPE = "application/x-sagemaker-model"
SHARDED = "ShardedByS3Key"
REPLICATED = "FullyReplicated"


@dataclass(frozen=True)
class Input:
    """A channel: `source` is shown at DATA/NAME, or, a model's archive, at DATA/NAME/FILE.

    mode: File, FastFile or Pipe; distribution: FullyReplicated or ShardedByS3Key
    """

    name: str
    source: Path
    type: str
    mode: str = "File"
    distribution: str = REPLICATED

    @property
    def place(self) -> str:
        """Where a program looks for it; of pipes, without the epoch."""
        return f"{DATA}/{self.name}"

    def described(self) -> dict[str, str]:
        """Its entry in inputdataconfig.json. FastFile is written as File, as SageMaker does."""
        return {
            "TrainingInputMode": "Pipe" if self.mode == "Pipe" else "File",
            "S3DistributionType": self.distribution,
            "RecordWrapperType": "None",
            "ContentType": self.type,
        }


def share(source: Path, index: int, count: int, distribution: str) -> list[Path]:
    """The files of a channel that instance `index` of `count` is given, in order of their names.

    Sharded, every count-th: about 1/count of the files, none where there are fewer files than instances.
    """
    files = sorted(path for path in source.iterdir() if path.is_file())
    return files[index::count] if distribution == SHARDED else files


@contextlib.contextmanager
def shown(
    inputs: Sequence[Input], workspace: Workspace, index: int, count: int
) -> Iterator[tuple[Mount, ...]]:
    """The mounts of one instance; pipes among them are fed for as long as the block lasts."""
    mounts = []
    piped = {
        one.name: share(one.source, index, count, one.distribution) for one in inputs if one.mode == "Pipe"
    }
    around: Path | None = None
    if piped:
        around = workspace.directory(f"pipes-{index + 1}")
        mounts.append(Mount(around, DATA))
    for one in inputs:
        if one.type == MODEL_TYPE:
            if around is not None:  # a place to mount it at, in the mount around it
                (around / one.name).mkdir()
                (around / one.name / one.source.name).touch()
            mounts.append(Mount(one.source, f"{one.place}/{one.source.name}"))
        elif one.mode != "Pipe" and one.distribution == SHARDED and count > 1:
            mounts.append(Mount(_shard(one, workspace, index, count), one.place))
        elif one.mode != "Pipe":
            mounts.append(Mount(one.source, one.place))
    if around is None:
        yield tuple(mounts)
        return
    with Pipes(around, piped):
        yield tuple(mounts)


def _shard(one: Input, workspace: Workspace, index: int, count: int) -> Path:
    directory = workspace.directory(f"shard-{index + 1}/{one.name}")
    for path in share(one.source, index, count, one.distribution):
        try:
            os.link(path, directory / path.name)
        except OSError:  # kept on another file system than jobs work on
            shutil.copyfile(path, directory / path.name)
    return directory


def variables(inputs: Sequence[Input]) -> Mapping[str, str]:
    """SM_CHANNEL_NAME of every channel. SM_CHANNEL_TRAIN is always among them, because the Clean Rooms guide
    promises it: the first data channel where none is called train."""
    return {
        "SM_CHANNEL_TRAIN": inputs[0].place,
        **{f"SM_CHANNEL_{one.name.upper()}": one.place for one in inputs},
    }
