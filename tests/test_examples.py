"""The examples: each is run as a reader would, and must end well and report what it did."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"

# What must be read in the report of each: the lines that show its idea at work.
REPORTS = {
    "shortest": ["calls   2   success 100.0 %", "cost    0.0000368 CNY", "u-42  1", "u-7  1"],
    "decorators": [
        "calls   4   success 100.0 %",
        "answer  42  —  1",
        "answer  7  newsletter  1",
        "classify  —  newsletter  1",
        "recite  u-9  —  1",
    ],
    "fastapi_app": [
        "calls   7   success 100.0 %",
        "acme  u-1  /answer  1",
        "acme  u-2  /stream  1",
        "globex  u-3  /stream  1",
        "—  —  /answer  1",
    ],
    "batch_threads": ["21 summaries", "acme  b-1  12", "globex  b-2  8", "globex  —  1"],
    "job_assistant": [
        "7 matches, 1 of them failed",
        "calls   11   success 90.9 %",
        "match_job  job_matching  7  85.7 %",
        "analyze_resume  resume_analysis  1  100.0 %",
        "analyze_sentiment  sentiment  1  100.0 %",
        "detect_interview  interview_detection  1  100.0 %",
        "generate_chat  chat  1  100.0 %",
        "failed: match_job of job-",
        "InternalServerError",
    ],
    "own_sink": [
        "delivered everywhere: True, after 2 attempts",
        "acme: 20 tokens",
        "globex: 30 tokens",
        "globex  3  100.0 %",
    ],
    "by_hand": [
        "the program still sees its own error: nothing was asked",
        "house-7b  ask  2  50.0 %",
        "qwen-plus  live_answer  1  100.0 %",
        "1,550 = 1,200 in + 350 out",
    ],
    "refusals": [
        "BudgetExceeded by a budget: budget 'hard 0.01 CNY per month for each user_id'",
        "+00:00; nothing sent",
        "ModelNotAllowed by the catalogue: model 'qwen-long' is disabled in the catalogue; nothing",
        "ModelNotAllowed by a quota: organisation 'acme' may not use model 'qwen-max'",
        "QuotaExceeded by a quota: quota acme / qwen-plus",
        "TooSoon by a quota: quota acme / qwen-turbo: one call in 60 s; try again in",
        "ContentBlocked by a word: blocked by word 1; nothing sent",
        "CircuitOpen by a breaker: provider 'deepseek': 3 of 3 calls failed within 60 s; try again",
        "(blocked 6, circuit_open 1, failed 3, success 3)",
    ],
    "metrics": [
        "the program still sees its own error: InternalServerError",
        'ai_ledger_calls_total{function="summarize",model="qwen-plus",operation="chat",'
        'provider="",status="success"} 2.0',
        'ai_ledger_calls_total{function="chat",model="qwen-plus",operation="chat",'
        'provider="",status="failed"} 1.0',
        'ai_ledger_cost_total{currency="CNY",function="chat",',
    ],
    "traces": [
        "POST /answers  below nothing",
        "chat qwen-max  below POST /answers  2 in + 8 out",
        "chat qwen-plus  below POST /answers  2 in + 8 out",
        "chat qwen-turbo  below POST /answers  2 in + 8 out",
        "chat gpt-4o-mini  below nothing  2 in + 8 out",
        "gen_ai.client.operation.duration  4 series",
        "ai_ledger.client.cost  4 series",
    ],
}


def test_every_example_is_run() -> None:
    """
    No example is without a test of it.
    """
    assert set(REPORTS) == {file.stem for file in EXAMPLES.glob("[!_]*.py")}


@pytest.mark.parametrize("name", REPORTS)
def test_example(name: str, tmp_path: Path) -> None:
    """
    The example ends without an error or a warning of ours, and its report is right.
    """
    if name == "fastapi_app":
        pytest.importorskip("fastapi", reason="fastapi is not installed")
    if name == "metrics":
        pytest.importorskip("prometheus_client", reason="prometheus_client is not installed")
    if name == "traces":
        pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("OPENAI_", "AI_LEDGER_"))
    }

    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"],
        cwd=tmp_path,
        env={**kept, "XDG_STATE_HOME": str(tmp_path / "state"), "PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        timeout=110,
    )

    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    shown = squeezed(done.stdout)
    missing = [line for line in REPORTS[name] if squeezed(line) not in shown]
    assert not missing, done.stdout


def squeezed(text: str) -> str:
    """*text* with every run of blanks as one, so that widths of columns do not matter."""
    return "\n".join(" ".join(line.split()) for line in text.splitlines())
