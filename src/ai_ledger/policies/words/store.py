"""The list of words in the database: read, edited, and its history."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import msgspec

from ai_ledger.bounds import label, storable
from ai_ledger.database.versions import require_version
from ai_ledger.errors import AlreadyThere, EditConflict, InvalidValue, NotFound
from ai_ledger.policies.words.rows import DRAFT_FIELDS, Action, Draft, Word, checked
from ai_ledger.records import utc_now
from ai_ledger.sinks.sql.shared import database_url_of, shared_database
from ai_ledger.validation import checked_limit, is_id

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Row
    from sqlalchemy.sql.elements import ColumnElement

    from ai_ledger.database.changes import Change
    from ai_ledger.database.engine import Database

T = TypeVar("T")

MAX_WORDS: Final = 200_000
_BATCH: Final = 1_000

on_change: Final[list[Callable[[str], None]]] = []
"""Called with the database's URL after each edit that this process makes."""


class _Unchanged(Exception):
    """Undoes an edit that changes nothing."""

    def __init__(self, result: Any) -> None:
        self.result = result
        super().__init__()


class WordSettings(msgspec.Struct, frozen=True, kw_only=True):
    """
    How the filter is set, for all processes.

    Args:
        fuzzy: Whether fuzzy words match more than exact ones do.
        updated_at: When it was last changed; ``None`` for never.
        updated_by: Who changed it.
        version: Counts edits.
    """

    fuzzy: bool = True
    updated_at: datetime | None = None
    updated_by: str | None = None
    version: int = 0


