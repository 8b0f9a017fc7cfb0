"""Budgets and streams: settled when they end, however they end; and processes that die or fork."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
from openai import OpenAI

from ai_ledger import Budget, Ledger, TrackedClient
from ai_ledger.errors import BudgetExceeded
from ai_ledger.policies.budgets.accounts import Accounts
from ai_ledger.sinks.sql.shared import shared_database
from ai_ledger.testing import Provider

MESSAGES: Any = [{"role": "user", "content": "What is a ledger?"}]


def read(stream: Any) -> None:
    for _ in stream:
        pass


def abandon(stream: Any) -> None:
    next(iter(stream))
    del stream
    gc.collect()


def close(stream: Any) -> None:
    next(iter(stream))
    stream.close()


def leave(stream: Any) -> None:
    with stream:
        for _ in stream:
            break


@pytest.mark.parametrize("end", [read, abandon, close, leave])
def test_a_stream_settles_when_it_ends(tmp_path: Any, end: Any) -> None:
    """
    What it has taken by then is charged, the rest is there for the next call at once.
    """
    budget = Budget(tokens=10_000)
    with (
        Provider(input_tokens=20, output_tokens=30, chunks=8) as provider,
        Ledger(f"sqlite:///{tmp_path}/ledger.db", policies=[budget]) as ledger,
    ):
        client = TrackedClient(OpenAI(base_url=provider.base_url, api_key="k"), ledger=ledger)
        for _ in range(3):
            end(
                client.chat.completions.create(
                    model="m", messages=MESSAGES, stream=True, max_tokens=9_000
                )
            )
            assert ledger.flush(20)
        assert len(provider.requests) == 3
        assert 0 < budget.spent() <= 150
        assert budget.panel is not None
        assert budget.panel.holds.held == {}
        with pytest.raises(BudgetExceeded):
            client.chat.completions.create(
                model="m", messages=MESSAGES, stream=True, max_tokens=10_000
            )
        assert Accounts(shared_database(ledger)).check() == []


DYING = """
import sys
from ai_ledger import Budget, Ledger

budget = Budget(tokens=1000, max_output_tokens=400, unseen_input_tokens=0, name="b", lease_ttl=1)
with Ledger(sys.argv[1], journal=sys.argv[2], policies=[budget]) as ledger:
    with ledger.call("m") as call:
        call.set_usage(input_tokens=10, output_tokens=90)
    ledger.call("m")
    print("in mid-call", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal here")
def test_a_process_that_is_killed_in_mid_call(sql_url: str, tmp_path: Any) -> None:
    """
    What it had set aside comes back when its lease ends; what it spent is counted.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", DYING, sql_url, str(tmp_path / "j")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in mid-call\n"
        os.kill(process.pid, signal.SIGKILL)
    budget = Budget(tokens=1000, max_output_tokens=900, unseen_input_tokens=0, name="b")
    with Ledger(sql_url, journal=tmp_path / "j", policies=[budget]) as ledger:
        assert ledger.flush(30)  # adopts what the other one has left
        assert budget.spent() == 100
        for _ in range(600):
            try:
                with ledger.call("m") as call:
                    call.set_usage(input_tokens=0, output_tokens=1)
                break
            except BudgetExceeded:
                signal.sigtimedwait([], 0.1)
        else:
            pytest.fail("its lease has never ended")
        assert ledger.flush(30)
        assert budget.spent() == 101
        assert Accounts(shared_database(ledger)).check() == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_starts_with_nothing(tmp_path: Any) -> None:
    """
    Neither uses what the other has leased, and both are counted.
    """
    program = """
import os, sys
from ai_ledger import Budget, Ledger

budget = Budget(tokens=100_000, max_output_tokens=100, unseen_input_tokens=0)
with Ledger(sys.argv[1], policies=[budget]) as ledger:
    def call():
        with ledger.call("m") as call:
            call.set_usage(input_tokens=0, output_tokens=100)
    call()
    mine = budget.panel.holds.holder
    child = os.fork()
    if not child:
        assert not budget.panel.holds.slabs and budget.panel.holds.holder != mine
        call()
        ledger.close(30)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    call()
    assert ledger.flush(30)
    print(budget.spent(), len(budget.panel.holds.accounts.check()))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, f"sqlite:///{tmp_path}/ledger.db"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.stdout, done.returncode) == ("300 0\n", 0), done.stderr
