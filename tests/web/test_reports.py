"""Reports: made, listed, opened, downloaded, deleted and restored; by id and in no other way."""

from __future__ import annotations

import csv
import io
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from tests.databases import EACH, ledger_of
from tests.web import sample

from ai_ledger import Ledger
from ai_ledger.access import Access
from ai_ledger.database.tables.console import reports as reports_table
from ai_ledger.database.upgrade import upgrade
from ai_ledger.errors import EditConflict, NotFound, SinkUnavailable
from ai_ledger.sinks.sql import writer
from ai_ledger.sinks.sql.shared import close_databases
from ai_ledger.stats.export import Report
from ai_ledger.web.house import Desk, House
from ai_ledger.web.periods import Period
from ai_ledger.web.reports import reports
from ai_ledger.web.reports.reports import ReportEntry, Reports


def made(client, **asked) -> str:
    """The id of a new report."""
    answer = client.post("/api/v1/reports", json=asked or {"days": 30})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.mark.usefixtures("filled")
def test_a_report_is_what_the_figures_were_when_it_was_made(ledger, visitor):
    """
    Later calls change the figures and not the report; JSON and CSV say the same.
    """
    client = visitor()
    id = made(client, first="2026-05-13", last="2026-05-20")
    calls = [call for call in sample.calls() if call.started_at.date().isoformat() >= "2026-05-13"]
    cost = {
        code: sum((c.cost for c in calls if c.currency == code), Decimal(0))
        for code in ("CNY", "USD")
    }
    ledger.store.write([sample.call(1, id="later", started_at=sample.NOW - timedelta(hours=1))])

    answer = client.get(f"/api/v1/reports/{id}")
    report = Report.model_validate_json(answer.content)
    assert (report.total.calls, report.total.cost) == (len(calls), cost)
    assert len(report.daily) == 8
    users = {group.key["user_id"]: group.calls for group in report.groups["user_id"]}
    assert users == {f"user-{n}": sum(c.user_id == f"user-{n}" for c in calls) for n in range(5)}

    table = rows_of(client.get(f"/api/v1/reports/{id}?format=csv").content.decode("utf-8-sig"))
    (total,) = [row for row in table if row["section"] == "total"]
    assert (int(total["calls"]), Decimal(total["cost_CNY"])) == (len(calls), cost["CNY"])
    by_user = {row["key"]: int(row["calls"]) for row in table if row["section"] == "user_id"}
    assert by_user == users


@pytest.mark.parametrize(
    ("format", "type_"),
    [("json", "application/json"), ("csv", "text/csv"), ("html", "text/html")],
)
@pytest.mark.usefixtures("filled")
def test_files_have_names_of_our_own_characters(visitor, format, type_):
    """
    From the API and from the page alike.
    """
    client = visitor(name='x"; filename="evil\r\n')
    id = made(client, first="2026-05-01", last="2026-05-20")

    for path in (f"/api/v1/reports/{id}", f"/reports/{id}"):
        answer = client.get(f"{path}?format={format}")

        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(type_)
        name = f"ai-ledger_2026-05-01_2026-05-20_{id[:8]}.{format}"
        assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "cell",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\x00=1", '"=1', "'=1", " =1", "\uff1d1"],
)
def test_cells_are_no_formulas_for_a_spreadsheet(ledger, visitor, cell):
    """
    Whatever somebody calls a user; numbers stay numbers, and JSON stays faithful.
    """
    ledger.store.write([sample.call(0, user_id=cell, function=f"{cell}x")])
    client = visitor()
    id = made(client)

    table = csv.reader(
        io.StringIO(
            client.get(f"/api/v1/reports/{id}?format=csv").content.decode("utf-8-sig"), newline=""
        )
    )
    for row in table:
        for value in row:
            start = value.lstrip(" \"'")[:1]
            assert (
                value.startswith("'") or not start or (start not in "=+-@\uff1d" and start >= " ")
            )
            assert not value or value[0] not in "=+-@\t\r\x00"
    stored = ledger.store.call(None, "call-00000").user_id
    report = client.get(f"/api/v1/reports/{id}").json()
    assert [group["key"]["user_id"] for group in report["groups"]["user_id"]] == [stored]


