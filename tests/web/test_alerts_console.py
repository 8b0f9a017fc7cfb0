"""Alerts in the console: the list, answers and their undo, failed calls, walls."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.web import sample
from tests.web.conftest import Visitor

from ai_ledger import Ledger
from ai_ledger.access import Access
from ai_ledger.alerts import Alerts, Callback, Rule
from ai_ledger.alerts.register import Register
from ai_ledger.errors import SinkUnavailable
from ai_ledger.sinks.sql.shared import close_databases
from ai_ledger.web import create_app

PARTIAL = {"HX-Request": "true"}
BAD = '<script>alert(1)</script> "quoted"'


def failed(number: int, **fields: Any) -> Any:
    """A call that failed a moment ago."""
    return sample.call(
        number,
        **{
            "id": f"bad-{number}",
            "status": "failed",
            "error_type": "APIError",
            "error_message": "<b>no</b>",
            "org_id": "acme",
            "started_at": sample.NOW - timedelta(seconds=30 + number),
            **fields,
        },
    )


def alerts_of(ledger: Ledger, org_id: str | None = None) -> Alerts:
    """The alerts of *ledger*, by the clock of these tests."""
    return Alerts(ledger, scope=org_id, clock=lambda: sample.NOW)


def raise_alerts(ledger: Ledger) -> None:
    """One alert of acme, one of globex, and one that only those who see everything see."""
    ledger.store.write(
        [
            *(failed(number, request_model=BAD) for number in range(30)),
            *(failed(40 + number, request_model="other", org_id="globex") for number in range(30)),
        ]
    )
    alerts = alerts_of(ledger)
    alerts.add_rule(Rule(name="of orgs", kind="failure_rate", each="org_id"), by="ada")
    alerts.add_rule(
        Rule(name="of models", kind="failure_rate", severity="critical", min_calls=25), by="ada"
    )
    alerts.evaluate()


@pytest.fixture
def raised(ledger: Ledger) -> Ledger:
    """A ledger with alerts."""
    raise_alerts(ledger)
    return ledger


@pytest.fixture
def everywhere(sql_url: str, tmp_path: Path) -> Iterator[TestClient]:
    """The console over alerts in each database in turn."""
    with Ledger(sql_url, journal=tmp_path / "journal") as ledger:
        raise_alerts(ledger)
        who = Access(name="ada", role="operator")
        app = create_app(ledger, auth=lambda request: who, clock=lambda: sample.NOW)
        with TestClient(
            app, base_url="http://127.0.0.1", headers={"Sec-Fetch-Site": "same-origin"}
        ) as client:
            yield client
        app.state.house.close()
        ledger.store.close()  # which was written to directly
    close_databases()


def done(answer: Any) -> dict[str, Any]:
    """What a form's answer says was done."""
    assert answer.status_code == 204, answer.text
    return json.loads(answer.headers["HX-Trigger"])["done"]


def undone(client: TestClient, said: dict[str, Any]) -> dict[str, Any]:
    """What is said when the undo that *said* offers is pressed."""
    return done(client.post(said["undo"]["path"], data=said["undo"]["fields"], headers=PARTIAL))


def states(client: TestClient) -> dict[int, str]:
    """The state of every alert."""
    found = client.get(
        "/api/v1/alerts", params={"state": ["open", "acknowledged", "ignored", "resolved"]}
    ).json()
    return {each["id"]: each["state"] for each in found}


def test_an_alert_is_answered_by_the_api(everywhere: TestClient) -> None:
    """
    Taking up, opening again, ignoring and resolving leave who did it and what they said.
    """
    client = everywhere
    first = client.get("/api/v1/alerts").json()[0]
    path = f"/api/v1/alerts/{first['id']}"

    answers = [
        client.post(f"{path}/ack", json={"note": "on it", "version": 1}),
        client.post(f"{path}/reopen"),
        client.post(f"{path}/ignore", json={"version": 3}),
        client.post(f"{path}/resolve", json={"note": "over"}),
    ]
    late = client.post(f"{path}/ack", json={"version": 1})
    again = client.post(f"{path}/ignore")
    detail = client.get(path).json()
    history = client.get(f"{path}/history").json()

    assert [each.json()["state"] for each in answers] == [
        "acknowledged",
        "open",
        "ignored",
        "resolved",
    ]
    assert (late.status_code, again.status_code) == (409, 409)
    assert (detail["changed_by"], detail["note"], detail["version"]) == ("ada", "over", 5)
    assert [each["after"]["state"] for each in history] == [
        "resolved",
        "ignored",
        "open",
        "acknowledged",
    ]
    assert detail["deliveries"] == []
    assert len(detail["calls"]["ids"]) == 20


