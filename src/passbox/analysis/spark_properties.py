"""The Spark properties that a request may name: what each takes, and what becomes of it here.

The names are those that AWS Clean Rooms documents for its workers (user guide, "Spark properties"); one that
it does not list is refused, because with any property at all a session could be pointed at other files. What
becomes of a listed one is the letter in the first column of the table:

S   set on the session of that query alone, where the engine is a Spark
F   fixed when Spark starts, so its operator's to set; refused
A   would change what queries answer, which was verified under Spark's own rules only; refused
O   of AWS's own build of Spark, an older one, Hive, or files that the room writes itself; refused

Bounds are ours: what a session sets costs the server's planner and memory, which all of its queries share.
The embedded engine has none of these settings, so it refuses all but a time zone that is UTC anyway. Pure.
"""

import difflib
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

Effect = Literal["S", "F", "A", "O"]
TIME_ZONE = "spark.sql.session.timeZone"
PARTITIONS = "spark.sql.shuffle.partitions"
CORES = {"CR.1X": 4, "CR.4X": 16, "CR.8X": 32}  # of one worker, as AWS documents them
_REASONS: Mapping[Effect, str] = {
    "F": "Spark reads it when it starts; leave it out and ask the operator to set it on the server",
    "A": "it would change what the query answers, which holds for Spark's own rules only; leave it out",
    "O": "there is nothing here that it could set; leave it out",
}
_EMBEDDED = "the embedded engine has no such setting; leave it out, or ask the operator to run on a Spark"
_UNITS = {"": 0, "b": 0, "k": 10, "kb": 10, "m": 20, "mb": 20, "g": 30, "gb": 30, "t": 40, "tb": 40}
_SIZE = re.compile(r"(\d{1,15})\s*([kmgt]?b?)", re.ASCII | re.IGNORECASE)
_SECONDS = re.compile(r"(\d{1,9})\s*s?", re.ASCII)
_UTC = ("UTC", "Z", "+00:00", "Etc/UTC")

