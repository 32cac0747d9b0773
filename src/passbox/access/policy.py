"""Who may call what: one table, operation × relation. Pure.

An operation calls upon a subject, found by a field of its request; the caller's relations to that subject
decide. No relation at all means that the subject does not exist for the caller (ResourceNotFoundException);
a relation that is not enough means AccessDeniedException. tests/golden/access.txt holds the whole matrix.
"""

import enum
from typing import NamedTuple


class Relation(enum.Enum):
    """What an account can be to the subject of a request."""

    ANYONE = "anyone"  # has an account here
    OWNER = "owner"  # the membership, table or algorithm is its own, whatever became of the collaboration
    INVITED = "invited"  # is named in the collaboration and has not joined
    MEMBER = "member"  # active in the collaboration
    RUNNER = "runner"  # active, with CAN_QUERY
    JOB_RUNNER = "job runner"  # active, with CAN_RUN_JOB
    CREATOR = "creator"  # created the collaboration


class Subject(enum.Enum):
    """What a request calls upon, by the request's field that names it."""

    ACCOUNT = ""
    COLLABORATION = "collaborationIdentifier"
    MEMBERSHIP = "membershipIdentifier"
    CONFIGURED_TABLE = "configuredTableIdentifier"
    ALGORITHM = "configuredModelAlgorithmArn"
    TAGGED = "resourceArn"


class Rule(NamedTuple):
    """The subject and the relations of which one is enough."""

    subject: Subject
    relations: frozenset[Relation]


def _rule(subject: Subject, *relations: Relation) -> Rule:
    return Rule(subject, frozenset(relations))


_ACCOUNT = _rule(Subject.ACCOUNT, Relation.ANYONE)
_TABLE = _rule(Subject.CONFIGURED_TABLE, Relation.OWNER)
_ALGORITHM = _rule(Subject.ALGORITHM, Relation.OWNER)
_TAGGED = _rule(Subject.TAGGED, Relation.OWNER)
_OWN = _rule(
    Subject.MEMBERSHIP, Relation.OWNER
)  # reading and clearing up: also after the collaboration ended
_ACTIVE = _rule(Subject.MEMBERSHIP, Relation.MEMBER)
_RUNNER = _rule(Subject.MEMBERSHIP, Relation.RUNNER)
_JOB_RUNNER = _rule(Subject.MEMBERSHIP, Relation.JOB_RUNNER)
_NAMED = _rule(Subject.COLLABORATION, Relation.INVITED, Relation.MEMBER, Relation.CREATOR)
_MEMBER = _rule(Subject.COLLABORATION, Relation.MEMBER)
_CREATOR = _rule(Subject.COLLABORATION, Relation.CREATOR)
_PARTY = _rule(Subject.COLLABORATION, Relation.MEMBER, Relation.CREATOR)  # its creator need not have joined

