"""What a signal handler of the program raises is told from the faults of what it interrupts."""

from __future__ import annotations

import functools
import gc
import itertools
import os
import signal
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import openai
import pytest
from sqlalchemy.exc import StatementError
from tests.interrupting import SIGNAL, moments_of, with_signal_at

from ai_ledger import Budget, CallRecord, Ledger, TrackedClient
from ai_ledger.calls import ManualCall
from ai_ledger.errors import BudgetUnavailable, SinkUnavailable
from ai_ledger.interruptions import interruption
from ai_ledger.journal import Journal
from ai_ledger.policies.budgets.accounts import Accounts
from ai_ledger.policies.budgets.holds import _interruption as behind_the_store
from ai_ledger.query import Query
from ai_ledger.sinks.memory import MemorySink
from ai_ledger.testing import Provider


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

    def __init__(self, *, complains: str | bool = False) -> None:
        self.complains = complains

    def check(self, call: CallRecord, request: Mapping[str, Any] | None) -> None:
        try:
            signal.raise_signal(SIGNAL)
        except Exception as error:
            if self.complains == "with its traceback":
                # As SQLAlchemy does.
                raise RuntimeError("it is wrapped").with_traceback(error.__traceback__) from error
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


@pytest.mark.parametrize("complains", [False, True, "with its traceback"])
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


def test_what_a_library_wraps_an_interruption_in_is_none_for_a_budget(on_signal: Any) -> None:
    """
    What was raised first is it, also when it is told from the store's errors.
    """
    on_signal(Worker(TimeLimit))
    with pytest.raises(StatementError) as raised:
        try:
            signal.raise_signal(SIGNAL)
        except TimeLimit as error:
            wrapped = StatementError("in a statement", "SELECT", {}, error)
            raise wrapped.with_traceback(error.__traceback__) from error

    assert isinstance(interruption(raised.value, None), TimeLimit)
    assert isinstance(behind_the_store(raised.value, None), TimeLimit)


class Asked(Waiting):
    """Interrupted after the call, or while a sink's marks are made."""

    name, durable = "asked", False

    def __init__(self, step: str) -> None:
        super().__init__()
        self.step = step

    def _at(self, step: str) -> None:
        if step == self.step:
            signal.raise_signal(SIGNAL)

    def check(self, call: CallRecord, request: Mapping[str, Any] | None) -> None:
        pass

    def review(self, record: CallRecord, answer: str | None) -> None:
        self._at("review")

    def settle(self, record: CallRecord) -> None:
        self._at("settle")

    def marks(self) -> None:
        self._at("marks")

    def write(self, records: Any) -> None:
        pass


@pytest.mark.parametrize("step", ["review", "settle"])
def test_a_time_limit_after_the_call_is_raised_when_it_is_on_the_books(
    step: str, on_signal: Any
) -> None:
    """
    With all that it has used; and the other policies are told.
    """
    on_signal(Worker(TimeLimit))
    told: list[CallRecord] = []

    class Other(Waiting):
        def check(self, call: CallRecord, request: Mapping[str, Any] | None) -> None:
            pass

        def review(self, record: CallRecord, answer: str | None) -> Mapping[str, str]:
            return {"ai_ledger.other": "seen"}

        def settle(self, record: CallRecord) -> None:
            told.append(record)

    memory = MemorySink()
    with Ledger(sinks=[memory], journal=False, policies=[Asked(step), Other()]) as ledger:
        with pytest.raises(TimeLimit), ledger.call("m") as call:
            call.set_usage(input_tokens=1, output_tokens=2)

        assert ledger.flush(60)
        (record,) = memory.records
        assert (record.status, record.input_tokens, record.output_tokens) == ("success", 1, 2)
        assert record.tags == {"ai_ledger.other": "seen"}
        assert [each.id for each in told] == [record.id]
        assert ledger.health().incidents == {}


def test_a_time_limit_while_a_sink_makes_its_marks_is_raised(on_signal: Any) -> None:
    """
    Nothing was sent yet, and nothing is left open.
    """
    on_signal(Worker(TimeLimit))
    sink: Any = Asked("marks")
    with Ledger(sinks=[MemorySink(), sink], journal=False) as ledger:
        with pytest.raises(TimeLimit):
            ledger.call("m")
        with Provider() as provider, openai.OpenAI(base_url=provider.url, api_key="k") as plain:
            client = TrackedClient(plain, ledger=ledger)
            with pytest.raises(TimeLimit):
                client.chat.completions.create(model="m", messages=[])
            assert provider.requests == []
        assert ledger.health().incidents == {}
        assert ledger._open == {}


def test_a_time_limit_while_the_answer_is_read_reaches_the_program(on_signal: Any) -> None:
    """
    Through the client as well: the call is on the books with what it has used.
    """
    on_signal(Worker(TimeLimit))
    memory = MemorySink()
    with (
        Provider(input_tokens=20, output_tokens=30) as provider,
        Ledger(sinks=[memory], journal=False, policies=[Asked("review")]) as ledger,
    ):
        with openai.OpenAI(base_url=provider.base_url, api_key="k") as plain:
            client = TrackedClient(plain, ledger=ledger)
            with pytest.raises(TimeLimit):
                client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": "hi"}]
                )
        assert ledger.flush(60)
        (record,) = memory.records
        assert (record.status, record.input_tokens, record.output_tokens) == ("success", 20, 30)