_TABLE = """
S spark.sql.adaptive.advisoryPartitionSizeInBytes bytes 64k 8g
S spark.sql.adaptive.autoBroadcastJoinThreshold bytes|-1 0 1g
S spark.sql.adaptive.coalescePartitions.enabled boolean
S spark.sql.adaptive.coalescePartitions.initialPartitionNum integer 1 10000
S spark.sql.adaptive.coalescePartitions.minPartitionSize bytes 64k 8g
S spark.sql.adaptive.coalescePartitions.parallelismFirst boolean
S spark.sql.adaptive.enabled boolean
S spark.sql.adaptive.forceOptimizeSkewedJoin boolean
S spark.sql.adaptive.localShuffleReader.enabled boolean
S spark.sql.adaptive.maxShuffledHashJoinLocalMapThreshold bytes 0 1g
S spark.sql.adaptive.optimizeSkewsInRebalancePartitions.enabled boolean
S spark.sql.adaptive.rebalancePartitionsSmallPartitionFactor number 0.01 0.99
S spark.sql.adaptive.skewJoin.enabled boolean
S spark.sql.adaptive.skewJoin.skewedPartitionFactor number 1 1000
S spark.sql.adaptive.skewJoin.skewedPartitionThresholdInBytes bytes 64k 64g
S spark.sql.analyzer.maxIterations integer 100 1000
S spark.sql.autoBroadcastJoinThreshold bytes|-1 0 1g
S spark.sql.broadcastTimeout seconds 1 43200
S spark.sql.cbo.enabled boolean
S spark.sql.cbo.joinReorder.dp.star.filter boolean
S spark.sql.cbo.joinReorder.dp.threshold integer 1 16
S spark.sql.cbo.joinReorder.enabled boolean
S spark.sql.cbo.planStats.enabled boolean
S spark.sql.cbo.starSchemaDetection boolean
S spark.sql.crossJoin.enabled boolean
S spark.sql.files.maxPartitionBytes bytes 1m 2047m
S spark.sql.files.maxPartitionNum integer 1 10000
S spark.sql.files.minPartitionNum integer 1 10000
S spark.sql.inMemoryColumnarStorage.batchSize integer 1 100000
S spark.sql.inMemoryColumnarStorage.compressed boolean
S spark.sql.inMemoryColumnarStorage.enableVectorizedReader boolean
S spark.sql.maxSinglePartitionBytes bytes 1m 64g
S spark.sql.optimizer.collapseProjectAlwaysInline boolean
S spark.sql.optimizer.dynamicPartitionPruning.enabled boolean
S spark.sql.optimizer.enableCsvExpressionOptimization boolean
S spark.sql.optimizer.enableJsonExpressionOptimization boolean
S spark.sql.optimizer.runtime.bloomFilter.applicationSideScanSizeThreshold bytes 0 1t
S spark.sql.optimizer.runtime.bloomFilter.creationSideThreshold bytes 0 1g
S spark.sql.optimizer.runtime.bloomFilter.enabled boolean
S spark.sql.optimizer.runtime.bloomFilter.expectedNumItems integer 1 100000000
S spark.sql.optimizer.runtime.bloomFilter.maxNumBits integer 64 1073741824
S spark.sql.optimizer.runtime.bloomFilter.maxNumItems integer 1 100000000
S spark.sql.optimizer.runtime.bloomFilter.numBits integer 64 1073741824
S spark.sql.optimizer.runtime.rowLevelOperationGroupFilter.enabled boolean
S spark.sql.optimizer.runtimeFilter.number.threshold integer 0 100
S spark.sql.parquet.aggregatePushdown boolean
S spark.sql.parquet.columnarReaderBatchSize integer 1 65536
S spark.sql.parquet.enableVectorizedReader boolean
S spark.sql.shuffle.partitions integer 1 10000
S spark.sql.shuffledHashJoinFactor integer 1 1000
S spark.sql.sources.parallelPartitionDiscovery.threshold integer 0 100000
S spark.sql.statistics.histogram.enabled boolean
S spark.sql.session.timeZone utc
F spark.driver.maxResultSize
F spark.dynamicAllocation.executorIdleTimeout
F spark.dynamicAllocation.schedulerBacklogTimeout
F spark.dynamicAllocation.sustainedSchedulerBacklogTimeout
F spark.executor.heartbeatInterval
F spark.hadoop.fs.s3.maxRetries
F spark.io.compression.codec
F spark.maxRemoteBlockSizeFetchToMem
F spark.memory.fraction
F spark.memory.storageFraction
F spark.network.timeout
F spark.rdd.compress
F spark.reducer.maxSizeInFlight
F spark.rpc.askTimeout
F spark.scheduler.maxRegisteredResourcesWaitingTime
F spark.scheduler.minRegisteredResourcesRatio
F spark.scheduler.mode
F spark.shuffle.compress
F spark.shuffle.file.buffer
F spark.shuffle.io.connectionTimeout
F spark.shuffle.io.maxRetries
F spark.shuffle.io.retryWait
F spark.shuffle.service.index.cache.size
F spark.shuffle.spill.compress
F spark.sql.metadataCacheTTLSeconds
F spark.stage.maxConsecutiveAttempts
F spark.task.cpus
F spark.task.maxFailures
A spark.sql.legacy.allowHashOnMapType
A spark.sql.legacy.allowNegativeScaleOfDecimal
A spark.sql.legacy.castComplexTypesToString.enabled
A spark.sql.legacy.charVarcharAsString
A spark.sql.legacy.createEmptyCollectionUsingStringType
A spark.sql.legacy.exponentLiteralAsDecimal.enabled
A spark.sql.legacy.json.allowEmptyString.enabled
A spark.sql.legacy.parquet.int96RebaseModeInRead
A spark.sql.legacy.timeParserPolicy
A spark.sql.legacy.typeCoercion.datetimeToString.enabled
A spark.sql.optimizer.excludedRules
O spark.cleanrooms.driver.memoryOverheadFactor
O spark.cleanrooms.executor.memoryOverheadFactor
O spark.emr-serverless.allocation.batch.size
O spark.sql.dataprefetch.filescan.maxParallelismPerTask
O spark.sql.files.maxRecordsPerFile
O spark.sql.hive.metastorePartitionPruningFallbackOnException
O spark.sql.iceberg.data-prefetch.enabled
O spark.sql.legacy.nullValueWrittenAsQuotedEmptyStringCsv
O spark.sql.optimizer.runtimeFilter.semiJoinReduction.enabled
"""