@pytest.mark.parametrize(
    "id",
    [
        "../x",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "%252e%252e%252f",
        "%00",
        "..%5c..%5cwindows",
        "C:%5cwindows%5cwin.ini",
        "%2fetc%2fpasswd",
        "/etc/passwd",
        "00000000-0000-0000-0000-00000000000g",
        "00000000-0000-0000-0000-000000000000%0a",
        "00000000-0000-0000-0000-000000000000",
        "{id}%00",
        "{upper}",
        "del:{hex}",
        "\u0661" * 8,
    ],
)
@pytest.mark.usefixtures("filled")
def test_an_id_that_is_none_is_not_found_and_opens_no_file(visitor, tmp_path, id):
    """
    There is no path from a request to the disk: only the database is touched.
    """
    client = visitor()
    known = made(client)
    client.get(f"/reports/{known}")  # templates are read by now
    client.get("/reports/nothing")
    asked = id.format(id=known, upper=known.upper(), hex=known.replace("-", ""))
    opened: list[str] = []
    watching = [True]

    def watch(event: str, args: tuple) -> None:
        if watching and event == "open" and isinstance(args[0], (str, bytes, Path)):
            opened.append(str(args[0]))

    sys.addaudithook(watch)
    try:
        for path in ("/api/v1/reports", "/reports"):
            for more in ("", "?format=csv"):
                answer = client.get(f"{path}/{asked}{more}", follow_redirects=False)
                # A slash at the end is taken off by sending the client elsewhere.
                assert answer.status_code in (404, 307), (path, answer.status_code)
                assert not answer.headers.get("location", "").startswith("//")
        assert client.delete(f"/api/v1/reports/{asked}").status_code in (404, 405)
        for form in ("/reports/delete", "/reports/restore"):
            assert client.post(form, data={"id": asked}).status_code == 404
    finally:
        watching.clear()

    # SQLite opens its own files without Python; modules may be imported meanwhile.
    assert [path for path in opened if not path.endswith((".py", ".pyc", ".html"))] == []


@pytest.mark.usefixtures("filled")
def test_reports_of_others_are_not_there(visitor):
    """
    Neither another organisation's, nor those over all; for whoever sees all, everything is.
    """
    everybody, acme, globex = visitor(), visitor(org_id="acme"), visitor(org_id="globex")
    ids = {"all": made(everybody), "acme": made(acme), "globex": made(globex)}

    def listed(client) -> set[str]:
        return {each["id"] for each in client.get("/api/v1/reports").json()["reports"]}

    assert listed(acme) == {ids["acme"]}
    assert listed(everybody) == set(ids.values())
    page = acme.get("/costs/reports").text
    assert ids["acme"] in page
    assert ids["globex"] not in page
    for other in (ids["all"], ids["globex"]):
        assert acme.get(f"/api/v1/reports/{other}").status_code == 404
        assert acme.get(f"/reports/{other}").status_code == 404
        assert acme.delete(f"/api/v1/reports/{other}").status_code == 404
        assert acme.post("/reports/delete", data={"id": other}).status_code == 404
    everybody.delete(f"/api/v1/reports/{ids['globex']}")
    assert acme.post(f"/api/v1/reports/{ids['globex']}/restore").status_code == 404
    mine = acme.get(f"/api/v1/reports/{ids['acme']}").text
    assert "globex" not in mine
    assert json.loads(mine)["total"]["calls"] == 80


@pytest.mark.usefixtures("filled")
def test_a_deleted_report_comes_back_as_it_was(visitor):
    """
    By the undo that the page offers; meanwhile nothing finds it.
    """
    client = visitor(role="operator")
    id = made(client)
    before = client.get(f"/api/v1/reports/{id}").json()

    answer = client.post("/reports/delete", data={"id": id}, headers={"HX-Request": "true"})
    undo = json.loads(answer.headers["HX-Trigger"])["done"]["undo"]
    assert client.get(f"/api/v1/reports/{id}").status_code == 404
    assert client.get("/api/v1/reports").json()["reports"] == []
    assert client.delete(f"/api/v1/reports/{id}").status_code == 404

    assert client.post(undo["path"], data=undo["fields"]).status_code == 200
    assert client.get(f"/api/v1/reports/{id}").json() == before


@pytest.mark.usefixtures("filled")
def test_viewers_make_and_read_and_delete_nothing(visitor):
    """
    Deleting takes an operator, and the page offers it to nobody else.
    """
    viewer = visitor(role="viewer")
    id = made(viewer)

    assert viewer.delete(f"/api/v1/reports/{id}").status_code == 403
    assert viewer.post("/reports/delete", data={"id": id}).status_code == 403
    assert viewer.post(f"/api/v1/reports/{id}/restore").status_code == 403
    assert "/reports/delete" not in viewer.get("/costs/reports").text
    assert viewer.get(f"/reports/{id}").status_code == 200