def test_failed_calls_are_marked_and_opened_again(everywhere: TestClient) -> None:
    """
    Marks are set for all of some calls or for none, and can be taken away again.
    """
    client = everywhere
    ids = [each["id"] for each in client.get("/api/v1/failures").json()][:3]

    marked = client.post("/api/v1/failures/ack", json={"call_ids": ids, "note": "outage"})
    ignored = client.post("/api/v1/failures/ignore", json={"call_ids": ids[:1]})
    none = client.post("/api/v1/failures/ack", json={"call_ids": [*ids, "nobody"]})
    seen = client.get("/api/v1/failures", params={"state": "acknowledged"}).json()
    opened = client.post("/api/v1/failures/reopen", json={"call_ids": ids})

    assert [each.json() for each in (marked, ignored, opened)] == [
        {"marked": 3},
        {"marked": 1},
        {"marked": 3},
    ]
    assert none.status_code == 404
    assert {(each["id"], each["note"], each["marked_by"]) for each in seen} == {
        (call_id, "outage", "ada") for call_id in ids[1:]
    }
    still = [each["id"] for each in client.get("/api/v1/failures").json()]
    assert set(ids) <= set(still)


def test_looking_raises_what_is_new_once(ledger: Ledger, visitor: Visitor) -> None:
    """
    The first look raises the alert, the second finds nothing new.
    """
    ledger.store.write([failed(number, request_model="m") for number in range(30)])
    alerts_of(ledger).add_rule(Rule(name="failures", kind="failure_rate"))
    client = visitor(role="operator")

    first = client.post("/api/v1/alerts/evaluate").json()
    second = done(client.post("/alerts/evaluate", headers=PARTIAL))

    assert [each["kind"] for each in first] == ["failure_rate"]
    assert second["message"] == "All rules were looked at: 0 new alerts."
    assert "It last looked" in client.get("/alerts").text


def test_open_and_severe_alerts_come_first(raised: Ledger, visitor: Visitor) -> None:
    """
    What somebody is about stands behind what nobody has seen, whatever its severity.
    """
    client = visitor()
    found = client.get("/api/v1/alerts").json()
    few = client.get("/api/v1/alerts", params={"limit": 2}).json()
    overview = client.get("/api/v1/dashboard").json()["alerts"]["alerts"]
    client.post(f"/api/v1/alerts/{found[0]['id']}/ack")

    after = client.get("/api/v1/alerts").json()

    assert few == found[:2]
    assert [each["id"] for each in overview] == [each["id"] for each in found]
    assert [each["severity"] for each in found] == ["critical", "critical", "warning", "warning"]
    assert after[-1]["id"] == found[0]["id"]


@pytest.mark.parametrize(
    ("what", "state"),
    [("ack", "acknowledged"), ("ignore", "ignored"), ("resolve", "resolved")],
)
def test_an_answer_is_undone(raised: Ledger, visitor: Visitor, what: str, state: str) -> None:
    """
    A button answers one alert, undo opens it again, and what undo did is undone, too.
    """
    client = visitor(role="operator")
    alert_id = next(iter(states(client)))

    said = done(client.post(f"/alerts/{alert_id}/{what}", data={"version": "1"}, headers=PARTIAL))
    between = states(client)[alert_id]
    back = undone(client, said)
    open_again = states(client)[alert_id]
    undone(client, back)

    assert (between, open_again) == (state, "open")
    assert states(client)[alert_id] == state


@pytest.mark.parametrize("before", ["ack", "ignore"])
def test_a_resolution_gives_back_what_was_before(
    raised: Ledger, visitor: Visitor, before: str
) -> None:
    """
    Resolving asks first; undone, an alert is acknowledged or ignored as it was, at its version.
    """
    client = visitor(role="operator")
    alert_id = next(iter(states(client)))
    page = client.get(f"/alerts/{alert_id}").text
    path = f"/alerts/{alert_id}"
    done(client.post(f"{path}/{before}", data={"version": "1"}, headers=PARTIAL))
    was = states(client)[alert_id]
    said = done(client.post(f"{path}/resolve", data={"version": "2"}, headers=PARTIAL))

    undone(client, said)
    late = client.post(said["undo"]["path"], data=said["undo"]["fields"], headers=PARTIAL)

    assert "It can be opened again by hand" in page
    assert states(client)[alert_id] == was
    assert late.status_code == 409


