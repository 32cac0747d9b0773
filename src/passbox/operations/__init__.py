"""What was asked: a file per noun, a function per operation. Knows no bytes and does no work itself."""

from passbox.operations import (
    collaboration,
    configured_model_algorithm,
    configured_model_algorithm_association,
    configured_table,
    configured_table_association,
    member,
    membership,
    ml_configuration,
    ml_input_channel,
    schema,
    tags,
    trained_model,
    trained_model_export_job,
    trained_model_inference_job,
)
from passbox.operations.registry import OPERATIONS, reads_only

__all__ = [
    "OPERATIONS",
    "collaboration",
    "configured_model_algorithm",
    "configured_model_algorithm_association",
    "configured_table",
    "configured_table_association",
    "member",
    "membership",
    "ml_configuration",
    "ml_input_channel",
    "reads_only",
    "schema",
    "tags",
    "trained_model",
    "trained_model_export_job",
    "trained_model_inference_job",
]