@pytest.mark.usefixtures("filled")
def test_the_oldest_of_each_scope_go(visitor, monkeypatch):
    """
    Many reports of one organisation drive out none of another's; deleted ones go too.
    """
    monkeypatch.setattr(reports, "KEPT", 3)
    monkeypatch.setattr(reports, "KEPT_DELETED", 1)
    moments = iter(sample.NOW + timedelta(minutes=n) for n in range(10_000))
    acme = visitor(clock=lambda: next(moments), org_id="acme")
    globex = visitor(org_id="globex")
    other = made(globex, days=1)

    ids = [made(acme, days=1) for _ in range(5)]

    assert [each["id"] for each in acme.get("/api/v1/reports").json()["reports"]] == ids[:1:-1]
    assert globex.get(f"/api/v1/reports/{other}").status_code == 200
    for id in ids[2:]:
        assert acme.delete(f"/api/v1/reports/{id}").status_code == 200
    restored = [acme.post(f"/api/v1/reports/{id}/restore").status_code for id in ids[2:]]
    assert restored == [404, 404, 200]


@pytest.mark.usefixtures("filled")
def test_nobody_drives_out_what_others_made(visitor, monkeypatch):
    """
    Whoever makes many loses their own oldest, which the history tells; others none.
    """
    monkeypatch.setattr(reports, "KEPT", 4)
    monkeypatch.setattr(reports, "KEPT_EACH", 3)
    moments = iter(sample.NOW + timedelta(minutes=n) for n in range(10_000))
    ada, bob, eve = (
        visitor(clock=lambda: next(moments), name=name, role="viewer")
        for name in ("ada", "bob", "eve")
    )
    first = made(ada, days=1)

    ids = [made(bob, days=1) for _ in range(5)]
    refused = eve.post("/api/v1/reports", json={"days": 1})

    kept = [each["id"] for each in ada.get("/api/v1/reports").json()["reports"]]
    assert kept == [ids[4], ids[3], ids[2], first]
    assert (refused.status_code, "ask an operator" in refused.text) == (409, True)
    told = visitor().get("/api/v1/changes?kind=report").json()["changes"]
    gone = [(each["key"], each["changed_by"]) for each in told if each["after"] is None]
    assert gone == [(ids[1], "bob"), (ids[0], "bob")]


@pytest.mark.usefixtures("filled")
def test_the_list_goes_on_behind_its_last_report(visitor):
    """
    Also where several were made at one moment.
    """
    client = visitor()
    ids = {made(client, days=1) for _ in range(5)}
    seen: list[str] = []
    query = "limit=2"
    while query:
        page = client.get(f"/api/v1/reports?{query}").json()
        seen += [each["id"] for each in page["reports"]]
        query = page["next_id"] and "limit=2&before_made_at={}&before_id={}".format(
            page["next_made_at"].replace("+", "%2B"), page["next_id"]
        )

    assert len(seen) == 5
    assert set(seen) == ids


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.usefixtures("filled")
def test_a_report_is_a_page_to_print_in_the_reader_s_language(visitor, language):
    """
    The page in the console, and the file that needs no other.
    """
    client = visitor()
    id = made(client)
    word = {"en": "Usage and costs", "zh": "用量与费用"}[language]
    headers = {"Accept-Language": language}

    page = client.get(f"/reports/{id}", headers=headers).text
    file = client.get(f"/api/v1/reports/{id}?format=html", headers=headers).text

    for text in (page, file):
        assert word in text
        assert "gpt-4o-mini" in text
    assert "<link" not in file
    assert "<script" not in file


def test_more_groups_than_a_report_lists_are_counted(ledger: Ledger, visitor, monkeypatch):
    """
    The total has them, and it says how many are left out.
    """
    monkeypatch.setattr(reports, "MAX_GROUPS", 10)
    ledger.store.write([sample.call(n, user_id=f"user-{n}") for n in range(25)])
    client = visitor()

    report = client.get(f"/api/v1/reports/{made(client)}").json()

    assert (len(report["groups"]["user_id"]), report["left_out"]) == (10, {"user_id": 15})
    assert report["total"]["calls"] == 25


@pytest.mark.parametrize(
    "body",
    [
        {"days": 0},
        {"days": 367},
        {"first": "0001-01-01"},
        {"first": "9999-12-31"},
        {"first": "2026-05-02", "last": "2026-05-01"},
        {"first": "2024-01-01", "last": "2026-05-01"},
        {"path": "/etc/passwd"},
    ],
)
@pytest.mark.usefixtures("filled")
def test_what_cannot_be_reported_is_refused(visitor, body):
    """
    And nothing is kept.
    """
    client = visitor()

    assert client.post("/api/v1/reports", json=body).status_code == 422
    assert client.get("/api/v1/reports").json()["reports"] == []
    assert client.get(f"/api/v1/reports/{uuid4()}?format=exe").status_code == 422