_CLEANROOMS = {
    _ACCOUNT: "CreateCollaboration ListCollaborations ListMemberships CreateConfiguredTable "
    "ListConfiguredTables",
    _NAMED: "GetCollaboration ListMembers CreateMembership",
    _CREATOR: "UpdateCollaboration DeleteCollaboration DeleteMember CreateCollaborationChangeRequest",
    _PARTY: "GetCollaborationChangeRequest ListCollaborationChangeRequests UpdateCollaborationChangeRequest",
    _MEMBER: "ListSchemas GetSchema BatchGetSchema GetSchemaAnalysisRule BatchGetSchemaAnalysisRule "
    "GetCollaborationPrivacyBudgetTemplate ListCollaborationPrivacyBudgetTemplates "
    "ListCollaborationPrivacyBudgets "
    "GetCollaborationAnalysisTemplate ListCollaborationAnalysisTemplates "
    "BatchGetCollaborationAnalysisTemplate",
    _OWN: "GetMembership DeleteMembership GetConfiguredTableAssociation ListConfiguredTableAssociations "
    "DeleteConfiguredTableAssociation GetConfiguredTableAssociationAnalysisRule "
    "DeleteConfiguredTableAssociationAnalysisRule GetProtectedQuery ListProtectedQueries "
    "GetProtectedJob ListProtectedJobs "
    "GetPrivacyBudgetTemplate ListPrivacyBudgetTemplates DeletePrivacyBudgetTemplate ListPrivacyBudgets "
    "GetAnalysisTemplate ListAnalysisTemplates DeleteAnalysisTemplate",
    _ACTIVE: "UpdateMembership CreateConfiguredTableAssociation UpdateConfiguredTableAssociation "
    "CreateConfiguredTableAssociationAnalysisRule UpdateConfiguredTableAssociationAnalysisRule "
    "CreatePrivacyBudgetTemplate UpdatePrivacyBudgetTemplate PreviewPrivacyImpact "
    "CreateAnalysisTemplate UpdateAnalysisTemplate",
    _RUNNER: "StartProtectedQuery UpdateProtectedQuery",
    _JOB_RUNNER: "StartProtectedJob UpdateProtectedJob",
    _TABLE: "GetConfiguredTable UpdateConfiguredTable DeleteConfiguredTable "
    "CreateConfiguredTableAnalysisRule GetConfiguredTableAnalysisRule "
    "UpdateConfiguredTableAnalysisRule DeleteConfiguredTableAnalysisRule",
    _TAGGED: "TagResource UntagResource ListTagsForResource",
}

_CLEANROOMSML = {
    _ACCOUNT: "CreateConfiguredModelAlgorithm ListConfiguredModelAlgorithms",
    _ALGORITHM: "GetConfiguredModelAlgorithm DeleteConfiguredModelAlgorithm",
    _MEMBER: "GetCollaborationConfiguredModelAlgorithmAssociation "
    "ListCollaborationConfiguredModelAlgorithmAssociations GetCollaborationMLInputChannel "
    "ListCollaborationMLInputChannels GetCollaborationTrainedModel ListCollaborationTrainedModels "
    "ListCollaborationTrainedModelExportJobs ListCollaborationTrainedModelInferenceJobs",
    _OWN: "GetMLConfiguration DeleteMLConfiguration GetConfiguredModelAlgorithmAssociation "
    "ListConfiguredModelAlgorithmAssociations DeleteConfiguredModelAlgorithmAssociation GetMLInputChannel "
    "ListMLInputChannels DeleteMLInputChannelData GetTrainedModel ListTrainedModels ListTrainedModelVersions "
    "DeleteTrainedModelOutput CancelTrainedModel GetTrainedModelInferenceJob ListTrainedModelInferenceJobs "
    "CancelTrainedModelInferenceJob",
    _ACTIVE: "PutMLConfiguration CreateConfiguredModelAlgorithmAssociation",
    _RUNNER: "CreateMLInputChannel CreateTrainedModel StartTrainedModelInferenceJob "
    "StartTrainedModelExportJob",
    _TAGGED: "TagResource UntagResource ListTagsForResource",
}

_PASSBOX = {
    _ACCOUNT: "GetStatement ListCharges ListRates",
    _OWN: "DeleteSpendCap ExplainJob GetRunManifest ListSpendCaps",
    _MEMBER: "GetIsolationDemand GetSyntheticDataDeclaration GetSyntheticDataReport ListJobIsolations",
    _ACTIVE: "PutIsolationDemand PutSpendCap PutSyntheticDataDeclaration",
    _RUNNER: "EstimateCost PreviewQuery",
}

POLICY: dict[str, Rule] = {
    f"{service}.{operation}": rule
    for service, table in (
        ("cleanrooms", _CLEANROOMS),
        ("cleanroomsml", _CLEANROOMSML),
        ("passbox", _PASSBOX),
    )
    for rule, operations in table.items()
    for operation in operations.split()
}