class WordList:
    """
    The words of a database. Threads may share it; nothing is connected to before it is asked.

    Args:
        where: A URL of a database, an SQL sink or a ledger with one.

    Raises:
        ConfigurationError: There is no SQL store.
    """

    def __init__(self, where: object) -> None:
        self.url: Final = database_url_of(where)

    @property
    def database(self) -> Database:
        """The database, opened when it is first asked for."""
        return shared_database(self.url)

    # Reading

    def get(self, id: int) -> Word:
        """
        One word.

        Raises:
            NotFound: There is none of this id.
        """
        with self.database.reading() as connection:
            return _get(connection, id)

    def list(
        self,
        *,
        org_id: str | None = None,
        everybody: bool = False,
        orgs: Iterable[str | None] | None = None,
        contains: str | None = None,
        active: bool | None = None,
        action: Action | None = None,
        after: int = 0,
        newest: bool = False,
        limit: int | None = None,
    ) -> list[Word]:
        """
        Words, by id.

        Args:
            org_id: Those of this organisation alone; ``None`` for the global ones.
            everybody: Those of all organisations and the global ones.
            orgs: Those of several organisations, ``None`` being the global ones.
            contains: Only those that have this text in them; SQLite takes a for A there.
            active: Only active ones, or only the others.
            action: Only those that do this.
            after: Only ids behind this, in the order asked for; 0 from the beginning on.
            newest: The highest id first.
            limit: At most so many, up to `MAX_WORDS`; left out, all.

        Raises:
            InvalidValue: *limit* or *after* is no whole number that can be.
        """
        import sqlalchemy as sa

        from ai_ledger.database.tables.words import words

        if type(after) is not int or (after and not is_id(after)):
            raise InvalidValue("after", after, "the id of a word, or 0")
        wanted = None if everybody else (org_id,) if orgs is None else tuple(orgs)
        statement = sa.select(words).where(*_conditions(wanted, contains, active, action))
        if newest:
            statement = statement.order_by(words.c.id.desc())
            if after:
                statement = statement.where(words.c.id < after)
        else:
            statement = statement.order_by(words.c.id).where(words.c.id > after)
        if limit is not None:
            statement = statement.limit(checked_limit(limit, MAX_WORDS))
        with self.database.reading() as connection:
            return [_word(row) for row in connection.execute(statement)]

    def count(
        self,
        *,
        orgs: Iterable[str | None] | None = None,
        contains: str | None = None,
        active: bool | None = None,
        action: Action | None = None,
    ) -> int:
        """How many words there are, as for `list`; of all organisations if *orgs* is left out."""
        import sqlalchemy as sa

        from ai_ledger.database.tables.words import words

        wanted = None if orgs is None else tuple(orgs)
        conditions = _conditions(wanted, contains, active, action)
        with self.database.reading() as connection:
            counted = connection.execute(
                sa.select(sa.func.count()).select_from(words).where(*conditions)
            ).scalar_one()
            return int(counted)

    def settings(self) -> WordSettings:
        """How the filter is set."""
        with self.database.reading() as connection:
            return _settings(connection)[1]

    def history(self, id: int, *, limit: int = 100) -> list[Change]:
        """The edits of one word, newest first; also of one that was removed."""
        from ai_ledger.database.changes import changes_of

        with self.database.reading() as connection:
            return changes_of(connection, "word", str(id), limit=limit)

    def generation(self) -> int:
        """A number that each edit raises."""
        with self.database.reading() as connection:
            return _settings(connection)[0]

    def load(self) -> tuple[int, WordSettings, list[Word]]:
        """Generation, settings and all active words, as they were at one moment."""
        import sqlalchemy as sa

        from ai_ledger.database.tables.words import words

        with self.database.reading() as connection:
            generation, settings = _settings(connection)
            rows = connection.execute(sa.select(words).where(words.c.active == sa.true()))
            return generation, settings, [_word(row) for row in rows]

    # Editing

    def add(
        self, word: str, *, by: str | None = None, literal: bool = False, **fields: Any
    ) -> Word:
        """
        Add a word.

        Args:
            word: What to look for.
            by: Who says so; the user of this process, if left out.
            literal: Take what looks like a regular expression for the word that it is.
            fields: As in `Word`: ``action``, ``match``, ``replacement``, ``org_id``,
                ``variants``, ``active``, ``note``.

        Raises:
            InvalidValue: A value that cannot be; names the field.
            AlreadyThere: The organisation, or the global list, has this word.
        """
        draft = checked({"word": word, **fields}, literal=literal)
        who = _by(by)
        return self._edited(lambda connection: _add(connection, draft, who))

    def edit(
        self,
        id: int,
        *,
        version: int | None = None,
        by: str | None = None,
        literal: bool = False,
        **fields: Any,
    ) -> Word:
        """
        Change a word; what is not named stays.

        Args:
            id: Which.
            version: The one that was seen when the edit was thought of; ``None`` for any.
            by: As for `add`.
            literal: As for `add`.
            fields: As for `add`, and ``word``.

        Raises:
            InvalidValue: A value that cannot be; names the field.
            NotFound: There is no such word.
            AlreadyThere: It would be a word that is there already.
            EditConflict: Somebody has changed it meanwhile.
        """
        who = _by(by)

        def work(connection: Connection) -> Word:
            before = _seen(connection, id, version)
            said = {name: getattr(before, name) for name in DRAFT_FIELDS} | fields
            if fields.get("action", "replace") != "replace" and "replacement" not in fields:
                said["replacement"] = None
            # A word that was taken literally when it was added still is.
            draft = checked(said, literal=literal or "word" not in fields)
            after = _change(connection, before, draft, who)
            if after is before:
                raise _Unchanged(before)
            return after

        return self._edited(work)

    def remove(
        self,
        id: int,
        *,
        version: int | None = None,
        by: str | None = None,
    ) -> Word:
        """
        Remove a word; its history stays, and its id is never given again.

        Raises:
            NotFound: There is no such word.
            EditConflict: Somebody has changed it meanwhile.
        """
        import sqlalchemy as sa

        from ai_ledger.database.changes import note_change
        from ai_ledger.database.tables.words import words

        who = _by(by)

        def work(connection: Connection) -> Word:
            before = _seen(connection, id, version)
            gone = connection.execute(
                sa.delete(words).where(words.c.id == id, words.c.version == before.version)
            )
            if not gone.rowcount:
                raise EditConflict(f"word {id} has been changed meanwhile: read it again")
            note_change(connection, "word", str(id), before=_plain(before), after=None, by=who)
            return before

        return self._edited(work)

    def set_fuzzy(
        self, fuzzy: bool, *, version: int | None = None, by: str | None = None
    ) -> WordSettings:
        """
        Switch fuzzy matching on or off, for every process.

        Raises:
            EditConflict: The settings are not those of *version* any more.
        """
        import sqlalchemy as sa

        from ai_ledger.database.changes import note_change
        from ai_ledger.database.tables.words import settings as table

        if not isinstance(cast("object", fuzzy), bool):
            raise InvalidValue("fuzzy", fuzzy, "True or False")
        who = _by(by)

        def work(connection: Connection) -> WordSettings:
            before = _settings(connection)[1]
            require_version(
                "the filter", version, before.version, before.updated_by, before.updated_at
            )
            if before.fuzzy == fuzzy:
                raise _Unchanged(before)
            after = WordSettings(
                fuzzy=fuzzy, updated_at=utc_now(), updated_by=who, version=before.version + 1
            )
            connection.execute(
                sa.update(table).where(table.c.id == 1).values(**msgspec.structs.asdict(after))
            )
            note_change(
                connection,
                "word_settings",
                "fuzzy",
                before={"fuzzy": before.fuzzy},
                after={"fuzzy": fuzzy},
                by=who,
            )
            return after

        return self._edited(work)

    def put(
        self,
        drafts: Sequence[Draft],
        *,
        by: str | None = None,
        rehearse: bool = False,
    ) -> list[str]:
        """
        Add or update many words in one transaction, for imports.

        Args:
            drafts: Each word of each organisation once.
            by: As for `add`.
            rehearse: Only say what would become of each.

        Returns:
            ``added``, ``updated`` or ``unchanged`` for each.
        """
        who = _by(by)
        if rehearse:
            with self.database.reading() as connection:
                return _compared(connection, drafts)[0]
        return self._edited(lambda connection: _put(connection, drafts, who))

    def _edited(self, work: Callable[[Connection], T]) -> T:
        def whole(connection: Connection) -> T:
            # First of all, so that edits wait for each other here and not half-way.
            _raise_generation(connection)
            return work(connection)

        try:
            done = self.database.writing(whole)
        except _Unchanged as unchanged:
            return unchanged.result
        for told in list(on_change):
            told(self.url)
        return done