def test_a_paid_call_is_charged_though_its_text_is_interrupted(
    on_signal: Any, tmp_path: Any
) -> None:
    """
    Ctrl-C while the answer is redacted: the text is left out, and the budget knows the tokens.
    """

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    on_signal(stop)
    texts = itertools.count()

    def redact(text: str) -> str:
        if next(texts) == 1:
            os.kill(os.getpid(), SIGNAL)
        return text

    budget = Budget(tokens=1_000_000, max_output_tokens=1000)
    with (
        Provider(input_tokens=20, output_tokens=30) as provider,
        Ledger(f"sqlite:///{tmp_path}/l.db", policies=[budget], redact=redact) as ledger,
    ):
        with openai.OpenAI(base_url=provider.base_url, api_key="k") as plain:
            client = TrackedClient(plain, ledger=ledger)
            with pytest.raises(KeyboardInterrupt):
                client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": "hi"}]
                )
        assert ledger.flush(60)
        (record,) = next(ledger.store.scan(Query.build(scope=None)))
        assert (record.status, record.input_tokens, record.output_tokens) == ("success", 20, 30)
        assert record.response_content is None
        assert budget.spent() == 50
        assert ledger._open == {}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("where", ["disk", "memory"])
def test_whoever_ends_a_call_puts_it_on_the_books(where: str, tmp_path: Any) -> None:
    """
    Interrupted at whichever moment: it is still open, or stored with what it has used.
    """

    class Stop(BaseException):
        pass

    memory = MemorySink()
    journal = tmp_path if where == "disk" else False
    with Ledger(sinks=[memory], journal=journal, policies=[Asked("never")]) as ledger:

        def begun() -> ManualCall:
            call = ledger.call("m")
            call.set_usage(input_tokens=1, output_tokens=2)
            return call

        first = begun()
        stored = 1
        for moment in range(moments_of(lambda: first._finish("success", None))):
            call = begun()
            with_signal_at(moment, functools.partial(call._finish, "success", None), Stop)
            if ledger._open.pop(call.id, None) is None:
                stored += 1
        assert ledger.flush(60)
        assert len({record.id for record in memory.records}) == stored > 20
        assert {(each.status, each.total_tokens) for each in memory.records} == {("success", 3)}


def test_policies_of_clients_that_are_gone_are_let_go() -> None:
    """
    What one request has is not kept by the ledger; what is bound is so once.
    """

    class Bound(Waiting):
        def __init__(self) -> None:
            super().__init__()
            self.bound = 0

        def bind(self, ledger: Ledger) -> None:
            self.bound += 1

    class Rigid:
        __slots__ = ()

        def check(self, call: CallRecord, request: Mapping[str, Any] | None) -> None:
            pass

        def settle(self, record: CallRecord) -> None:
            pass

    with Ledger(sinks=[MemorySink()], journal=False) as ledger:
        gatekeeper = ledger._gatekeeper
        policy = Bound()
        gatekeeper.bind(policy)
        gatekeeper.bind(policy)
        assert policy.bound == 1
        gatekeeper.bind(Rigid())
        assert len(gatekeeper._bound) == 2
        ref = weakref.ref(policy)
        del policy
        gc.collect()
        assert ref() is None
        assert len(gatekeeper._bound) == 1


@pytest.mark.parametrize("step", ["begin", "end"])
def test_a_time_limit_in_the_journal_reaches_the_program(
    step: str, on_signal: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    And what was used is on the books nevertheless, if the call was sent.
    """
    on_signal(Worker(TimeLimit))
    real, armed = getattr(Journal, step), [True]

    def interrupted(*args: Any, **options: Any) -> Any:
        if armed.pop():
            armed.append(False)
            signal.raise_signal(SIGNAL)
        armed.append(False)
        return real(*args, **options)

    monkeypatch.setattr(Journal, step, interrupted)
    sink = MemorySink()
    with (
        Ledger(sinks=[sink], journal=tmp_path / "journal") as ledger,
        pytest.raises(TimeLimit),
        ledger.call("m") as call,
    ):
        call.set_usage(input_tokens=3, output_tokens=2)

    kept = [(each.status, each.input_tokens) for each in sink.calls(Query.build(scope=None))]
    assert kept == ([("success", 3)] if step == "end" else [("failed", None)])


def test_a_time_limit_while_delivery_begins_leaves_it_to_the_next_call(
    on_signal: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    What was not started then is started later, and delivers what came before.
    """
    on_signal(Worker(TimeLimit))
    sink = MemorySink()
    with Ledger(sinks=[sink], journal=tmp_path / "journal") as ledger:
        with monkeypatch.context() as patched:
            patched.setattr(Journal, "open", lambda _: signal.raise_signal(SIGNAL))
            with pytest.raises(TimeLimit):
                ledger.record("m", input_tokens=1, output_tokens=1)
        ledger.record("m", input_tokens=2, output_tokens=1)
        assert ledger.flush(30)
        kept = sorted(each.input_tokens or 0 for each in sink.calls(Query.build(scope=None)))

    assert kept[-1] == 2
