"""The shortest program: one line changes, and every call is on the books."""

from __future__ import annotations

from _provider import use_provider
from openai import OpenAI

from ai_ledger import TrackedClient, call_context, default_ledger

use_provider()  # answers without a key; leave it out to call the real one

client = TrackedClient(OpenAI())  # or: from ai_ledger.openai import OpenAI

with call_context(user_id="u-42", business_type="resume_analysis"):
    client.chat.completions.create(
        model="qwen-plus", messages=[{"role": "user", "content": "Sum up this resume: …"}]
    )

client.with_context(user_id="u-7", reference_id="job-9").chat.completions.create(
    model="qwen-plus", messages=[{"role": "user", "content": "Does it fit this job? …"}]
)

ledger = default_ledger()  # sqlite:///ai_ledger.db, unless AI_LEDGER_URL says otherwise
ledger.flush()
print(ledger.stats.summary(by="user_id"))