def _by(by: object) -> str | None:
    from ai_ledger.database.changes import editor

    return editor(by)


def _conditions(
    orgs: Sequence[str | None] | None,
    contains: str | None,
    active: bool | None,
    action: Action | None,
) -> list[ColumnElement[bool]]:
    from ai_ledger.database.tables.words import words

    found: list[ColumnElement[bool]] = []
    if orgs is not None:
        found.append(words.c.org_id.in_([_stored_org(each) for each in orgs]))
    if contains:
        found.append(words.c.word.contains(storable(contains), autoescape=True))
    if active is not None:
        found.append(words.c.active == active)
    if action is not None:
        found.append(words.c.action == action)
    return found


def _stored_org(org_id: str | None) -> str:
    return "" if org_id is None else label(org_id)


def _word(row: Row[Any]) -> Word:
    fields: dict[str, Any] = {name: getattr(row, name) for name in Word.__struct_fields__}
    fields["org_id"] = fields["org_id"] or None
    return Word(**fields)


def _plain(word: Word | Draft) -> dict[str, Any]:
    return {name: getattr(word, name) for name in DRAFT_FIELDS}


def _get(connection: Connection, id: int) -> Word:
    import sqlalchemy as sa

    from ai_ledger.database.tables.words import words

    found = connection.execute(sa.select(words).where(words.c.id == id)) if is_id(id) else None
    row = None if found is None else found.one_or_none()
    if row is None:
        raise NotFound(f"there is no word {id}")
    return _word(row)


def _seen(connection: Connection, id: int, version: int | None) -> Word:
    word = _get(connection, id)
    require_version(f"word {id}", version, word.version, word.updated_by, word.updated_at)
    return word


def _settings(connection: Connection) -> tuple[int, WordSettings]:
    import sqlalchemy as sa

    from ai_ledger.database.tables.words import settings

    row = connection.execute(sa.select(settings).where(settings.c.id == 1)).one_or_none()
    if row is None:
        return 0, WordSettings()
    return row.generation, WordSettings(
        fuzzy=bool(row.fuzzy),
        updated_at=row.updated_at if row.version else None,
        updated_by=row.updated_by,
        version=row.version,
    )


def _raise_generation(connection: Connection) -> None:
    import sqlalchemy as sa
    from sqlalchemy.exc import IntegrityError

    from ai_ledger.database.engine import Again
    from ai_ledger.database.tables.words import settings

    raised = connection.execute(
        sa.update(settings).where(settings.c.id == 1).values(generation=settings.c.generation + 1)
    )
    if raised.rowcount:
        return
    try:
        connection.execute(
            sa.insert(settings).values(
                id=1, generation=1, fuzzy=True, updated_at=utc_now(), updated_by=None, version=0
            )
        )
    except IntegrityError:
        # Another process was the first; this transaction is spoilt.
        raise Again from None


def _values(draft: Draft) -> dict[str, Any]:
    return {**_plain(draft), "org_id": draft.org_id or ""}