def test_what_ended_by_itself_offers_no_answer(raised: Ledger, visitor: Visitor) -> None:
    """
    There is no button for it, and whoever sends the form is told why, and not who was quicker.
    """
    client = visitor(role="operator")
    later = Alerts(raised, clock=lambda: sample.NOW + timedelta(days=1))
    later.evaluate()
    alert_id = next(iter(states(client)))

    answer = client.post(f"/alerts/{alert_id}/reopen", headers=PARTIAL)

    assert states(client)[alert_id] == "resolved"
    assert f"/alerts/{alert_id}/reopen" not in client.get("/alerts?state=all").text
    assert f"/alerts/{alert_id}/reopen" not in client.get(f"/alerts/{alert_id}").text
    assert answer.status_code == 409
    assert "by itself" in answer.json()["detail"]


def test_what_somebody_resolved_is_opened_by_its_button(raised: Ledger, visitor: Visitor) -> None:
    """
    Also long after, from the list of what is resolved, one or several.
    """
    client = visitor(role="operator")
    one, two, *_ = states(client)
    for alert_id in (one, two):
        alerts_of(raised).resolve(alert_id, by="bob")
    page = client.get("/alerts?state=resolved").text

    said = done(client.post(f"/alerts/{one}/reopen", data={"version": "2"}, headers=PARTIAL))
    form = {"what": "reopen", "alert": f"{two}:2"}
    several = done(client.post("/alerts/answer", data=form, headers=PARTIAL))

    assert f"/alerts/{one}/reopen" in page
    assert {states(client)[one], states(client)[two]} == {"open"}
    undone(client, said)
    undone(client, several)
    assert {states(client)[one], states(client)[two]} == {"resolved"}


def test_several_are_answered_and_those_that_changed_left_alone(
    raised: Ledger, visitor: Visitor
) -> None:
    """
    Of the alerts that are ticked, one that somebody else has answered stays as it is.
    """
    client = visitor(role="operator")
    ids = list(states(client))
    alerts_of(raised).ignore(ids[0], by="bob")

    said = done(
        client.post(
            "/alerts/answer",
            data={"what": "ack", "alert": [f"{each}:1" for each in ids], "note": "mine"},
            headers=PARTIAL,
        )
    )
    after = states(client)
    back = undone(client, said)

    assert said["message"] == (
        "3 alerts were answered. 1 had changed meanwhile and was left alone."
    )
    assert after == {ids[0]: "ignored", **dict.fromkeys(ids[1:], "acknowledged")}
    assert back["message"] == "3 alerts are what they were."
    assert states(client) == {ids[0]: "ignored", **dict.fromkeys(ids[1:], "open")}


def test_several_resolved_ones_are_each_what_they_were(raised: Ledger, visitor: Visitor) -> None:
    """
    Undo gives each its own state again, but leaves alone what somebody has answered since.
    """
    client = visitor(role="operator")
    first, second, third, last = states(client)
    alerts_of(raised).ack(second)
    alerts_of(raised).ignore(third)
    chosen = [f"{first}:1", f"{second}:2", f"{third}:2", f"{last}:1"]

    form = {"what": "resolve", "alert": chosen}
    said = done(client.post("/alerts/answer", data=form, headers=PARTIAL))
    assert set(states(client).values()) == {"resolved"}
    alerts_of(raised).reopen(last)
    alerts_of(raised).ack(last, by="bob")
    back = undone(client, said)

    assert states(client) == {
        first: "open", second: "acknowledged", third: "ignored", last: "acknowledged",
    }  # fmt: skip
    assert "1 had changed meanwhile" in back["message"]
    undone(client, back)
    assert {state for id_, state in states(client).items() if id_ != last} == {"resolved"}


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Exception], None]:
    """``breaking(2, error)``: from the third on, changes of alerts end in *error*."""
    change = Register.change

    def after(good: int, error: Exception) -> None:
        left = iter(range(good))

        def changed(register: Register, *args: Any, **options: Any) -> Any:
            if next(left, None) is None:
                raise error
            return change(register, *args, **options)

        monkeypatch.setattr(Register, "change", changed)

    return after