def test_forgetting_somebody_takes_the_reports_that_may_name_them(sql_url, tmp_path):
    """
    Those of the days and organisations of their calls go from each database, deleted
    ones too; others stay, and so does one that is made afterwards.
    """
    upgrade(sql_url)
    long_ago = sample.NOW - timedelta(days=9)
    with Ledger(sql_url, journal=tmp_path / "journal") as ledger:
        ledger.store.write(
            [
                sample.call(0, user_id="canary-user", org_id="acme"),
                sample.call(1, user_id="somebody", org_id="globex"),
                sample.call(2, user_id="somebody", org_id="acme", started_at=long_ago),
            ]
        )
        house = House(ledger, clock=lambda: sample.NOW)
        acme, globex, everything = (
            Reports(Desk(house, Access(name="ada", role="admin", org_id=org)))
            for org in ("acme", "globex", None)
        )
        today, earlier = days(sample.NOW, sample.NOW), days(long_ago, long_ago)
        named = [acme.make(today).id, everything.make(today).id, everything.make(today).id]
        everything.delete(named[2])
        others = {globex.make(today).id, everything.make(earlier).id}
        if sql_url.startswith("sqlite"):
            assert b"canary-user" in bytes_of(tmp_path)

        assert ledger.forget(user_id="canary-user") == 1

        assert {each.id for each in everything.list()} == others
        for id in named:
            with pytest.raises(NotFound):
                everything.restore(id)
        if sql_url.startswith("sqlite"):
            assert b"canary-user" not in bytes_of(tmp_path)
        # That call names nobody any more.
        others.add(acme.make(today).id)
        assert ledger.forget(function="summarize", org_id="acme") == 1
        assert {each.id for each in everything.list()} == others
        house.close()


def test_no_report_is_kept_that_was_made_while_calls_were_erased(sql_url, tmp_path, monkeypatch):
    """
    It may have read names that the erasure did not find in it; others of its days go as well.
    """
    upgrade(sql_url)
    with Ledger(sql_url, journal=tmp_path / "journal") as ledger:
        ledger.store.write(
            [
                sample.call(0, user_id="canary-user", org_id="acme"),
                sample.call(1, user_id="somebody", org_id="globex"),
            ]
        )
        house = House(ledger, clock=lambda: sample.NOW)
        acme, globex = (
            Reports(Desk(house, Access(name="ada", role="admin", org_id=org)))
            for org in ("acme", "globex")
        )
        report_of, meanwhile = reports.report_of, []

        def erased(*args, **options):
            report = report_of(*args, **options)
            meanwhile.append(ledger.forget(user_id="canary-user"))
            return report

        monkeypatch.setattr(reports, "report_of", erased)
        today = days(sample.NOW, sample.NOW)
        with pytest.raises(EditConflict, match="erased"):
            acme.make(today)
        # Nobody is named any more by the second.
        kept = acme.make(today).id
        other = globex.make(today).id

        assert meanwhile == [1, 0, 0]
        assert [each.id for each in acme.list()] == [kept]
        assert [each.id for each in globex.list()] == [other]
        with house.database.reading() as connection:
            rows = connection.execute(sa.select(reports_table.c.id)).scalars().all()
        assert set(rows) == {kept, other}
        house.close()


@pytest.mark.parametrize("kind", EACH[1:])
def test_none_is_kept_that_was_made_before_an_erasure_was_stored(kind, tmp_path, monkeypatch):
    """
    It has read the names, and was not there when the erasure looked for those that have.
    """
    with (
        ledger_of(kind, tmp_path) as url,
        Ledger(url, journal=tmp_path / "journal") as ledger,
    ):
        ledger.store.write([sample.call(0, user_id="canary-user", org_id="acme")])
        house = House(ledger, clock=lambda: sample.NOW)
        acme = Reports(Desk(house, Access(name="ada", role="admin", org_id="acme")))
        erase_notes_on, made = writer.erase_notes_on, []

        def meanwhile(*args):
            with ThreadPoolExecutor(1) as pool:
                made.append(pool.submit(acme.make, days(sample.NOW, sample.NOW)).result(60))
            erase_notes_on(*args)

        monkeypatch.setattr(writer, "erase_notes_on", meanwhile)

        assert ledger.forget(user_id="canary-user") == 1
        assert len(made) == 1
        assert acme.list() == []
        house.close()
        close_databases()