def _add(connection: Connection, draft: Draft, by: str | None) -> Word:
    import sqlalchemy as sa

    from ai_ledger.database.changes import note_change
    from ai_ledger.database.tables.words import words

    now = utc_now()
    _refuse_twin(connection, draft, None)
    made = connection.execute(
        sa.insert(words).values(
            **_values(draft),
            created_at=now,
            created_by=by,
            updated_at=now,
            updated_by=by,
            version=1,
        )
    )
    key = made.inserted_primary_key
    assert key is not None
    note_change(connection, "word", str(key[0]), before=None, after=_plain(draft), by=by, at=now)
    return Word(
        id=key[0],
        created_at=now,
        created_by=by,
        updated_at=now,
        updated_by=by,
        version=1,
        **_plain(draft),
    )


def _change(connection: Connection, before: Word, draft: Draft, by: str | None) -> Word:
    import sqlalchemy as sa

    from ai_ledger.database.changes import note_change
    from ai_ledger.database.tables.words import words

    if _plain(before) == _plain(draft):
        return before
    if (before.word, before.org_id) != (draft.word, draft.org_id):
        _refuse_twin(connection, draft, before.id)
    now = utc_now()
    changed = connection.execute(
        sa.update(words)
        .where(words.c.id == before.id, words.c.version == before.version)
        .values(**_values(draft), updated_at=now, updated_by=by, version=before.version + 1)
    )
    if not changed.rowcount:
        raise EditConflict(f"word {before.id} has been changed meanwhile: read it again")
    note_change(
        connection,
        "word",
        str(before.id),
        before=_plain(before),
        after=_plain(draft),
        by=by,
        at=now,
    )
    return msgspec.structs.replace(
        before, **_plain(draft), updated_at=now, updated_by=by, version=before.version + 1
    )


def _refuse_twin(connection: Connection, draft: Draft, own: int | None) -> None:
    import sqlalchemy as sa

    from ai_ledger.database.tables.words import words

    twin = connection.execute(
        sa.select(words.c.id).where(
            words.c.org_id == (draft.org_id or ""), words.c.word == draft.word
        )
    ).scalar()
    if twin is not None and twin != own:
        whose = f"organisation {draft.org_id!r}" if draft.org_id else "the global list"
        raise AlreadyThere(f"{whose} has this word already: it is word {twin}")


def _compared(
    connection: Connection, drafts: Sequence[Draft]
) -> tuple[list[str], dict[tuple[str | None, str], Word]]:
    """What becomes of each draft, and the words that there are."""
    import sqlalchemy as sa

    from ai_ledger.database.tables.words import words

    known: dict[tuple[str | None, str], Word] = {}
    for orgs in _batches(sorted({draft.org_id or "" for draft in drafts})):
        rows = connection.execute(sa.select(words).where(words.c.org_id.in_(orgs)))
        known.update(((word.org_id, word.word), word) for word in map(_word, rows))
    results: list[str] = []
    for draft in drafts:
        before = known.get((draft.org_id, draft.word))
        results.append(
            "added"
            if before is None
            else "unchanged"
            if _plain(before) == _plain(draft)
            else "updated"
        )
    return results, known


def _put(connection: Connection, drafts: Sequence[Draft], by: str | None) -> list[str]:
    results, known = _compared(connection, drafts)
    if all(result == "unchanged" for result in results):
        raise _Unchanged(results)
    new: list[Draft] = []
    for draft, result in zip(drafts, results, strict=True):
        if result == "updated":
            _change(connection, known[draft.org_id, draft.word], draft, by)
        elif result == "added":
            new.append(draft)
    _add_many(connection, new, by)
    return results


def _add_many(connection: Connection, drafts: Sequence[Draft], by: str | None) -> None:
    import sqlalchemy as sa

    from ai_ledger.database.tables.changes import changes
    from ai_ledger.database.tables.words import words

    now = utc_now()
    who = {"created_at": now, "created_by": by, "updated_at": now, "updated_by": by, "version": 1}
    for batch in _batches(drafts):
        connection.execute(sa.insert(words), [{**_values(draft), **who} for draft in batch])
        orgs = sorted({draft.org_id or "" for draft in batch})
        ids = {
            (row.org_id, row.word): row.id
            for row in connection.execute(
                sa.select(words.c.id, words.c.org_id, words.c.word).where(
                    words.c.org_id.in_(orgs), words.c.word.in_([draft.word for draft in batch])
                )
            )
        }
        connection.execute(
            sa.insert(changes),
            [
                {
                    "changed_at": now,
                    "changed_by": by,
                    "kind": "word",
                    "key": str(ids[draft.org_id or "", draft.word]),
                    "before": None,
                    "after": msgspec.json.encode(_plain(draft), order="sorted").decode(),
                }
                for draft in batch
            ],
        )


def _batches(many: Sequence[T]) -> Iterable[Sequence[T]]:
    return (many[start : start + _BATCH] for start in range(0, len(many), _BATCH))