class Property(NamedTuple):
    """What becomes of a property, and the values that it takes: a kind, and its least and most as written."""

    effect: Effect
    kind: str
    least: str
    most: str


class PropertyRefused(ValueError):
    """A property that cannot be had. name: which; str: what is wrong with it and what to do."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}.")
        self.name = name


def _read(table: str) -> dict[str, Property]:
    found = {}
    for line in table.split("\n")[1:-1]:
        effect, name, kind, least, most = (*line.split(), "", "", "")[:5]
        found[name] = Property(effect, kind, least, most)  # type: ignore[arg-type]
    return found


PROPERTIES: Mapping[str, Property] = _read(_TABLE)


def session(
    asked: Mapping[str, str], engine: Literal["sail", "spark"], worker: str, number: int
) -> dict[str, str]:
    """What the session of one query sets, with values as Spark reads them; raises PropertyRefused.

    worker, number: the workers asked for. A session cannot have machines, but it can cut its shuffles for as
    many cores as those have, which is done unless the request says otherwise; nothing on the embedded engine.
    """
    found = {name: _value(name, text, engine) for name, text in asked.items()}
    if engine == "sail":
        return {}
    return {PARTITIONS: str(CORES[worker] * number), **found}


def _value(name: str, text: str, engine: Literal["sail", "spark"]) -> str:
    known = PROPERTIES.get(name)
    if known is None:
        [nearest] = difflib.get_close_matches(name, PROPERTIES, 1, cutoff=0)
        raise PropertyRefused(name, f"no Spark property that can be set; the nearest is {nearest}")
    if known.effect != "S":
        raise PropertyRefused(name, _REASONS[known.effect])
    if engine == "sail" and name != TIME_ZONE:
        raise PropertyRefused(name, _EMBEDDED)
    value = _parsed(known, text.strip())
    if value is None:
        raise PropertyRefused(name, f"{text!r} must be {takes(known)}")
    return value


def takes(known: Property) -> str:
    """The values of a property that a session sets, in words."""
    between = f"{known.least} to {known.most}"
    return {
        "boolean": "true or false",
        "integer": f"a whole number, {between}",
        "number": f"a number, {between}",
        "bytes": f"a number of bytes, {between}, such as 64m",
        "bytes|-1": f"a number of bytes, {between}, such as 64m, or -1",
        "seconds": f"a number of seconds, {between}",
        "utc": "UTC, in which all queries run; use from_utc_timestamp or to_utc_timestamp for another zone",
    }[known.kind]


def _parsed(known: Property, text: str) -> str | None:
    """The value as Spark is told it, or None where it is none."""
    match known.kind:
        case "boolean":
            return text.lower() if text.lower() in ("true", "false") else None
        case "utc":
            return "UTC" if text in _UTC else None
        case "number":
            if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text, re.ASCII):
                return None
            return text if float(known.least) <= float(text) <= float(known.most) else None
        case "bytes" | "bytes|-1":
            if text == "-1" and known.kind == "bytes|-1":
                return text
            amount = _bytes(text)
            return _bounded(amount, _bytes(known.least), _bytes(known.most))
        case "seconds":
            found = _SECONDS.fullmatch(text)
            return _bounded(int(found[1]) if found else None, int(known.least), int(known.most))
        case _:
            whole = int(text) if re.fullmatch(r"\d{1,15}", text, re.ASCII) else None
            return _bounded(whole, int(known.least), int(known.most))


def _bounded(value: int | None, least: int | None, most: int | None) -> str | None:
    within = value is not None and least is not None and most is not None and least <= value <= most
    return str(value) if within else None


def _bytes(text: str) -> int | None:
    found = _SIZE.fullmatch(text)
    return int(found[1]) << _UNITS[found[2].lower()] if found else None