@pytest.mark.usefixtures("filled")
def test_a_report_that_cannot_be_made_leaves_nothing(ledger, visitor, monkeypatch):
    """
    Neither a row nor a place that stays taken.
    """

    def fails(*args, **options):
        raise SinkUnavailable("gone")

    client = visitor()
    with monkeypatch.context() as broken:
        broken.setattr(reports, "report_of", fails)
        assert client.post("/api/v1/reports", json={"days": 1}).status_code == 503

    with client.app.state.house.database.reading() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(reports_table)) == 0
    made(client)


@pytest.mark.usefixtures("filled")
def test_reports_of_one_organisation_are_made_one_at_a_time(visitor, monkeypatch):
    """
    A second one is refused; those of others are not, and nobody learns of them.
    """
    house = visitor().app.state.house
    desks = {
        org: Desk(house, Access(name="ada", role="admin", org_id=org))
        for org in ("acme", "globex", None)
    }
    report_of, answers = reports.report_of, {}

    def also(*args, **options):
        monkeypatch.setattr(reports, "report_of", report_of)
        for org in ("globex", None):
            answers[org] = Reports(desks[org]).make(days(sample.NOW, sample.NOW)).scope
        with pytest.raises(EditConflict, match="already"):
            Reports(desks["acme"]).make(days(sample.NOW, sample.NOW))
        return report_of(*args, **options)

    monkeypatch.setattr(reports, "report_of", also)
    Reports(desks["acme"]).make(days(sample.NOW, sample.NOW))

    assert answers == {"globex": "globex", None: None}
    Reports(desks["acme"]).make(days(sample.NOW, sample.NOW))


@pytest.mark.usefixtures("filled")
def test_what_was_deleted_last_can_be_restored_however_old_it_is(visitor, monkeypatch):
    """
    Deleted ones go in the order in which they were deleted, and each organisation's alone.
    """
    monkeypatch.setattr(reports, "KEPT_DELETED", 2)
    moments = iter(sample.NOW + timedelta(minutes=n) for n in range(10_000))
    acme = visitor(clock=lambda: next(moments), org_id="acme")
    everybody = visitor(clock=lambda: next(moments))
    ids = [made(acme, days=1) for _ in range(4)]
    own = [made(everybody, days=1) for _ in range(2)]

    for id in own:
        assert everybody.delete(f"/api/v1/reports/{id}").status_code == 200
    # By whoever sees all, the newest first.
    for id in reversed(ids):
        assert everybody.delete(f"/api/v1/reports/{id}").status_code == 200

    restored = [acme.post(f"/api/v1/reports/{id}/restore").status_code for id in ids]
    assert restored == [200, 200, 404, 404]
    assert [everybody.post(f"/api/v1/reports/{id}/restore").status_code for id in own] == [200] * 2


def test_the_last_day_where_no_day_begins_at_midnight():
    """
    In Cairo, 24 April 2026 begins at one o'clock.
    """
    cairo = ZoneInfo("Africa/Cairo")
    entry = ReportEntry(
        id=str(uuid4()),
        made_at=sample.NOW,
        made_by=None,
        since=datetime(2026, 4, 22, tzinfo=cairo),
        until=datetime(2026, 4, 23, 22, tzinfo=UTC).astimezone(cairo),
        tz="Africa/Cairo",
        scope=None,
    )

    assert (entry.first_day, entry.last_day) == (date(2026, 4, 22), date(2026, 4, 23))
    assert entry.file_stem.startswith("ai-ledger_2026-04-22_2026-04-23_")


def days(first, last) -> Period:
    return Period.of(
        days=None, first=first.date(), last=last.date(), now=sample.NOW, tz=UTC, default=30
    )


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.usefixtures("filled")
def test_making_deleting_and_restoring_are_in_the_history(visitor):
    """
    With whose hand it was, and of which days the report is.
    """
    client = visitor(name="ada")
    id = made(client, first="2026-05-19", last="2026-05-20")
    client.delete(f"/api/v1/reports/{id}")
    client.post(f"/api/v1/reports/{id}/restore")

    found = client.get("/api/v1/changes", params={"kind": "report"}).json()["changes"]

    assert [(each["key"], each["changed_by"]) for each in found] == [(id, "ada")] * 3
    assert [(each["after"] or {}).get("state") for each in found] == ["restored", None, "made"]
    assert found[2]["after"]["since"].startswith("2026-05-19")