def test_what_was_answered_before_the_store_went_away_is_undone(
    raised: Ledger,
    visitor: Visitor,
    monkeypatch: pytest.MonkeyPatch,
    breaking: Callable[[int, Exception], None],
) -> None:
    """
    It is told how many were answered and how many not, and those that were are taken back.
    """
    client = visitor(role="operator")
    ids = list(states(client))
    form = {"what": "resolve", "alert": [f"{each}:1" for each in ids]}

    breaking(2, SinkUnavailable("away"))
    said = done(client.post("/alerts/answer", data=form, headers=PARTIAL))
    between = states(client)
    breaking(1, SinkUnavailable("away"))
    half = undone(client, said)
    breaking(0, SinkUnavailable("away"))
    nothing = client.post(said["undo"]["path"], data=said["undo"]["fields"], headers=PARTIAL)
    monkeypatch.undo()
    undone(client, said)

    assert between == {**dict.fromkeys(ids[:2], "resolved"), **dict.fromkeys(ids[2:], "open")}
    assert [said["message"], half["message"]] == [
        "2 alerts were answered. 2 were not come to, since the database went away.",
        "1 alert is what it was. 1 was not come to, since the database went away.",
    ]
    assert nothing.status_code == 503
    assert set(states(client).values()) == {"open"}


def test_an_alert_that_is_not_there_holds_up_no_other(raised: Ledger, visitor: Visitor) -> None:
    """
    Of several alerts, one that is gone is left alone.
    """
    client = visitor(role="operator")
    first, *_, last = states(client)

    form = {"what": "ack", "alert": [f"{first}:1", "999:1", f"{last}:1"]}
    said = done(client.post("/alerts/answer", data=form, headers=PARTIAL))

    assert said["message"] == (
        "2 alerts were answered. 1 had changed meanwhile and was left alone."
    )
    assert (states(client)[first], states(client)[last]) == ("acknowledged", "acknowledged")


def test_what_was_resolved_is_given_back_in_one_step(raised: Ledger, visitor: Visitor) -> None:
    """
    Nobody finds it open in between, and its history says what became of it.
    """
    client = visitor(role="operator")
    alert_id = next(iter(states(client)))
    alerts_of(raised).ack(alert_id, by="bob")
    form = {"what": "resolve", "alert": f"{alert_id}:2"}

    undone(client, done(client.post("/alerts/answer", data=form, headers=PARTIAL)))

    edits = client.get(f"/api/v1/alerts/{alert_id}/history").json()
    assert [each["after"]["state"] for each in edits] == [
        "acknowledged", "resolved", "acknowledged",
    ]  # fmt: skip


def test_many_marks_are_taken_back(raised: Ledger, visitor: Visitor) -> None:
    """
    Sixty failed calls at once: each has its old mark and note again, and others' marks stay.
    """
    client = visitor(role="operator")

    def marks() -> dict[str, tuple[str, str | None]]:
        found = client.get("/api/v1/failures", params={"state": "all", "limit": 100}).json()
        return {each["id"]: (each["state"], each["note"]) for each in found}

    ids = list(marks())
    alerts_of(raised).ack_call(ids[0], by="bob", note="mine")
    before = marks()

    form = {"state": "ignored", "call": ids, "note": "outage"}
    said = done(client.post("/alerts/failures/mark", data=form, headers=PARTIAL))
    ignored = marks()
    alerts_of(raised).ack_call(ids[1], by="bob")
    back = undone(client, said)

    assert len(ids) == 60
    assert set(ignored.values()) == {("ignored", "outage")}
    assert marks() == {**before, ids[1]: ("acknowledged", None)}
    assert back["message"] == (
        "59 calls are marked as before. 1 had changed meanwhile and was left alone."
    )
    undone(client, back)
    assert marks() == {**ignored, ids[1]: ("acknowledged", None)}


