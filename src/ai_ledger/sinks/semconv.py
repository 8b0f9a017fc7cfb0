"""
The names of the OpenTelemetry GenAI conventions, and our own beside them.

They are those of `CONVENTION`, the last release that has them all. Since then they are kept
at https://github.com/open-telemetry/semantic-conventions-genai, which has released nothing
yet. They are written out here because the module of the package that has them is private to
it and changes from version to version; a test compares.
"""

from __future__ import annotations

from typing import Final

CONVENTION: Final = "1.41.1"
SCHEMA_URL: Final = f"https://opentelemetry.io/schemas/{CONVENTION}"

# Attributes of spans and metrics

OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_CREATION_INPUT_TOKENS: Final = "gen_ai.usage.cache_creation.input_tokens"
USAGE_REASONING_OUTPUT_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105  # counts, no secret
TOKEN_TYPE_INPUT: Final = "input"  # noqa: S105  # counts, no secret
TOKEN_TYPE_OUTPUT: Final = "output"  # noqa: S105  # counts, no secret
CONVERSATION_ID: Final = "gen_ai.conversation.id"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
OPENAI_RESPONSE_SERVICE_TIER: Final = "openai.response.service_tier"
ERROR_TYPE: Final = "error.type"
HTTP_RESPONSE_STATUS_CODE: Final = "http.response.status_code"
SERVER_ADDRESS: Final = "server.address"
USER_ID: Final = "user.id"
DEVICE_ID: Final = "device.id"

# Attributes of ours

CALL_ID: Final = "ai_ledger.call.id"
CALL_STATUS: Final = "ai_ledger.call.status"
CALL_RETRIES: Final = "ai_ledger.call.retries"
USAGE_SOURCE: Final = "ai_ledger.usage.source"
COST_AMOUNT: Final = "ai_ledger.cost.amount"
COST_CURRENCY: Final = "ai_ledger.cost.currency"
PRICE_ID: Final = "ai_ledger.price.id"
FUNCTION: Final = "ai_ledger.function"
BUSINESS_TYPE: Final = "ai_ledger.business_type"
ORG_ID: Final = "ai_ledger.org.id"
REFERENCE_ID: Final = "ai_ledger.reference.id"

# Metrics

CLIENT_OPERATION_DURATION: Final = "gen_ai.client.operation.duration"
CLIENT_OPERATION_TIME_TO_FIRST_CHUNK: Final = "gen_ai.client.operation.time_to_first_chunk"
CLIENT_TOKEN_USAGE: Final = "gen_ai.client.token.usage"  # noqa: S105  # counts, no secret
CLIENT_COST: Final = "ai_ledger.client.cost"

DURATION_BUCKETS: Final = (
    0.01,
    0.02,
    0.04,
    0.08,
    0.16,
    0.32,
    0.64,
    1.28,
    2.56,
    5.12,
    10.24,
    20.48,
    40.96,
    81.92,
)
"""In seconds, for whole calls and for first chunks."""
TOKEN_BUCKETS: Final = tuple(4**power for power in range(14))
"""1, 4, 16 … 67,108,864."""

# Values: ours → theirs, where theirs must be used if one of them applies

OPERATIONS: Final = {"responses": "chat"}
PROVIDERS: Final = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "google": "gcp.gen_ai",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
OPENAI_PROVIDERS: Final = frozenset({"openai", "azure.ai.openai"})
UNKNOWN_PROVIDER: Final = "unknown"
"""The attribute is required, and not every server is known by its address."""
