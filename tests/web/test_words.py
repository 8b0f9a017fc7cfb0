"""The list of words in the console: who may see and change what, trying texts, files."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.databases import fresh_database
from tests.web.conftest import Visitor

from ai_ledger import Ledger
from ai_ledger.access import Access
from ai_ledger.database.upgrade import upgrade
from ai_ledger.policies.words import Word, WordList
from ai_ledger.sinks.sql.shared import close_databases
from ai_ledger.web import create_app
from ai_ledger.web.words import trial
from ai_ledger.web.words.shapes import Found, Hit

HX = {"HX-Request": "true"}
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def words(ledger: Ledger) -> WordList:
    """Words for all, for acme and for globex."""
    words = WordList(ledger)
    words.add("falcon", action="replace", replacement="a bird", note="legal", by="ada")
    words.add("猎鹰计划", action="block", variants=True)
    words.add("acquisition", action="warn", org_id="acme", by="bo")
    words.add("globex-secret", action="block", org_id="globex", by="cy")
    return words


def named(words: WordList, text: str) -> Word:
    """The word in the list that is *text*."""
    return next(each for each in words.list(everybody=True) if each.word == text)


def test_a_page_of_words(visitor: Visitor, words: WordList) -> None:
    """
    Words come newest first, in pages that go on where the last one ended.
    """
    client = visitor()

    first = client.get("/api/v1/words?limit=3").json()
    rest = client.get(f"/api/v1/words?limit=3&after={first['next']}").json()
    found = client.get("/api/v1/words?contains=falc&active=true&action=replace").json()
    page = client.get("/words")

    assert [each["word"] for each in first["words"]] == ["globex-secret", "acquisition", "猎鹰计划"]
    assert [each["word"] for each in rest["words"]] == ["falcon"]
    assert (first["total"], rest["total"], rest["next"]) == (4, 4, None)
    assert [each["word"] for each in found["words"]] == ["falcon"]
    assert all(text in page.text for text in ("falcon", "猎鹰计划", "acquisition", "globex-secret"))


def test_edits_from_end_to_end(visitor: Visitor, words: WordList) -> None:
    """
    What the API adds, changes and removes is in the list, signed; conflicts are told.
    """
    client = visitor(name="ada")

    added = client.post("/api/v1/words", json={"word": "薪资表", "org_id": "acme"})
    path = f"/api/v1/words/{added.json()['id']}"
    twice = client.post("/api/v1/words", json={"word": "薪资表", "org_id": "acme"})
    edited = client.patch(path, json={"version": 1, "action": "replace", "replacement": "某表"})
    stale = client.patch(path, json={"version": 1, "active": False})
    cleared = client.patch(path, json={"version": 2, "replacement": None})
    gone = client.delete(f"{path}?version=3")
    history = client.get(f"{path}/history").json()

    assert [each.status_code for each in (added, twice, edited, stale, cleared, gone)] == [
        201, 409, 200, 409, 200, 200,
    ]  # fmt: skip
    assert (edited.json()["replacement"], cleared.json()["replacement"]) == ("某表", None)
    assert client.get(path).status_code == 404
    assert [each["changed_by"] for each in history] == ["ada"] * 4
    assert (history[-1]["before"], history[0]["after"]) == (None, None)


def test_every_edit_of_a_page_can_be_taken_back(visitor: Visitor, words: WordList) -> None:
    """
    What the answer says to send for undo makes the word what it was.
    """
    client = visitor()

    def plain(word: Word) -> tuple[Any, ...]:
        return (word.word, word.active, word.match, word.action, word.replacement,
                word.org_id, word.variants, word.note)  # fmt: skip

    def act(path: str, **form: str) -> dict[str, Any]:
        answer = client.post(path, data=form, headers=HX)
        assert answer.status_code == 204, answer.text
        return json.loads(answer.headers["HX-Trigger"])["done"].get("undo", {})

    for text in ("falcon", "acquisition", "猎鹰计划"):
        first = named(words, text)
        which = {"id": str(first.id)}
        for path, form in (
            ("/words/edit", {"word": f"{text}s", "action": "warn", "match": "fuzzy"}),
            ("/words/switch", {"active": ""}),
            ("/words/remove", {}),
        ):
            version = str(words.get(first.id).version)
            undo = act(path, **which, version=version, **form)
            assert plain(first) not in [plain(each) for each in words.list(everybody=True)]
            act(undo["path"].removeprefix("http://127.0.0.1"), **undo["fields"])
            assert plain(named(words, text)) == plain(first), path
    undo = act("/words/add", word="fresh", action="block")
    act(undo["path"], **undo["fields"])
    assert "fresh" not in [each.word for each in words.list(everybody=True)]


def test_a_confined_reader_sees_its_own_words_and_those_for_all(
    visitor: Visitor, words: WordList
) -> None:
    """
    Others' words are unknown; of those for all only what they do is told.
    """
    client = visitor(org_id="acme", role="viewer")
    other = named(words, "globex-secret").id
    shared = named(words, "falcon").id

    listed = client.get("/api/v1/words").json()
    asked = client.get("/api/v1/words?org_id=globex").json()
    told = client.get(f"/api/v1/words/{shared}").json()

    assert [each["word"] for each in listed["words"]] == ["acquisition", "猎鹰计划", "falcon"]
    assert (listed["total"], asked["total"], asked["words"]) == (3, 0, [])
    assert (told["note"], told["created_by"], told["updated_by"]) == (None, None, None)
    for path in (f"/api/v1/words/{other}", f"/api/v1/words/{other}/history", f"/words/{other}",
                 f"/api/v1/words/{shared}/history"):  # fmt: skip
        assert client.get(path).status_code == 404, path
    for path in (
        "/words", "/words?org=globex", "/words/export", "/api/v1/words/export",
        "/api/v1/words/export?format=jsonl&org_id=globex", f"/words/{shared}",
    ):  # fmt: skip
        text = client.get(path).text
        assert "globex-secret" not in text, path
        assert "legal" not in text, path


def test_a_removed_word_of_others_stays_unknown(visitor: Visitor, words: WordList) -> None:
    """
    The history of a word that is gone is shown to its own organisation alone.
    """
    own, other = named(words, "acquisition").id, named(words, "globex-secret").id
    words.remove(own)
    words.remove(other)
    client = visitor(org_id="acme")

    assert client.get(f"/api/v1/words/{own}/history").status_code == 200
    assert client.get(f"/api/v1/words/{other}/history").status_code == 404


def test_a_confined_admin_changes_its_own_words_alone(visitor: Visitor, words: WordList) -> None:
    """
    What it adds is its organisation's; words for all, others' and settings stay as they are.
    """
    client = visitor(org_id="acme")
    shared, other = named(words, "falcon"), named(words, "globex-secret")

    added = client.post("/api/v1/words", json={"word": "mine"})
    refused = [
        client.post("/api/v1/words", json={"word": "theirs", "org_id": "globex"}),
        client.patch(f"/api/v1/words/{shared.id}", json={"version": 1, "active": False}),
        client.delete(f"/api/v1/words/{shared.id}"),
        client.put("/api/v1/words/settings", json={"fuzzy": False, "version": 0}),
        client.post("/words/add", data={"word": "theirs", "org_id": "globex"}),
        client.post("/words/remove", data={"id": str(shared.id), "version": "1"}),
        client.post("/words/settings", data={"fuzzy": "", "version": "0"}),
    ]
    unknown = [
        client.patch(f"/api/v1/words/{other.id}", json={"version": 1, "active": False}),
        client.delete(f"/api/v1/words/{other.id}"),
        client.post("/words/switch", data={"id": str(other.id), "version": "1"}, headers=HX),
    ]

    assert (added.status_code, added.json()["org_id"]) == (201, "acme")
    assert [each.status_code for each in refused] == [403] * 7
    assert [each.status_code for each in unknown] == [404] * 3
    assert (words.get(shared.id), words.get(other.id)) == (shared, other)


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_only_admins_change_words(visitor: Visitor, words: WordList, role: str) -> None:
    """
    Others read, try texts and export.
    """
    client = visitor(role=role)
    id = named(words, "falcon").id

    assert [
        client.post("/api/v1/words", json={"word": "x"}).status_code,
        client.patch(f"/api/v1/words/{id}", json={"version": 1, "active": False}).status_code,
        client.delete(f"/api/v1/words/{id}").status_code,
        client.put("/api/v1/words/settings", json={"fuzzy": False, "version": 0}).status_code,
        client.post("/api/v1/words/import", files={"file": ("w.csv", b"word\nx\n")}).status_code,
        client.post("/words/import", files={"file": ("w.csv", b"word\nx\n")}).status_code,
        client.post("/words/edit", data={"id": str(id), "version": "1", "word": "x"}).status_code,
    ] == [403] * 7
    assert client.post("/api/v1/words/check", json={"text": "x"}).status_code == 200
    assert len(words.list(everybody=True)) == 4


@pytest.mark.parametrize(
    ("text", "org", "verdict", "replaced", "places"),
    [
        pytest.param("a FALCON!", None, "replaced", "a a bird!", [(2, 8)], id="replaced"),
        pytest.param("the 獵鷹計劃 x", None, "blocked", None, [(4, 8)], id="a variant blocks"),
        pytest.param("猎 鹰 计 划", None, "blocked", None, [(0, 7)], id="spaces evade nothing"),
        pytest.param("acquisition", None, "clean", "acquisition", [], id="not acme's"),
        pytest.param("acquisition", "acme", "marked", "acquisition", [(0, 11)], id="acme's"),
        pytest.param("", None, "clean", "", [], id="nothing"),
    ],
)
def test_a_text_is_judged_as_a_prompt_is(
    visitor: Visitor,
    words: WordList,
    text: str,
    org: str | None,
    verdict: str,
    replaced: str | None,
    places: list[tuple[int, int]],
) -> None:
    """
    The verdict is that of the policy; offsets are those of the text as it was given.
    """
    found = visitor().post("/api/v1/words/check", json={"text": text, "org_id": org}).json()

    assert (found["verdict"], found["replaced"]) == (verdict, replaced)
    assert [(hit["start"], hit["end"]) for hit in found["hits"]] == places


def test_an_edit_holds_for_the_next_text(visitor: Visitor, words: WordList) -> None:
    """
    A word that another process has added is looked for at once.
    """
    client = visitor()
    before = client.post("/api/v1/words/check", json={"text": "fresh"}).json()["verdict"]
    words.add("fresh")

    after = client.post("/api/v1/words/check", json={"text": "fresh"}).json()["verdict"]

    assert (before, after) == ("clean", "blocked")


def test_a_confined_reader_tries_its_own_words(visitor: Visitor, words: WordList) -> None:
    """
    Its organisation's words apply, whatever it asks for; another one's are refused.
    """
    client = visitor(org_id="acme", role="viewer")

    own = client.post("/api/v1/words/check", json={"text": "acquisition globex-secret"})
    other = client.post("/api/v1/words/check", json={"text": "globex-secret", "org_id": "globex"})

    assert (own.json()["verdict"], own.json()["total"]) == ("marked", 1)
    assert other.status_code == 403


def test_the_tried_text_is_shown_as_text_and_stored_nowhere(
    visitor: Visitor, words: WordList, ledger: Ledger, tmp_path: Any
) -> None:
    """
    Markup stays text around the marks; no file of the ledger has it.
    """
    canary = "canary-7Qf93Bd81"
    text = f"{HOSTILE} falcon & {canary}"

    for headers in (HX, {}):
        page = visitor().post("/words/check", data={"text": text}, headers=headers)
        assert '<mark class="mark-replace" title="falcon: replace">falcon</mark>' in page.text
        assert "<script>alert" not in page.text
        assert page.headers["Cache-Control"] == "no-store"
    ledger.flush()
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert canary.encode() not in path.read_bytes(), path


def test_pieces_make_the_text_again() -> None:
    """
    Words that overlap are cut at each edge, and the strongest action is shown.
    """
    hits = [
        Hit(word_id=1, action="warn", start=2, end=8, replacement=None, org_id=None),
        Hit(word_id=2, action="block", start=4, end=6, replacement=None, org_id=None),
        Hit(word_id=3, action="replace", start=5, end=9, replacement="x", org_id=None),
    ]
    found = Found(verdict="blocked", hits=hits, total=3, replaced=None)

    pieces = trial.pieces("0123456789", found)

    assert [(each.text, each.action, each.words) for each in pieces] == [
        ("01", None, ()),
        ("23", "warn", (1,)),
        ("4", "block", (1, 2)),
        ("5", "block", (1, 2, 3)),
        ("67", "replace", (1, 3)),
        ("8", "replace", (3,)),
        ("9", None, ()),
    ]


CSV = "word,action,replacement\nfalcon,block,\n新词,replace,某\n.*x,block,\n"


def test_a_rehearsal_says_what_the_import_does(visitor: Visitor, words: WordList) -> None:
    """
    Lines have outcomes and reasons; nothing is written at first, and then what was said.
    """
    client = visitor()
    files = {"file": ("w.csv", CSV.encode(), "text/csv")}
    good = {"keep_good": "true"}

    tried = client.post("/api/v1/words/import", files=files, data=good).json()
    untouched = len(words.list(everybody=True))
    done = client.post(
        "/api/v1/words/import", files=files, data={**good, "dry_run": "false"}
    ).json()

    told = [(each["number"], each["outcome"]) for each in tried["lines"]]
    assert told == [(4, "refused"), (2, "updated"), (3, "added")]
    assert "regular expression" in tried["lines"][0]["reason"]
    assert untouched == 4
    for one in (tried, done):
        one.pop("dry_run")
    assert (tried.pop("written"), done.pop("written")) == (False, True)
    assert tried == done
    assert named(words, "falcon").action == "block"


def test_the_page_applies_the_rehearsed_file_alone(visitor: Visitor, words: WordList) -> None:
    """
    The button carries the digest of the file that was told of.
    """
    client = visitor()
    data = b"word\nfresh\n"
    files = {"file": ("w.txt", data, "text/plain")}

    rehearsed = client.post("/words/import", files=files, headers=HX)
    other = client.post("/words/import", files=files, data={"apply": "0" * 64}, headers=HX)
    untouched = len(words.list(everybody=True))
    applied = client.post(
        "/words/import", files=files, data={"apply": sha256(data).hexdigest()}, headers=HX
    )

    assert sha256(data).hexdigest() in rehearsed.text
    assert (other.status_code, untouched) == (422, 4)
    assert applied.status_code == 200
    assert named(words, "fresh").active


def test_a_confined_import_stays_at_home(visitor: Visitor, words: WordList) -> None:
    """
    Lines that name another organisation are refused; the others are the reader's own.
    """
    client = visitor(org_id="acme")
    data = b"word,org_id\nmine,\nalso,acme\ntheirs,globex\n"

    report = client.post(
        "/api/v1/words/import",
        files={"file": ("w.csv", data)},
        data={"dry_run": "false", "keep_good": "true"},
    ).json()

    assert (report["added"], report["refused"]) == (2, 1)
    assert {
        each.org_id for each in words.list(everybody=True) if each.word in ("mine", "also")
    } == {"acme"}
    assert "theirs" not in [each.word for each in words.list(everybody=True)]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        pytest.param("w.xlsx", b"PK\x03\x04 no workbook", id="no workbook"),
        pytest.param("w.exe", b"word\nx\n", id="another kind"),
        pytest.param("../../w.csv\x00", b"word\nx\n", id="a name that leads elsewhere"),
        pytest.param("w.csv", b"\xff\xfe\x00", id="no UTF-8"),
        pytest.param("w.csv", b"nothing\n1\n", id="no column of words"),
        pytest.param("w.csv", b"", id="empty"),
    ],
)
def test_files_that_cannot_be_read(
    visitor: Visitor, words: WordList, name: str, data: bytes
) -> None:
    """
    They are refused with a reason, and nothing is written.
    """
    answer = visitor().post(
        "/api/v1/words/import", files={"file": (name, data)}, data={"dry_run": "false"}
    )

    assert answer.status_code == 422, answer.text
    assert "/tmp" not in answer.text
    assert len(words.list(everybody=True)) == 4


def test_an_export_is_imported_as_the_same(visitor: Visitor, words: WordList) -> None:
    """
    Formulas are harmless in the file, and words are what they were when it is read again.
    """
    for text in ('=cmd|"/c calc"!A1', "'=1+1", "＝1+1", "-1+1 x"):  # noqa: RUF001
        words.add(text, literal=True)
    client = visitor()

    data = client.get("/words/export").content
    lines = client.get("/api/v1/words/export?format=jsonl").text.splitlines()
    # Formulas look like expressions to nobody, but what does is not in this list.
    report = client.post("/api/v1/words/import", files={"file": ("w.csv", data)}).json()

    for line in data.decode("utf-8-sig").splitlines():
        assert line.lstrip('"')[:1] not in tuple("=+-@＝"), line  # noqa: RUF001
    assert (report["unchanged"], report["added"], report["refused"]) == (8, 0, 0)
    assert [json.loads(each)["word"] for each in lines] == [
        each.word for each in words.list(everybody=True)
    ]


def test_settings(visitor: Visitor, words: WordList) -> None:
    """
    Fuzzy matching is switched for all, by the version that was seen, and back again.
    """
    client = visitor(name="ada")
    version = client.get("/api/v1/words/settings").json()["version"]

    off = client.put("/api/v1/words/settings", json={"fuzzy": False, "version": version})
    stale = client.put("/api/v1/words/settings", json={"fuzzy": True, "version": version})
    told = visitor(org_id="acme").get("/api/v1/words/settings").json()

    assert (off.json()["fuzzy"], off.json()["updated_by"]) == (False, "ada")
    assert stale.status_code == 409
    assert (told["fuzzy"], told["updated_by"]) == (False, None)
    assert words.settings().fuzzy is False


def test_without_the_extra(
    visitor: Visitor, words: WordList, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The page says what to install; the list and the other pages work.
    """
    for name in ("ahocorasick_rs", "opencc", "pypinyin"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    client = visitor()

    tried = client.post("/api/v1/words/check", json={"text": "falcon"})

    assert (tried.status_code, "ai-ledger[words]" in tried.text) == (501, True)
    for path in ("/words", "/words?view=try", "/words?view=file"):
        page = client.get(path)
        assert (page.status_code, "ai-ledger[words]" in page.text) == (200, True)
    assert client.post("/api/v1/words", json={"word": "fresh"}).status_code == 201
    assert client.get("/settings").status_code == 200


@pytest.mark.parametrize("language", ["en", "zh"])
def test_both_languages_and_hostile_words(visitor: Visitor, words: WordList, language: str) -> None:
    """
    Pages are in the reader's language; words with markup come out as text.
    """
    word = words.add(HOSTILE, note=HOSTILE, org_id=HOSTILE)
    words.edit(word.id, note=f"{HOSTILE} again")
    client = visitor()
    client.cookies.set("ai_ledger_language", language)

    for path in ("/words", f"/words/{word.id}", "/words?q=<script>alert(1)</script>&after=x"):
        page = client.get(path)
        assert page.status_code == 200
        assert HOSTILE not in page.text
        assert ("操作" in page.text) == (language == "zh")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/v1/words/9223372036854775807", None),
        ("GET", "/api/v1/words/99999999999999999999", None),
        ("GET", "/words/99999999999999999999999", None),
        ("GET", "/api/v1/words?after=-1", None),
        ("GET", "/api/v1/words?limit=1000000000", None),
        ("GET", "/api/v1/words?contains=%00%25&org_id=%00", None),
        ("GET", "/words?after=99999999999999999999&q=%00&org=%00", None),
        ("POST", "/api/v1/words", {"word": "\x00"}),
        ("POST", "/api/v1/words", {"word": "x", "org_id": "\x00", "note": "\x00"}),
        ("POST", "/api/v1/words", {"word": "(a+)+$"}),
        ("POST", "/api/v1/words/check", {"text": "\x00\u202e"}),
        ("POST", "/api/v1/words/check", {"text": "x" * 100_001}),
        ("PUT", "/api/v1/words/settings", {"fuzzy": True, "version": 10**30}),
    ],
)
def test_nothing_sent_breaks_it(
    visitor: Visitor, words: WordList, method: str, path: str, body: Any
) -> None:
    """
    Odd values are answered with a documented status, never with 500.
    """
    answer = visitor().request(method, path, json=body)

    assert answer.status_code in (200, 201, 404, 409, 422), answer.text


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_on_servers(kind: str, tmp_path: Any) -> None:
    """
    The same API works on each database.
    """
    with fresh_database(kind) as url:
        upgrade(url)
        with Ledger(url, journal=tmp_path / "journal") as ledger:
            who = Access(name="ada", role="admin", org_id="acme")
            app = create_app(ledger, auth=lambda request: who)
            headers = {"Sec-Fetch-Site": "same-origin"}
            WordList(ledger).add("shared", action="replace")
            WordList(ledger).add("theirs", org_id="globex")
            with TestClient(app, base_url="http://127.0.0.1", headers=headers) as client:
                client.post("/api/v1/words", json={"word": "own"})
                listed = client.get("/api/v1/words?limit=1").json()
                check = client.post("/api/v1/words/check", json={"text": "shared theirs"}).json()
                files = {"file": ("w.csv", b"word,action\nown,warn\nmore,block\n")}
                done = client.post(
                    "/api/v1/words/import", files=files, data={"dry_run": "false"}
                ).json()
                page = client.get("/words?q=o")
            app.state.house.close()
        close_databases()

    assert ([each["word"] for each in listed["words"]], listed["total"]) == (["own"], 2)
    assert (check["verdict"], check["replaced"]) == ("replaced", "*** theirs")
    assert (done["updated"], done["added"]) == (1, 1)
    assert (page.status_code, "own" in page.text, "globex" in page.text) == (200, True, False)
