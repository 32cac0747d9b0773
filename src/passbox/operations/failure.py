"""What each code of a failed job means, who can change it, by which setting, and what to change. Pure words.

Codes come from `JobFailed` and its like in jobs, backends, synthesis and disclosure; a test finds every one
of them in the code and wants its line here. Nothing here depends on anybody's data. SETTINGS that differ by
kind of job are filled in by `explained`.
"""

from typing import NamedTuple

SUBMITTER, ALGORITHM_OWNER, TABLE_OWNER = "SUBMITTER", "ALGORITHM_OWNER", "TABLE_OWNER"
RECEIVER, MEMBER, OPERATOR = "RECEIVER", "MEMBER", "OPERATOR"


class Failure(NamedTuple):
    """what: what happened; decider: who can change it; setting: by what; change: what to do."""

    what: str
    decider: str
    setting: str
    change: str


_POLICIES = "privacyConfiguration.policies of the configured model algorithm association"
_CODE = "the code in the algorithm's container image"
_AGAIN = "Submit the job again"
_SUBMITTED = "the request that submitted the job"

FAILURES = {
    "AlgorithmError": Failure(
        "The algorithm's own program failed or did not keep to the container contract.",
        ALGORITHM_OWNER,
        _CODE,
        "Look at the logs, which go to the accounts that a containerLogs policy names, and mend the image; "
        "then submit the job again.",
    ),
    "CANCELLED": Failure(
        "The job was called off, by whoever submitted it or by the operator.",
        SUBMITTER,
        "the cancel operation of the job",
        f"{_AGAIN} if its results are still wanted.",
    ),
    "DELIVERY_FAILED": Failure(
        "The job ran, but its results could not be put where the receiver wants them.",
        RECEIVER,
        "the receiver's destination, its bucket and its role",
        "The receiver mends its destination or its role, and takes no bucket that holds tables; then submit "
        "the job again.",
    ),
    "DISK_FULL": Failure(
        "The container wrote more than its volume holds.",
        SUBMITTER,
        "resourceConfig.volumeSizeInGB and resourceConfig.instanceType of the request",
        "Ask for a larger volume and a larger instance type, or write less.",
    ),
    "EXPORT_NOT_ALLOWED": Failure(
        "The algorithm's owner lets no model leave.",
        ALGORITHM_OWNER,
        f"trainedModelExports in {_POLICIES}",
        "The owner associates the algorithm again with a trainedModelExports policy and the model is trained "
        "again with that association.",
    ),
    "FORBIDDEN_ARTIFACT": Failure(
        "The container left something that may not leave: a link, a device, or a name that is none.",
        ALGORITHM_OWNER,
        f"{_CODE}, where it writes /opt/ml/model and /opt/ml/output/data",
        "Write plain files only.",
    ),
    "IMAGE_NOT_FOUND": Failure(
        "The container image of the algorithm is not known to this room.",
        OPERATOR,
        "imageUri of the configured model algorithm, and the images of this room",
        "The operator adds the image with `passbox image add`, or the algorithm names one that is there.",
    ),
    "INSTANCE_TYPE_TOO_LARGE": Failure(
        "The instance type has more GPUs than the machine of this room, or is larger and the operator has "
        "that refused.",
        SUBMITTER,
        "resourceConfig.instanceType of the request, and the operator's table of instance types",
        "Choose a smaller instance type or fewer instances, or ask the operator to allow scaling (never of "
        "GPUs) or for a larger machine.",
    ),
    "INSUFFICIENT_COMPUTE": Failure(
        "The query or the script needed more memory, disk or time than it was given.",
        SUBMITTER,
        "the workers that the request asks for, and the machine that the operator runs",
        "Read fewer rows or columns, or ask the operator for a larger machine.",
    ),
    "INTERNAL_ERROR": Failure(
        "The room itself failed; neither the request nor any member's settings are to blame.",
        OPERATOR,
        "the room's own log",
        f"{_AGAIN}; if it fails again, ask the operator to look.",
    ),
    "INVALID_ARGUMENT": Failure(
        "An argument or a variable of the container is one that no process can be given.",
        SUBMITTER,
        "environment and hyperparameters of the request, and entrypoint and arguments of the algorithm",
        "Leave out the zero byte.",
    ),
    "INVALID_ARTIFACT": Failure(
        "The model's files cannot be read any more.",
        OPERATOR,
        "the vault under the room's home",
        "The operator looks at the disk; train the model again.",
    ),
    "INVALID_CHANNEL": Failure(
        "A channel has a name that is no directory.",
        SUBMITTER,
        "dataChannels[].channelName of the request",
        "Choose another channelName.",
    ),
    "INVALID_RECEIVER": Failure(
        "Who should receive the results cannot, or no longer.",
        RECEIVER,
        "the receiver's membership, its ability to receive, and its ML configuration",
        "The receiver mends what the message names, or the job is submitted again with another receiver.",
    ),
    "INVALID_RESOURCE": Failure(
        "Something that the job uses is not as it was when the job was submitted.",
        MEMBER,
        "the resource that the message names",
        "Whose it is mends it or brings it again; then submit the job again.",
    ),
    "INVALID_SYNTHETIC_DATA_INPUT": Failure(
        "Nothing can be generated from the query's result: too few or too many rows or columns, or a column "
        "that the template does not classify as what it is.",
        SUBMITTER,
        "the analysis template: its query, its classification, its epsilon, and what is declared for it",
        "Do what the message says about the column, in a new analysis template.",
    ),
    "ISOLATION_NOT_REACHED": Failure(
        "A member demands a better seal of every job than the machine reaches, so it was not started.",
        OPERATOR,
        "the runtime on the machine of the worker, and what members demand with PutIsolationDemand",
        "The operator runs `passbox doctor` and does what it says, or the members that demand more than "
        "there is demand less; then submit the job again.",
    ),
    "MALFORMED_QUERY": Failure(
        "The query is not allowed any more, or cannot be run: a rule, a table or its own text does not fit.",
        TABLE_OWNER,
        "the query's text, and the analysis rules of the tables that it reads",
        "Ask PreviewQuery, which names the rule, the column and what would be allowed.",
    ),
    "MALFORMED_SCRIPT": Failure(
        "The script of the PySpark job failed.",
        MEMBER,
        "the analysis template of the job and its script",
        "Its author mends the script and makes a new analysis template; errorMessageConfiguration DETAILED "
        "in it, and its ARN in the rule of every table, show the script's own words.",
    ),
    "MAX_ARTIFACT_SIZE_EXCEEDED": Failure(
        "The training left more than the algorithm's owner lets it keep.",
        ALGORITHM_OWNER,
        f"trainedModels.maxArtifactSize in {_POLICIES}",
        "Leave less in /opt/ml/model and /opt/ml/output/data, or associate the algorithm with a larger size.",
    ),
    "MAX_EXPORT_SIZE_EXCEEDED": Failure(
        "The files to be exported are larger than the algorithm's owner lets out.",
        ALGORITHM_OWNER,
        f"trainedModelExports.maxSize in {_POLICIES}",
        "Associate the algorithm with a larger maxSize or fewer filesToExport.",
    ),
    "MAX_OUTPUT_SIZE_EXCEEDED": Failure(
        "The results are larger than the algorithm's owner lets out.",
        ALGORITHM_OWNER,
        f"trainedModelInferenceJobs.maxOutputSize in {_POLICIES}",
        "Answer with less for each record, or associate the algorithm with a larger size.",
    ),
    "MAX_RUNTIME_EXCEEDED": Failure(
        "The container ran for longer than it may.",
        SUBMITTER,
        "stoppingCondition.maxRuntimeInSeconds of the request",
        "Allow more seconds, or train on less.",
    ),
    "OUT_OF_MEMORY": Failure(
        "The container needed more memory than its instance has here.",
        SUBMITTER,
        "resourceConfig.instanceType of the request, and the machine that the operator runs",
        "Ask for a larger instance type, or work on less at a time.",
    ),
    "RECORD_TOO_LARGE": Failure(
        "One record of the channel is larger than a request to the container may be.",
        SUBMITTER,
        "containerExecutionParameters.maxPayloadInMB of the request",
        "Raise maxPayloadInMB, or select less for each record.",
    ),
    "RESOURCE_ACCESS_DENIED": Failure(
        "Something that the job uses may not be used for it.",
        MEMBER,
        "the resource that the message names",
        "Whose it is allows it; then submit the job again.",
    ),
    "RESOURCE_NOT_FOUND": Failure(
        "Something that the job names is not there any more.",
        MEMBER,
        "the resource that the message names",
        "Whose it is brings it again, or the job is submitted again with another.",
    ),
    "SANDBOX_UNAVAILABLE": Failure(
        "This machine cannot seal the container, so it was not started.",
        OPERATOR,
        "what `passbox doctor` says is missing",
        "The operator runs `passbox doctor` and does what it says; then submit the job again.",
    ),
    "SANDBOX_VIOLATION": Failure(
        "The container's seal did not hold when it was looked at from outside, so it was ended.",
        OPERATOR,
        "the runtime on the machine of the worker",
        "The operator looks at the room's log and runs `passbox doctor`; then submit the job again.",
    ),
    "SERVER_NOT_READY": Failure(
        "The container of the inference did not begin to answer.",
        ALGORITHM_OWNER,
        f"{_CODE}, where it answers GET /ping",
        "Load the model faster, or answer /ping with 200 as soon as it is loaded.",
    ),
    "SERVER_TOO_SLOW": Failure(
        "The container of the inference did not answer in time.",
        ALGORITHM_OWNER,
        f"{_CODE}, where it answers POST /invocations",
        "Answer faster, or submit with a smaller maxPayloadInMB.",
    ),
    "SYNTHESIS_COLUMN_REFUSED": Failure(
        "A column cannot be synthesized: it identifies rows, or the budget is too small to describe it.",
        SUBMITTER,
        "the query of the analysis template and its syntheticDataParameters",
        "Leave the column out, group its values, declare its range in the template, or raise epsilon.",
    ),
    "SYNTHETIC_DATA_NOT_PRIVATE_ENOUGH": Failure(
        "The generated rows gave away too much of the rows that they were made from, and were destroyed.",
        SUBMITTER,
        "epsilon and maxMembershipInferenceAttackScore of the analysis template, and its query",
        "Lower epsilon, or group and round rare values in the query, in a new analysis template.",
    ),
    "TIMED_OUT": Failure(
        "The query ran longer than a query may.",
        SUBMITTER,
        "the query, and the machine that the operator runs",
        "Read fewer rows, join on fewer, or ask the operator for a larger machine.",
    ),
    "TOO_MANY_ARTIFACT_FILES": Failure(
        "The container left more files than may leave.",
        ALGORITHM_OWNER,
        f"{_CODE}, where it writes /opt/ml/model and /opt/ml/output/data",
        "Write fewer files, for example one archive.",
    ),
    "UNSUPPORTED_INSTANCE_TYPE": Failure(
        "The instance type cannot be had here.",
        SUBMITTER,
        "resourceConfig.instanceType of the request",
        "Choose the type that the message names, or another without accelerators.",
    ),
}

UNKNOWN = Failure(
    "The job failed in a way that this version has no words for.",
    OPERATOR,
    _SUBMITTED,
    f"Read the message; {_AGAIN.lower()} or ask the operator to look.",
)


def explained(code: str) -> Failure:
    """What a status code means."""
    return FAILURES.get(code, UNKNOWN)