def test_opening_marked_calls_is_undone(raised: Ledger, visitor: Visitor) -> None:
    """
    A mark that was taken away comes back with its note.
    """
    client = visitor(role="operator")
    call_id = client.get("/api/v1/failures").json()[0]["id"]
    alerts_of(raised).ack_call(call_id, by="bob", note="mine")

    form = {"state": "open", "call": call_id}
    said = done(client.post("/alerts/failures/mark", data=form, headers=PARTIAL))
    undone(client, said)

    [seen] = client.get("/api/v1/failures", params={"state": "acknowledged"}).json()
    assert (seen["id"], seen["note"]) == (call_id, "mine")


def test_a_note_that_was_erased_does_not_come_back(ledger: Ledger, visitor: Visitor) -> None:
    """
    The undo of a mark gives the state back that was before, and of the note what is left of it.
    """
    ledger.store.write([failed(1, user_id="alice"), failed(2)])
    alerts_of(ledger).ack_call("bad-1", "bad-2", by="bob", note="alice phoned")
    client = visitor(role="operator")

    form = {"state": "open", "call": ["bad-1", "bad-2"]}
    said = done(client.post("/alerts/failures/mark", data=form, headers=PARTIAL))
    ledger.forget(user_id="alice")
    undone(client, said)

    seen = client.get("/api/v1/failures", params={"state": "acknowledged"}).json()
    assert {each["id"]: each["note"] for each in seen} == {"bad-1": None, "bad-2": "alice phoned"}


def test_what_was_marked_already_is_no_ones_to_take_back(ledger: Ledger, visitor: Visitor) -> None:
    """
    Opening what somebody else has opened changes nothing, so its undo does not either.
    """
    ledger.store.write([failed(1), failed(2)])
    alerts_of(ledger).ack_call("bad-1", "bad-2", by="bob")
    alerts_of(ledger).reopen_call("bad-1", by="bob")
    client = visitor(role="operator")

    form = {"state": "open", "call": ["bad-1", "bad-2"]}
    undone(client, done(client.post("/alerts/failures/mark", data=form, headers=PARTIAL)))

    seen = client.get("/api/v1/failures", params={"state": "acknowledged"}).json()
    assert [each["id"] for each in seen] == ["bad-2"]


@pytest.mark.parametrize(
    ("language", "words"), [("en", "Somebody else was quicker"), ("zh", "别人抢先处理了")]
)
def test_somebody_else_was_quicker(
    raised: Ledger, visitor: Visitor, language: str, words: str
) -> None:
    """
    An answer to an alert that changed meanwhile is refused, and says what it is now.
    """
    client = visitor(role="operator")
    client.cookies.set("ai_ledger_language", language)
    alert_id = next(iter(states(client)))
    alerts_of(raised).ack(alert_id, by="bob")

    answer = client.post(f"/alerts/{alert_id}/ignore", data={"version": "1"}, headers=PARTIAL)

    assert answer.status_code == 409
    assert words in answer.json()["detail"]
    assert "bob" in answer.json()["detail"]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_pages_show_stored_texts_as_text(raised: Ledger, visitor: Visitor, language: str) -> None:
    """
    Every page of alerts answers in both languages, and markup in names stays text.
    """
    client = visitor()
    client.cookies.set("ai_ledger_language", language)
    found = client.get("/api/v1/alerts").json()
    about = next(each["id"] for each in found if each["whose"] == BAD)
    client.post(f"/api/v1/alerts/{about}/ack", json={"note": BAD})

    pages = [
        client.get(path)
        for path in (
            "/alerts",
            "/alerts?state=all",
            "/alerts/list?rule=of+models&state=acknowledged",
            f"/alerts/{about}",
            "/alerts/failures",
            "/alerts/failures/list?state=all&days=30",
        )
    ]

    assert [page.status_code for page in pages] == [200] * 6
    for page in pages:
        assert "<script>alert" not in page.text
        assert "<b>no" not in page.text
    assert "&lt;script&gt;alert(1)" in pages[3].text
    assert ("未处理" if language == "zh" else "Open again") in pages[1].text


def test_the_calls_behind_an_alert_are_one_click_away(raised: Ledger, visitor: Visitor) -> None:
    """
    The link of an alert leads to a page of calls that is filtered by what the alert is about.
    """
    client = visitor()
    found = next(each for each in client.get("/api/v1/alerts").json() if each["whose"] == "other")
    page = client.get(f"/alerts/{found['id']}").text

    assert "/calls?" in page
    assert "request_model=other" in page
    for status in ("failed", "timeout"):
        assert f"status={status}" in page


