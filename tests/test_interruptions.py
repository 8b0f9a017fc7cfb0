"""What a signal handler of the program raises is told from the faults of what it interrupts."""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from ai_ledger import Budget, CallRecord, Ledger
from ai_ledger.errors import BudgetUnavailable, SinkUnavailable
from ai_ledger.interruptions import interruption
from ai_ledger.policies.budgets.accounts import Accounts
from ai_ledger.sinks.memory import MemorySink

SIGNAL = getattr(signal, "SIGUSR1", signal.SIGTERM)


class TimeLimit(Exception):
    """As a worker raises it in a task that takes too long."""


class Worker:
    """Raises what it is told to when a signal comes, in each way a handler can be written."""

    def __init__(self, error: type[Exception]) -> None:
        self.error = error

    def method(self, *_: Any) -> None:
        raise self.error

    def __call__(self, *_: Any) -> None:
        self.method()


@pytest.fixture
def on_signal() -> Iterator[Callable[[Any], object]]:
    before = signal.getsignal(SIGNAL)
    yield lambda handler: signal.signal(SIGNAL, handler)
    signal.signal(SIGNAL, before)


class Waiting:
    """A policy that is interrupted while it waits."""

    def __init__(self, *, complains: bool = False) -> None:
        self.complains = complains

    def check(self, call: CallRecord, request: Mapping[str, Any] | None) -> None:
        try:
            signal.raise_signal(SIGNAL)
        except Exception:
            if self.complains:
                raise RuntimeError("another command is in progress")  # noqa: B904
            raise

    def settle(self, record: CallRecord) -> None:
        raise AssertionError("it has admitted nothing")


def statuses(ledger: Ledger) -> list[tuple[str, str | None]]:
    assert ledger.flush(60)
    (sink,) = ledger.sinks
    assert isinstance(sink, MemorySink)
    return [(record.status, record.error_type) for record in sink.records]


def ledger_with(policy: Any) -> Ledger:
    return Ledger(sinks=[MemorySink()], journal=False, policies=[policy])


@pytest.mark.parametrize("complains", [False, True])
@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(lambda worker: worker.method, id="method"),
        pytest.param(lambda worker: worker, id="object"),
        pytest.param(lambda worker: functools.partial(worker.method, 1), id="partial"),
        pytest.param(lambda worker: lambda *_: worker.method(), id="function"),
    ],
)
def test_the_call_ends_with_what_a_handler_raised(
    handler: Any, complains: bool, on_signal: Any
) -> None:
    """
    Whichever policy it came into, also one that complains of it; and the call is not made.
    """
    on_signal(handler(Worker(TimeLimit)))
    with ledger_with(Waiting(complains=complains)) as ledger:
        with pytest.raises(TimeLimit), ledger.call("m"):
            raise AssertionError("the call was made")

        assert statuses(ledger) == [("failed", "TimeLimit")]
        assert ledger.health().incidents == {}


def test_a_fault_of_a_policy_is_its_own_while_an_interruption_is_handled(on_signal: Any) -> None:
    """
    A call made because time was up is made, though a policy breaks that has nothing to do with it.
    """

    class Broken(Waiting):
        def check(self, call: CallRecord, request: Mapping[str, Any] | None) -> None:
            raise ZeroDivisionError

        def settle(self, record: CallRecord) -> None:
            pass

    on_signal(Worker(TimeLimit))
    with ledger_with(Broken()) as ledger:
        try:
            signal.raise_signal(SIGNAL)
        except TimeLimit:
            with ledger.call("m"):
                pass

        assert statuses(ledger) == [("success", None)]
        assert ledger.health().incidents == {"policy Broken broke": 1}


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*arguments: Any) -> Any:
        return function(*arguments)

    return wrapper


def test_what_is_wrapped_like_a_handler_is_none(on_signal: Any) -> None:
    """
    A decorator gives all that it wraps the same code: the fault of a policy stays its own.
    """

    class Broken(Waiting):
        @logged
        def check(self, call: CallRecord, request: Mapping[str, Any] | None) -> None:
            raise ZeroDivisionError

        def settle(self, record: CallRecord) -> None:
            pass

    on_signal(logged(Worker(TimeLimit)))
    with ledger_with(Broken()) as ledger:
        with ledger.call("m"):
            pass

        assert statuses(ledger) == [("success", None)]


def test_a_handler_that_is_wrapped_is_one(on_signal: Any) -> None:
    """
    What it raises ends the call, though its code is that of other functions, too.
    """
    on_signal(logged(Worker(TimeLimit)))
    with ledger_with(Waiting()) as ledger, pytest.raises(TimeLimit), ledger.call("m"):
        raise AssertionError("the call was made")


def test_an_error_that_is_its_own_cause_is_looked_at_once(on_signal: Any) -> None:
    """
    ``raise error from error`` in a policy hangs no call.
    """

    class Broken(Waiting):
        def check(self, call: CallRecord, request: Mapping[str, Any] | None) -> None:
            try:
                raise ZeroDivisionError
            except ZeroDivisionError as error:
                raise error from error

        def settle(self, record: CallRecord) -> None:
            pass

    with ledger_with(Broken()) as ledger:
        with ledger.call("m"):
            pass

        assert statuses(ledger) == [("success", None)]


def test_what_nobody_raised_by_a_signal_is_none(on_signal: Any) -> None:
    """
    A time limit that the code sets itself is its own fault.
    """
    on_signal(signal.SIG_DFL)
    with pytest.raises(TimeLimit) as raised:
        Worker(TimeLimit).method()
    assert interruption(raised.value, None) is None


@pytest.mark.parametrize("on_unavailable", ["allow", "refuse"])
def test_a_time_out_by_a_signal_is_no_outage_of_a_budget(
    on_unavailable: Any, on_signal: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Though stores that are away raise the same, as the driver or as the lock does.
    """
    on_signal(Worker(TimeoutError))
    monkeypatch.setattr(Accounts, "reserve", lambda *_, **__: signal.raise_signal(SIGNAL))
    budget = Budget(tokens=1000, on_unavailable=on_unavailable, max_output_tokens=10)
    with Ledger(f"sqlite:///{tmp_path}/ledger.db", policies=[budget]) as ledger:
        with pytest.raises(TimeoutError), ledger.call("m"):
            raise AssertionError("the call was made")
        assert budget.panel is not None
        assert budget.panel.holds.away is None


def test_an_outage_is_one_while_the_program_handles_an_error(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    What the program was handling when it made the call is not raised a second time.
    """

    def away(*_: Any, **__: Any) -> Any:
        raise SinkUnavailable("the store is away")

    monkeypatch.setattr(Accounts, "reserve", away)
    budget = Budget(tokens=1000, on_unavailable="refuse", max_output_tokens=10)
    with Ledger(f"sqlite:///{tmp_path}/ledger.db", policies=[budget]) as ledger:
        try:
            raise TimeLimit
        except TimeLimit:
            with pytest.raises(BudgetUnavailable, match="is away"):
                ledger.call("m")
