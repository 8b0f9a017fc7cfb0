"""Unpriced calls, a price for them, pricing them again, and taking that back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count

import pytest
import sqlalchemy as sa
from tests.web import sample

from ai_ledger import Ledger
from ai_ledger.access import Access
from ai_ledger.catalog import Catalog
from ai_ledger.database.changes import changes_before
from ai_ledger.database.tables.console import repricing_runs
from ai_ledger.errors import SinkUnavailable
from ai_ledger.records import utc_now
from ai_ledger.sinks.sql.shared import shared_database
from ai_ledger.web.costs import repricing, runs
from ai_ledger.web.costs.run import Asked
from ai_ledger.web.house import Desk, House

NEW = {"model": "house-7b", "unpriced_only": True}
SCRIPT = {"HX-Request": "true"}


@pytest.fixture
def lacking(ledger: Ledger) -> Ledger:
    """Four calls to a model without a price, of two organisations, and a priced one."""
    nothing = {"cost": None, "currency": None, "price_id": None}
    house = {"request_model": "house-7b", "response_model": "house-7b", "provider": "house"}
    ledger.store.write(
        [
            *(
                sample.call(n * 6, status="success", error_type=None, **house, **nothing)
                for n in range(4)
            ),
            sample.call(30),
        ]
    )
    return ledger


@pytest.fixture
def desk(lacking: Ledger) -> Iterator[Desk]:
    """That of an administrator."""
    house = House(lacking, clock=lambda: sample.NOW)
    yield Desk(house, Access(name="ann", role="admin"))
    house.close()


def add_price(ledger: Ledger) -> None:
    """Two CNY for a million tokens in, four for a million out."""
    catalog = Catalog(ledger)
    catalog.add_provider("house", by="tester")
    catalog.add_model(
        "house-7b",
        provider="house",
        prices=[{"input": "2", "output": "4", "currency": "CNY"}],
        by="tester",
    )


def expected(ledger: Ledger) -> Decimal:
    """What the four calls cost by that price, by hand."""
    tokens = [(100 + n * 6, 40) for n in range(4)]
    return sum((Decimal(i * 2 + o * 4) / 1_000_000 for i, o in tokens), Decimal(0))


def finished(client, **asked):
    """The run, when it is over."""
    return over(client, client.post("/api/v1/reprice", json=asked))


def taken_back(client, run):
    """The run that takes *run* back, when it is over."""
    form = {"begun_at": run["begun_at"]}
    return over(client, client.post("/api/v1/reprice/take-back", json=form))


def over(client, answer):
    """The run that *answer* tells, when it is over."""
    assert answer.status_code == 202, answer.text
    run = answer.json()
    ended = threading.Event()
    for _ in range(600):
        if run["state"] != "running":
            return run
        ended.wait(0.1)
        run = client.get("/api/v1/reprice").json()
    raise AssertionError(f"it goes on and on: {run}")


def cost_of(client, model: str) -> dict:
    rows = client.get("/api/v1/costs?days=30").json()["rows"]
    return next(row["cost"] for row in rows if row["value"] == model)


def test_from_an_unpriced_call_to_its_cost_and_back(lacking, visitor):
    """
    Nothing without a price; first for show, then in earnest, twice the same; and back.
    """
    moments = (sample.NOW + timedelta(seconds=n) for n in count())
    client = visitor(clock=lambda: next(moments))
    assert client.get("/api/v1/unpriced").json()["models"][0]["model"] == "house-7b"
    assert finished(client, **NEW)["changed"] == 0

    add_price(lacking)
    dry = finished(client, **NEW)
    assert (dry["dry_run"], dry["changed"], dry["newly_priced"]) == (True, 4, 4)
    assert {code: Decimal(cost) for code, cost in dry["after"].items()} == {
        "CNY": expected(lacking)
    }
    assert dry["before"] == {}
    assert [(each["calls"], each["before"]) for each in dry["prices"]] == [(4, {})]
    assert cost_of(client, "house-7b") == {}

    run = finished(client, dry_run=False, **NEW)
    assert (run["dry_run"], run["changed"], run["state"]) == (False, 4, "done")
    assert Decimal(cost_of(client, "house-7b")["CNY"]) == expected(lacking)
    assert client.get("/api/v1/unpriced").json()["models"] == []
    assert finished(client, dry_run=False, model="house-7b")["changed"] == 0

    back = taken_back(client, run)
    assert (back["state"], back["calls"], back["checked"], back["changed"]) == ("done", 4, 4, 4)
    assert (back["takes_back"], back["dry_run"]) == (run["begun_at"], False)
    assert cost_of(client, "house-7b") == {}
    assert len(lacking.store.corrections(None, "call-00000")) == 2
    again = taken_back(client, run)
    assert (again["calls"], again["changed"]) == (4, 0)
    assert len(lacking.store.corrections(None, "call-00000")) == 2


def test_what_was_done_is_in_the_history(lacking, visitor):
    """
    Who, which calls, and what they cost before and after; a dry run leaves no trace.
    """
    add_price(lacking)
    client = visitor(name="ann")
    finished(client, **NEW)
    run = finished(client, dry_run=False, **NEW)

    with shared_database(lacking).reading() as connection:
        found = changes_before(connection, kind="repricing")
    assert [(each.key, each.changed_by, each.after["state"]) for each in found] == [
        (run["id"], "ann", "done"),
        (run["id"], "ann", "running"),
    ]
    assert found[0].after["calls"] == 4
    assert Decimal(found[0].after["cost_after"]["CNY"]) == expected(lacking)


@pytest.mark.parametrize(
    ("access", "status"),
    [
        ({"role": "operator"}, 403),
        ({"role": "viewer"}, 403),
        ({"role": "admin", "org_id": "acme"}, 403),
        ({"role": "admin"}, 202),
    ],
)
def test_only_an_admin_of_all_organisations_prices_again(lacking, visitor, access, status):
    """
    Prices hold for everybody; the form is refused as the API is, and nothing changes.
    """
    add_price(lacking)
    client = visitor(**access)

    assert client.post("/api/v1/reprice", json={}).status_code == status
    if status == 403:
        for path, form in (
            ("/costs/reprice", {"apply": "1", "which": "all"}),
            ("/costs/reprice/stop", {}),
            ("/costs/reprice/take-back", {"begun_at": sample.NOW.isoformat()}),
        ):
            answer = client.post(path, data=form, headers={"HX-Request": "true"})
            assert answer.status_code == 403
        assert cost_of(client, "house-7b") == {}
    assert (client.get("/api/v1/reprice").status_code == 403) == ("org_id" in access)


def test_the_form_shows_first_and_applies_then(lacking, visitor):
    """
    Without a script too; what was shown is what is applied.
    """
    add_price(lacking)
    client = visitor()
    headers = {"Accept-Language": "en"}

    shown = client.post("/costs/reprice", data={"model": "house-7b"}, follow_redirects=False)
    assert (shown.status_code, shown.headers["location"]) == (303, "/costs/unpriced")
    finished_page(client)
    page = client.get("/costs/unpriced", headers=headers).text
    assert "What would change" in page
    assert "Price 4 calls again" in page
    assert cost_of(client, "house-7b") == {}

    form = {"apply": "1", "which": "unpriced", "model": "house-7b", "since": "", "until": ""}
    done = client.post("/costs/reprice", data=form, headers={"HX-Request": "true", **headers})
    assert done.status_code == 204
    finished_page(client)
    assert "Take it back" in client.get("/costs/repricing", headers=headers).text
    assert Decimal(cost_of(client, "house-7b")["CNY"]) == expected(lacking)


def finished_page(client) -> None:
    """Wait until no run is going on."""
    pause = threading.Event()
    for _ in range(600):
        if client.get("/api/v1/reprice").json()["state"] != "running":
            return
        pause.wait(0.1)
    raise AssertionError("it goes on and on")


def test_a_run_can_be_stopped_and_done_again(lacking, visitor, monkeypatch):
    """
    One at a time; what was corrected stays, and the rest follows with the next one.
    """
    add_price(lacking)
    client = visitor()
    begun, go_on = threading.Event(), threading.Event()
    real = repricing.reprice

    def halting(*args, go_on=None, **options):
        def ask(checked: int) -> bool:
            begun.set()
            assert resumed.wait(60)
            return go_on(checked)

        return real(*args, go_on=ask, **options)

    resumed = go_on
    monkeypatch.setattr(repricing, "reprice", halting)
    monkeypatch.setattr("ai_ledger.web.costs.api.WAIT_S", 0.0)
    assert client.post("/api/v1/reprice", json={"dry_run": False}).json()["state"] == "running"
    assert begun.wait(60)
    assert client.post("/api/v1/reprice", json={}).status_code == 409
    page = client.get("/costs/repricing").text
    assert 'hx-trigger="load delay:700ms"' in page
    assert client.post("/api/v1/reprice/stop").status_code == 200
    resumed.set()
    finished_page(client)
    assert client.get("/api/v1/reprice").json()["state"] == "stopped"
    assert client.post("/api/v1/reprice/stop").status_code == 404

    monkeypatch.setattr(repricing, "reprice", real)
    monkeypatch.setattr("ai_ledger.web.costs.api.WAIT_S", 3.0)
    assert finished(client, dry_run=False)["state"] == "done"
    assert Decimal(cost_of(client, "house-7b")["CNY"]) == expected(lacking)


def test_a_run_that_fails_says_so_and_the_next_one_works(lacking, visitor, monkeypatch):
    """
    The store goes away in the middle.
    """
    real = repricing.reprice

    def fails(*args, **options):
        raise SinkUnavailable("the disk is full")

    client = visitor()
    monkeypatch.setattr(repricing, "reprice", fails)
    run = finished(client, dry_run=False)
    assert (run["state"], run["error"]) == ("failed", "the disk is full")
    assert "the disk is full" in client.get("/costs/unpriced").text

    monkeypatch.setattr(repricing, "reprice", real)
    assert finished(client)["state"] == "done"


@pytest.mark.parametrize(
    "body",
    [
        {"since": "2026-01-01T00:00:00"},
        {"since": "0001-01-01T00:00:00+14:00"},
        {"until": "9999-12-31T23:59:59-14:00"},
        {"model": "x" * 256},
        {"dry_run": "perhaps"},
        {"other": 1},
    ],
)
@pytest.mark.usefixtures("lacking")
def test_what_cannot_be_asked_is_refused(visitor, body):
    """
    Nothing is begun.
    """
    client = visitor()

    assert client.post("/api/v1/reprice", json=body).status_code == 422
    assert client.get("/api/v1/reprice").status_code == 404


class Halted:
    """Takes a run back as `repricing.take_back` does, and waits after each batch to be let go."""

    def __init__(self, monkeypatch, *, at_once: int = 1) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self._real = repricing.take_back
        monkeypatch.setattr(repricing, "take_back", self._take_back)
        monkeypatch.setattr("ai_ledger.web.costs.corrections._AT_ONCE", at_once)
        monkeypatch.setattr("ai_ledger.web.costs.api.WAIT_S", 0.0)

    def _take_back(self, *args, go_on, **options):
        def ask(looked_at: int, count: int) -> bool:
            more = go_on(looked_at, count)
            self.begun.set()
            assert self.go_on.wait(60)
            return more and go_on(looked_at, count)

        return self._real(*args, go_on=ask, **options)


def test_nothing_is_priced_while_a_run_is_taken_back(lacking, visitor, monkeypatch):
    """
    A run and what takes one back never work on the same calls at a time; a second click joins.
    """
    add_price(lacking)
    moments = (sample.NOW + timedelta(seconds=n) for n in count())
    client = visitor(clock=lambda: next(moments))
    run = finished(client, dry_run=False, **NEW)
    halted = Halted(monkeypatch)

    form = {"begun_at": run["begun_at"]}
    first = client.post("/api/v1/reprice/take-back", json=form)
    assert halted.begun.wait(60)
    second = client.post("/api/v1/reprice/take-back", json=form)
    earlier = (sample.NOW - timedelta(days=1)).isoformat()
    other = client.post("/api/v1/reprice/take-back", json={"begun_at": earlier})
    price = client.post("/api/v1/reprice", json={"dry_run": False, **NEW})
    page = client.get("/costs/repricing").text
    halted.go_on.set()
    back = over(client, second)

    assert [each.status_code for each in (first, second, other, price)] == [202, 202, 409, 409]
    assert first.json()["id"] == second.json()["id"] == back["id"]
    assert second.json()["state"] == "running"
    assert (second.json()["calls"], second.json()["changed"]) == (4, 1)
    assert "1 of 4 calls looked at" in page
    assert (back["state"], back["changed"]) == ("done", 4)
    monkeypatch.setattr("ai_ledger.web.costs.api.WAIT_S", 3.0)
    assert finished(client, **NEW)["changed"] == 4


def test_taking_back_is_stopped_and_done_again(lacking, visitor, monkeypatch):
    """
    What was taken back until then stays so, the page says how much, and the rest follows.
    """
    add_price(lacking)
    moments = (sample.NOW + timedelta(seconds=n) for n in count())
    client = visitor(clock=lambda: next(moments))
    run = finished(client, dry_run=False, **NEW)
    halted = Halted(monkeypatch)

    answer = client.post("/api/v1/reprice/take-back", json={"begun_at": run["begun_at"]})
    assert halted.begun.wait(60)
    assert client.post("/costs/reprice/stop", headers=SCRIPT).status_code == 204
    halted.go_on.set()
    stopped = over(client, answer)
    page = client.get("/costs/repricing").text
    rest = taken_back(client, run)

    assert (stopped["state"], stopped["changed"]) == ("stopped", 1)
    assert "1 of 4 calls have their old cost again." in page
    assert "Take back the rest" in page
    assert run["begun_at"].replace("Z", "+00:00") in page
    assert (rest["state"], rest["changed"]) == ("done", 3)
    assert cost_of(client, "house-7b") == {}
    done = client.get("/costs/repricing").text
    assert "The others have it already" in done
    assert "Take back the rest" not in done


def test_a_stop_that_comes_too_late_is_none(lacking, visitor, monkeypatch):
    """
    When the last batch is taken back already, the run is done, and told and noted as done.
    """
    add_price(lacking)
    moments = (sample.NOW + timedelta(seconds=n) for n in count())
    client = visitor(clock=lambda: next(moments))
    run = finished(client, dry_run=False, **NEW)
    halted = Halted(monkeypatch, at_once=4)

    answer = client.post("/api/v1/reprice/take-back", json={"begun_at": run["begun_at"]})
    assert halted.begun.wait(60)
    assert client.post("/api/v1/reprice/stop").status_code == 200
    halted.go_on.set()
    back = over(client, answer)
    told = visitor(clock=lambda: next(moments)).get("/api/v1/reprice").json()

    assert (back["state"], back["changed"], back["calls"]) == ("done", 4, 4)
    assert told["state"] == "done"


def _odd(*args, **options):
    raise RuntimeError("can't start new thread")


def _asked_to_end(*args, **options):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("what", "breaks", "error"),
    [
        pytest.param("runs.note_change", _odd, RuntimeError, id="the history"),
        pytest.param("repricing.threading.Thread.start", _odd, RuntimeError, id="the thread"),
        pytest.param("runs.note_change", _asked_to_end, KeyboardInterrupt, id="an interruption"),
    ],
)
def test_a_run_that_cannot_begin_is_over(desk, monkeypatch, what, breaks, error):
    """
    Whatever keeps it from beginning is raised, and the next one is not refused for it.
    """
    asked = Asked(dry_run=False)
    ours = repricing.Repricing(desk.house)
    with monkeypatch.context() as patched:
        patched.setattr(f"ai_ledger.web.costs.{what}", breaks)
        with pytest.raises(error):
            ours.begin(desk, asked)

    told = ours.last()
    assert told is None or (told.state, told.ended_at) == ("failed", sample.NOW)
    assert ours.begin(desk, asked, wait_s=60).state == "done"


def test_an_end_that_cannot_be_stored_is_stored_later(desk, monkeypatch):
    """
    The database is away at that moment: nobody is told anything wrong, and then the end.
    """
    real, asked = runs.Runs.end, []

    def away(self, run):
        asked.append(run.state)
        if len(asked) < 3:
            raise SinkUnavailable("it is away")
        real(self, run)

    monkeypatch.setattr(runs.Runs, "end", away)
    monkeypatch.setattr(repricing, "_PAUSES_S", (0.0, 0.0, 0.0))

    assert repricing.Repricing(desk.house).begin(desk, Asked(), wait_s=60).state == "done"
    assert asked == ["done", "done", "done"]


def test_another_console_tells_what_was_done(lacking, visitor, monkeypatch):
    """
    Started anew it tells the last run and offers to take it back; then that this is done.
    """
    add_price(lacking)
    moments = (sample.NOW + timedelta(seconds=n) for n in count())

    def started():
        return visitor(clock=lambda: next(moments))

    assert started().get("/api/v1/reprice").status_code == 404
    run = finished(started(), dry_run=False, **NEW)

    assert started().get("/api/v1/reprice").json() == run
    page = started().get("/costs/unpriced").text
    assert "4 of 4 calls: 4 had no cost before." in page
    assert "Take it back" in page

    back = taken_back(started(), run)
    client = started()
    assert client.get("/api/v1/reprice").json() == back
    assert "4 of 4 calls have their old cost again." in client.get("/costs/unpriced").text


def silent(ledger: Ledger) -> None:
    """As if the console that is at a run had been killed a while ago."""

    def work(connection):
        earlier = utc_now() - runs.SILENCE - timedelta(seconds=1)
        connection.execute(sa.update(repricing_runs).values(seen_at=earlier))

    shared_database(ledger).writing(work)


@pytest.mark.parametrize("taking_back", [False, True], ids=["pricing", "taking back"])
def test_what_was_cut_off_is_told(lacking, visitor, monkeypatch, taking_back):
    """
    Of a console that was killed in the middle the next one says what was done, and does the rest.
    """
    add_price(lacking)
    moments = (sample.NOW + timedelta(seconds=n) for n in count())
    client = visitor(clock=lambda: next(moments))
    run = finished(client, dry_run=False, **NEW) if taking_back else None
    killed = threading.Event()
    real = lacking.store.correct_costs

    def two_and_no_more(changes):
        real(changes[:2])
        raise SinkUnavailable("it is gone")

    def says_nothing(self, run):
        killed.set()

    monkeypatch.setattr("ai_ledger.web.costs.api.WAIT_S", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(lacking.store, "correct_costs", two_and_no_more)
        patched.setattr(runs.Runs, "end", says_nothing)
        if run is None:
            client.post("/api/v1/reprice", json={"dry_run": False, **NEW})
        else:
            client.post("/api/v1/reprice/take-back", json={"begun_at": run["begun_at"]})
        assert killed.wait(60)

    next_one = visitor(clock=lambda: next(moments))
    assert next_one.get("/api/v1/reprice").json()["state"] == "running"
    assert next_one.post("/api/v1/reprice", json={}).status_code == 409
    silent(lacking)
    told = next_one.get("/api/v1/reprice").json()
    page = next_one.get("/costs/unpriced").text
    stopped = next_one.post("/api/v1/reprice/stop")
    rest = finished(next_one, dry_run=False, **NEW) if run is None else taken_back(next_one, run)

    assert (told["state"], told["changed"], told["ended_at"]) == ("cut_off", 2, None)
    assert "The console that was at it ended before the end" in page
    assert stopped.status_code == 404
    assert rest["changed"] == 2
    if run is None:
        assert "2 calls have a new cost, the others keep theirs." in page
        assert taken_back(next_one, told)["changed"] == 2
    else:
        assert "2 of 4 calls have their old cost again." in page
        assert "Take back the rest" in page
        assert cost_of(next_one, "house-7b") == {}


def test_consoles_see_and_stop_each_others_run(lacking, visitor, monkeypatch):
    """
    How far it is; no other beside it; and its end.
    """
    add_price(lacking)
    moments = (sample.NOW + timedelta(seconds=n) for n in count())
    one, other = (visitor(clock=lambda: next(moments)) for _ in range(2))
    run = finished(one, dry_run=False, **NEW)
    halted = Halted(monkeypatch)

    begun = one.post("/api/v1/reprice/take-back", json={"begun_at": run["begun_at"]})
    assert halted.begun.wait(60)
    seen = other.get("/api/v1/reprice").json()
    refused = other.post("/api/v1/reprice", json={"dry_run": False, **NEW})
    joined = other.post("/api/v1/reprice/take-back", json={"begun_at": run["begun_at"]})
    page = other.get("/costs/repricing").text
    assert other.post("/api/v1/reprice/stop").status_code == 200
    halted.go_on.set()
    stopped = over(one, begun)

    assert (seen["state"], seen["calls"], seen["changed"]) == ("running", 4, 1)
    assert (refused.status_code, joined.json()["id"]) == (409, seen["id"])
    assert "being taken back" in refused.json()["detail"]
    assert "1 of 4 calls looked at" in page
    assert (stopped["state"], stopped["changed"]) == ("stopped", 1)
    assert other.get("/api/v1/reprice").json() == stopped


def test_a_run_that_was_given_up_goes_no_further(lacking, visitor, monkeypatch):
    """
    Its console stood still for so long that another one has begun anew.
    """
    add_price(lacking)
    moments = (sample.NOW + timedelta(seconds=n) for n in count())
    one, other = (visitor(clock=lambda: next(moments)) for _ in range(2))
    run = finished(one, dry_run=False, **NEW)
    halted = Halted(monkeypatch)
    one.post("/api/v1/reprice/take-back", json={"begun_at": run["begun_at"]})
    assert halted.begun.wait(60)

    silent(lacking)
    monkeypatch.setattr("ai_ledger.web.costs.api.WAIT_S", 3.0)
    follower = finished(other, **NEW)
    halted.go_on.set()
    assert ended(run["begun_at"], lacking) == "stopped"

    assert (follower["state"], follower["changed"]) == ("done", 1)
    assert other.get("/api/v1/reprice").json() == follower
    assert one.get("/api/v1/reprice").json() == follower


def ended(takes_back: str, ledger: Ledger) -> str:
    """How the history says that taking that run back has ended."""
    pause = threading.Event()
    moment = datetime.fromisoformat(takes_back)
    for _ in range(600):
        with shared_database(ledger).reading() as connection:
            notes = [each.after for each in changes_before(connection, kind="repricing")]
        for each in notes:
            taken = each.get("takes_back")
            if taken and datetime.fromisoformat(taken) == moment and each["state"] != "running":
                return each["state"]
        pause.wait(0.1)
    raise AssertionError("it goes on and on")


def test_a_console_that_ends_stops_its_run(desk, monkeypatch):
    """
    After the batch that it is at, and says so.
    """
    begun, resumed = threading.Event(), threading.Event()
    real = repricing.reprice

    def halting(*args, go_on, **options):
        def ask(checked: int) -> bool:
            begun.set()
            assert resumed.wait(60)
            return go_on(checked)

        return real(*args, go_on=ask, **options)

    monkeypatch.setattr(repricing, "reprice", halting)
    repricing.repricing_of(desk.house).begin(desk, Asked(dry_run=False))
    assert begun.wait(60)
    closing = threading.Thread(target=desk.house.close)
    closing.start()
    assert repricing.repricing_of(desk.house)._closing.wait(60)
    resumed.set()
    closing.join(60)

    told = runs.Runs(desk.house).last()
    assert told is not None
    assert told.state == "stopped"


def test_a_failure_is_told_by_the_next_console_too(lacking, visitor, monkeypatch):
    """
    With the reason, and with the button that takes back what was done until then.
    """

    def fails(*args, **options):
        raise SinkUnavailable("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(repricing, "reprice", fails)
        assert finished(visitor(), dry_run=False)["state"] == "failed"

    client = visitor()
    assert client.get("/api/v1/reprice").json()["error"] == "the disk is full"
    page = client.get("/costs/unpriced").text
    assert "What was corrected until then stays." in page
    assert "Take it back" in page