def test_channels_are_told_and_neither_addresses_nor_secrets_shown(
    raised: Ledger, visitor: Visitor
) -> None:
    """
    A delivery that failed is listed with its error, and what is secret in that is not.
    """

    def broken(alert: Any) -> None:
        raise RuntimeError("no answer from https://user:hunter2@hooks.example/x?key=AIzaSyA1234567")

    with Alerts(
        raised, channels=[Callback(broken, name="hook")], clock=lambda: sample.NOW
    ) as alerts:
        alerts.evaluate()
    client = visitor()
    alert_id = next(iter(states(client)))

    told = client.get(f"/api/v1/alerts/{alert_id}").json()["deliveries"]
    page = client.get(f"/alerts/{alert_id}").text

    assert [(each["channel"], each["state"]) for each in told] == [("hook", "waiting")]
    for text in (json.dumps(told), page):
        assert "hunter2" not in text
        assert "AIzaSyA1234567" not in text


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("/api/v1/alerts/1/ack", None),
        ("/api/v1/alerts/1/resolve", None),
        ("/api/v1/alerts/1/reopen", None),
        ("/api/v1/alerts/evaluate", None),
        ("/alerts/1/ignore", {}),
        ("/alerts/answer", {"what": "ack", "alert": "1:1"}),
        ("/alerts/evaluate", {}),
        ("/alerts/failures/mark", {"state": "ignored", "call": "bad-1"}),
    ],
)
def test_a_viewer_answers_nothing(
    raised: Ledger, visitor: Visitor, path: str, data: dict[str, str] | None
) -> None:
    """
    Whoever may only see is refused, and nothing changes.
    """
    client = visitor(role="viewer")

    assert client.post(path, data=data, headers=PARTIAL).status_code == 403
    assert set(states(client).values()) == {"open"}


def test_a_confined_reader_sees_and_answers_its_own(raised: Ledger, visitor: Visitor) -> None:
    """
    For an operator of acme there is one alert; others are as if they were not there.
    """
    everybody, client = visitor(), visitor(role="operator", org_id="acme")
    mine = list(states(client))
    others = [each for each in states(everybody) if each not in mine]

    assert len(mine) == 1
    assert len(others) == 3
    for alert_id in others:
        assert client.get(f"/api/v1/alerts/{alert_id}").status_code == 404
        assert client.get(f"/api/v1/alerts/{alert_id}/history").status_code == 404
        assert client.get(f"/alerts/{alert_id}").status_code == 404
        assert client.post(f"/api/v1/alerts/{alert_id}/ack").status_code == 404
        assert client.post(f"/alerts/{alert_id}/ack", headers=PARTIAL).status_code == 404
    assert client.post(f"/api/v1/alerts/{mine[0]}/ack").status_code == 200
    assert "globex" not in client.get("/alerts?state=all").text
    assert {each["org_id"] for each in client.get("/api/v1/failures").json()} == {"acme"}
    foreign = client.post("/api/v1/failures/ack", json={"call_ids": ["bad-41"]})
    assert foreign.status_code == 404
    assert "globex" not in client.get("/alerts/failures").text


def test_a_fresh_ledger_teaches(visitor: Visitor) -> None:
    """
    Where there are no rules the page offers the usual ones, and adds them.
    """
    client = visitor()
    before = client.get("/alerts").text

    said = done(client.post("/alerts/rules/defaults", headers=PARTIAL))

    assert "No alert rules yet" in before
    assert "Alerts(ledger, channels=[Log()])" in before
    assert said["message"] == "10 rules were added."
    assert "No alerts" in client.get("/alerts").text


def test_a_console_that_watches_says_so_and_stops_when_it_is_closed(ledger: Ledger) -> None:
    """
    Looking again and again is an offer: it begins when asked, and ends with the console.
    """
    app = create_app(ledger, auth=lambda request: Access(name="ada"), clock=lambda: sample.NOW)
    alerts = app.state.house.alerts
    with TestClient(app, base_url="http://127.0.0.1") as client:
        before = client.get("/alerts").text
        alerts.start(3600)
        during, watched = client.get("/alerts").text, alerts.is_watching
        app.state.house.close()

    assert "only when asked" in before
    assert "again and again" in during
    assert (watched, alerts.is_watching) == (True, False)
