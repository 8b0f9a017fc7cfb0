"""The state machine of the breaker: what holds after any history, and its corners one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ai_ledger.policies.breaker.circuit import Circuit, Limits
from ai_ledger.policies.breaker.window import BUCKETS, Window

LIMITS = Limits(failure_rate=0.5, window_s=10.0, min_calls=4, open_s=5.0, probe_s=20.0)


@dataclass
class Call:
    """A call in flight, as the model remembers it."""

    id: str
    closings: int
    lease_ends: float | None = None
    """Of probes only."""


@dataclass
class Model:
    """What the circuit should be, kept as plain lists."""

    ended: list[tuple[int, bool]] = field(default_factory=list)
    """(tenth of the window, failed) of all that counted since the circuit was closed."""
    closings: int = 0

    def counts(self, now: float, limits: Limits) -> tuple[int, int]:
        """Failures and calls that are still in the window."""
        newest = int(now // (limits.window_s / BUCKETS))
        inside = [failed for bucket, failed in self.ended if newest - bucket < BUCKETS]
        return sum(inside), len(inside)


class AnyHistory(RuleBasedStateMachine):
    """Calls come, end in any order or never, and time passes."""

    @initialize(
        limits=st.builds(
            Limits,
            failure_rate=st.sampled_from([0.01, 0.07, 0.5, 1.0]),
            window_s=st.sampled_from([1.0, 10.0, 60.0]),
            min_calls=st.integers(1, 6),
            open_s=st.sampled_from([0.5, 5.0, 90.0]),
            probe_s=st.sampled_from([0.5, 20.0, 200.0]),
        )
    )
    def begin(self, limits: Limits) -> None:
        self.limits = limits
        self.circuit = Circuit(limits)
        self.model = Model()
        self.now = 0.0
        self.calls = 0
        self.in_flight: list[Call] = []
        self.opened_at = 0.0

    def living_probes(self) -> list[Call]:
        return [
            call
            for call in self.in_flight
            if call.lease_ends is not None
            and call.lease_ends > self.now
            and call.closings == self.model.closings
        ]

    @rule(seconds=st.one_of(st.floats(0, 3), st.sampled_from([5.0, 20.0, 1e4])))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def ask(self) -> None:
        self.calls += 1
        call = Call(f"call-{self.calls}", self.model.closings)
        before = self.circuit.state
        wait = self.circuit.ask(call.id, self.now)
        if before == "closed":
            assert wait is None
        elif wait is not None:
            # Moments are floats: what is left of them may be wrong in the last digit.
            assert 0 < wait <= self.limits.open_s + 1e-6
            still_open = before == "open" and self.now < self.opened_at + self.limits.open_s
            assert still_open or (before == "half_open" and self.living_probes())
        else:
            assert self.circuit.state == "half_open"
            assert self.now >= self.opened_at + self.limits.open_s
            assert self.living_probes() == []
            call.lease_ends = self.now + self.limits.probe_s
        if wait is None:
            self.in_flight.append(call)

    @precondition(lambda self: self.in_flight)
    @rule(which=st.integers(0, 10**6), failed=st.sampled_from([True, True, False, None]))
    def end(self, which: int, failed: bool | None) -> None:
        call = self.in_flight.pop(which % len(self.in_flight))
        late = call.closings < self.model.closings
        before = self.circuit.state
        self.circuit.tell(call.id, failed, self.now, late=late)
        after = self.circuit.state
        if before == "closed":
            if failed is not None and not late:
                bucket = int(self.now // (self.limits.window_s / BUCKETS))
                self.model.ended.append((bucket, failed))
            failures, calls = self.model.counts(self.now, self.limits)
            reached = calls >= self.limits.min_calls and (
                failures / calls >= self.limits.failure_rate
            )
            assert after == ("open" if failed and not late and reached else "closed")
        elif after == "closed":
            assert before == "half_open"
            assert failed is False
            assert call.lease_ends is not None
            self.model.closings += 1
            self.model.ended = [(int(self.now // (self.limits.window_s / BUCKETS)), False)]
        if after == "open" and before != "open":
            self.opened_at = self.now
            # Those that are still out may end, and no longer decide anything.
            for probe in self.in_flight:
                probe.lease_ends = None

    @invariant()
    def never_two_probes(self) -> None:
        if hasattr(self, "circuit"):
            assert len(self.living_probes()) <= 1

    @invariant()
    def no_call_is_lost(self) -> None:
        if hasattr(self, "circuit") and self.circuit.state == "closed":
            assert self.circuit.counts(self.now) == self.model.counts(self.now, self.limits)

    def teardown(self) -> None:
        """Whatever came before: the provider is well again, one call finds out, and all go on."""
        if not hasattr(self, "circuit"):
            return
        self.now += self.limits.open_s + self.limits.probe_s
        assert self.circuit.ask("the last", self.now) is None
        self.circuit.tell("the last", False, self.now)
        assert self.circuit.state == "closed"
        assert self.circuit.ask("another", self.now) is None


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@given(
    st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=60),
    st.sampled_from([0.7, 3.0, 10.0]),
)
def test_a_window_counts_what_is_in_it(ends: list[tuple[float, bool]], seconds: float) -> None:
    """
    Each call is counted from the moment it ended, and no longer than the window is wide.
    """
    window, now = Window(seconds), 0.0
    seen: list[tuple[float, bool]] = []
    for pause, failed in ends:
        now += pause
        window.add(failed, now)
        seen.append((now, failed))
        surely = [f for at, f in seen if now - at < seconds * (BUCKETS - 1) / BUCKETS - 1e-9]
        perhaps = [f for at, f in seen if now - at <= seconds + 1e-9]

        assert len(surely) <= window.calls <= len(perhaps)
        assert sum(surely) <= window.failures <= sum(perhaps)


def test_a_window_over_which_ages_pass() -> None:
    """
    A pause of any length costs no more than ten steps, and leaves nothing.
    """
    window = Window(1.0)
    window.add(True, 0.0)

    window.slide(1e15)

    assert (window.failures, window.calls) == (0, 0)


def test_a_window_and_time_that_goes_back() -> None:
    """
    What was counted stays counted when time comes forward again.
    """
    window = Window(10.0)
    window.add(True, 9.5)

    window.slide(2.5)
    window.add(False, 2.5)
    window.slide(9.5)

    assert (window.failures, window.calls) == (1, 2)


def tripped(limits: Limits = LIMITS, now: float = 0.0) -> Circuit:
    """A circuit that has just opened."""
    circuit = Circuit(limits)
    for number in range(limits.min_calls):
        circuit.tell(f"before-{number}", True, now)
    assert circuit.state == "open"
    return circuit


@pytest.mark.parametrize(
    ("ends", "state"),
    [
        pytest.param([True] * 3, "closed", id="too few calls"),
        pytest.param([True] * 4, "open", id="enough calls"),
        pytest.param([False, False, True, True], "open", id="just the rate"),
        pytest.param([False, False, False, True, True], "closed", id="just below the rate"),
        pytest.param([True, True, True, False], "closed", id="a success opens nothing"),
        pytest.param([True, True, True, False, True], "open", id="the next failure does"),
        pytest.param([None] * 50, "closed", id="what says nothing"),
        pytest.param([None, True, True, None, True, True], "open", id="does not thin it out"),
    ],
)
def test_when_it_opens(ends: list[bool | None], state: str) -> None:
    """
    By a failure, when enough calls have ended and enough of them failed.
    """
    circuit = Circuit(LIMITS)

    for number, failed in enumerate(ends):
        circuit.tell(str(number), failed, 1.0)

    assert circuit.state == state


def test_seven_in_a_hundred_are_seven_per_cent() -> None:
    """
    Rates that no binary fraction equals are reached exactly where they say.
    """
    circuit = Circuit(
        Limits(failure_rate=0.07, window_s=60.0, min_calls=100, open_s=1.0, probe_s=1.0)
    )
    for number in range(99):
        circuit.tell(str(number), number < 6, 0.0)
    assert circuit.state == "closed"

    circuit.tell("99", True, 0.0)

    assert circuit.state == "open"


def test_open_then_one_probe_then_closed() -> None:
    """
    Everybody waits the same time; one looks; then everybody goes on, with counts from zero.
    """
    circuit = tripped()
    assert circuit.ask("early", 1.0) == 4.0
    assert circuit.ask("probe", 5.0) is None
    assert circuit.ask("second", 5.0) == 5.0
    assert circuit.ask("probe", 5.0) is None  # handed in twice, asked twice

    circuit.tell("probe", False, 6.0)

    assert circuit.ask("second", 6.0) is None
    assert (circuit.state, circuit.counts(6.0)) == ("closed", (0, 1))


def test_a_probe_that_fails() -> None:
    """
    The whole time again, from then on.
    """
    circuit = tripped()
    circuit.ask("probe", 5.0)

    circuit.tell("probe", True, 7.0)

    assert circuit.ask("next", 11.0) == 1.0
    assert circuit.ask("next", 12.0) is None


def test_a_probe_that_says_nothing() -> None:
    """
    It was cancelled, or refused elsewhere: the next call is the probe, at once.
    """
    circuit = tripped()
    circuit.ask("probe", 5.0)

    circuit.tell("probe", None, 6.0)

    assert circuit.state == "half_open"
    assert circuit.ask("next", 6.0) is None
    assert circuit.ask("third", 6.0) is not None


def test_a_probe_that_never_ends() -> None:
    """
    Its lease does; and if it ends well after all, that is believed, as it is the newest news.
    """
    circuit = tripped()
    circuit.ask("slow", 5.0)
    assert circuit.ask("other", 24.9) is not None
    assert circuit.ask("other", 25.0) is None

    circuit.tell("slow", False, 26.0)

    assert circuit.state == "closed"
    circuit.tell("other", True, 27.0)
    assert circuit.counts(27.0) == (1, 2)


def test_a_late_failure_of_a_probe_whose_lease_was_up() -> None:
    """
    It takes nothing away from the probe that is out by now.
    """
    circuit = tripped()
    circuit.ask("slow", 5.0)
    circuit.ask("other", 25.0)

    circuit.tell("slow", True, 26.0)

    assert circuit.state == "half_open"
    assert circuit.ask("third", 26.0) is not None


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda circuit: circuit.tell("old", False, 5.5), id="well"),
        pytest.param(lambda circuit: circuit.tell("old", True, 5.5), id="failed"),
    ],
)
def test_calls_from_before_decide_nothing(end: Callable[[Circuit], None]) -> None:
    """
    What was under way when it opened neither closes nor opens it while a probe is out.
    """
    circuit = tripped()
    circuit.ask("probe", 5.0)

    end(circuit)

    assert circuit.state == "half_open"


def test_the_last_of_an_outage_do_not_open_it_again() -> None:
    """
    A hundred callers that hung time out one by one when the provider is long back.
    """
    circuit = tripped()
    circuit.ask("probe", 5.0)
    circuit.tell("probe", False, 5.1)

    for number in range(100):
        circuit.tell(f"hung-{number}", True, 6.0, late=True)

    assert (circuit.state, circuit.counts(6.0)) == ("closed", (0, 1))
