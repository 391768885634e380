"""The names of OpenTelemetry's semantic conventions that spans of calls have, and our own where it has none.

The conventions for generative AI are in development: what they rename is renamed here, and nowhere else.
"""

from __future__ import annotations

from llmos.abi.task import Output, find_spec

# https://github.com/open-telemetry/semantic-conventions-genai, docs/gen-ai/gen-ai-spans.md
OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_STREAM = "gen_ai.request.stream"
RESPONSE_MODEL = "gen_ai.response.model"
FIRST_CHUNK_S = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
# https://opentelemetry.io/docs/specs/semconv/registry/attributes/error/ and .../service/
ERROR_TYPE = "error.type"
SERVICE_NAME = "service.name"
SERVICE_VERSION = "service.version"
SERVICE_INSTANCE = "service.instance.id"
# our own
CALL_ID = "llmos.call.id"  # the answer's x-request-id
TASK = "llmos.task"

LLMOS = "llmos"  # the provider, the service's name and the instrumentation scope
OPERATIONS = {  # by the form of a task's output; all others are operations of ours, named by their task
    Output.MESSAGE: "chat",
    Output.TEXT: "text_completion",
    Output.VECTOR: "embeddings",
}


def operation_of(task: str) -> str:
    """The operation's name for calls of this task, or of a tokenizer."""
    spec = find_spec(task)
    return task if spec is None else OPERATIONS.get(spec.output, task)
