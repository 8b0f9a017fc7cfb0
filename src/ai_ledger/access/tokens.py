"""`AccessTokens`: the tokens with which people and programs come into the console."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import msgspec

from ai_ledger.access.access import Access, Role
from ai_ledger.bounds import MAX_LABEL_CHARS, label
from ai_ledger.errors import AILedgerError, InvalidValue, NotFound
from ai_ledger.records import utc_now
from ai_ledger.sinks.sql.shared import database_url_of, shared_database
from ai_ledger.validation import MAX_LISTED, is_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

    from ai_ledger.database.engine import Database

PREFIX: Final = "ail_"
_LONGEST: Final = 128
USED_EVERY: Final = timedelta(hours=1)
"""How exactly it is known when a token was last used."""
RETRY_S: Final = 60.0
"""How long no use is written down after the store would not take one."""


class AccessToken(msgspec.Struct, frozen=True, kw_only=True):
    """
    A token as it is kept: everything but its text.

    Args:
        id: Never given again.
        name: Whose it is, as edits are signed.
        hint: The last characters of its text, to tell tokens apart.
        role: As `Access.role`.
        org_id: The only organisation that is seen; ``None`` for all.
        prompts: Whether prompts and answers are shown.
        created_at: Aware, UTC.
        created_by: Who made it; ``None`` when nobody said.
        expires_at: From when on it is worth nothing; ``None`` for never.
        last_used_at: Exact to an hour; ``None`` for never.
        revoked_at: ``None`` as long as it was not.
    """

    id: int
    name: str
    hint: str
    role: Role
    org_id: str | None
    prompts: bool
    created_at: datetime
    created_by: str | None
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None

    def state(self, now: datetime) -> Literal["active", "expired", "revoked"]:
        """What it is worth at this moment."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"

    @property
    def access(self) -> Access:
        """What its bearer may see and do."""
        return Access(
            name=self.name,
            role=self.role,
            org_id=self.org_id,
            prompts=self.prompts,
            token_id=self.id,
        )


class AccessTokens:
    """
    The access tokens in a ledger's database. Threads may share one.

    A text is shown once, when its token is made, and only its SHA-256 is kept: it is
    256 bits from the system's source of randomness, so there is nothing that a slow
    hash would keep from being guessed.

    Args:
        where: A `Ledger` with an SQL store, or the URL of one.
        clock: Says what time it is; aware.

    Raises:
        ConfigurationError: There is no SQL store.
    """

    def __init__(self, where: object, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._url: Final = database_url_of(where)
        self._clock: Final = clock
        self._noting: Final = threading.Lock()
        self._not_before = time.monotonic()

    def add(
        self,
        name: str,
        *,
        role: Role = "viewer",
        org_id: str | None = None,
        prompts: bool = False,
        expires_at: datetime | None = None,
        by: str | None = None,
    ) -> tuple[str, AccessToken]:
        """
        Make a token.

        Args:
            name: Whose it is; one line.
            role: What they may do.
            org_id: The only organisation that they see; ``None`` for all.
            prompts: Whether they see prompts and answers.
            expires_at: From when on it is worth nothing; aware, in the future.
            by: Who says so; the user of this process, if left out.

        Returns:
            Its text, which nobody can tell later, and the token.

        Raises:
            InvalidValue: One of these cannot be so.
        """
        import sqlalchemy as sa

        from ai_ledger.database.changes import editor, note_change
        from ai_ledger.database.tables.console import access_tokens

        now = self._clock()
        access = Access(name=_name(name), role=role, org_id=_org(org_id), prompts=prompts)
        if expires_at is not None and (expires_at.tzinfo is None or expires_at <= now):
            raise InvalidValue("expires_at", expires_at, "a moment in the future, with its zone")
        who = editor(by)
        text = PREFIX + secrets.token_urlsafe(32)
        row: dict[str, Any] = {
            "name": access.name,
            "hint": text[-4:],
            "role": access.role,
            "org_id": access.org_id,
            "prompts": bool(prompts),
            "created_at": now,
            "created_by": who,
            "expires_at": expires_at,
        }

        def work(connection: Connection) -> int:
            made = connection.execute(sa.insert(access_tokens).values(**row, hash=hash_of(text)))
            id = cast("int", cast("Any", made).inserted_primary_key[0])
            note_change(
                connection, "access_token", str(id), before=None, after=_plain(row), by=who, at=now
            )
            return id

        return text, self.get(self._database.writing(work))

    def list(self) -> list[AccessToken]:
        """All tokens, the newest first, at most `MAX_LISTED`; those that are worth nothing, too."""
        import sqlalchemy as sa

        from ai_ledger.database.tables.console import access_tokens

        with self._database.reading() as connection:
            rows = connection.execute(
                sa.select(access_tokens).order_by(access_tokens.c.id.desc()).limit(MAX_LISTED)
            )
            return [_token(row) for row in rows]

    def get(self, id: int) -> AccessToken:
        """
        One token.

        Raises:
            NotFound: There is none of this id.
        """
        with self._database.reading() as connection:
            return _get(connection, id)

    def revoke(self, id: int, *, by: str | None = None) -> AccessToken:
        """
        Make a token worth nothing, for good, and end its sessions. Harmless when repeated.

        Args:
            id: Which.
            by: Who says so; the user of this process, if left out.

        Raises:
            NotFound: There is none of this id.
        """
        import sqlalchemy as sa

        from ai_ledger.database.changes import editor, note_change
        from ai_ledger.database.tables.console import access_tokens, console_sessions

        who = editor(by)
        now = self._clock()

        def work(connection: Connection) -> None:
            token = _get(connection, id)
            done = connection.execute(
                sa.update(access_tokens)
                .where(access_tokens.c.id == id, access_tokens.c.revoked_at.is_(None))
                .values(revoked_at=now)
            )
            connection.execute(sa.delete(console_sessions).where(console_sessions.c.token_id == id))
            if done.rowcount:
                before = _plain(msgspec.structs.asdict(token))
                note_change(
                    connection, "access_token", str(id), before=before, after=None, by=who, at=now
                )

        self._database.writing(work)
        return self.get(id)

    def find(self, text: str) -> Access | None:
        """What the bearer of *text* may; ``None`` if no living token has it."""
        import sqlalchemy as sa

        from ai_ledger.database.tables.console import access_tokens

        if not text.startswith(PREFIX) or len(text) > _LONGEST:
            return None
        digest = hash_of(text)
        with self._database.reading() as connection:
            row = connection.execute(
                sa.select(access_tokens).where(access_tokens.c.hash == digest)
            ).one_or_none()
        # The index has compared them already, in a time that tells something of a hash
        # and nothing of a text; this is for collations that take one letter for another.
        if row is None or not hmac.compare_digest(row.hash, digest):
            return None
        token = _token(row)
        now = self._clock()
        if token.state(now) != "active":
            return None
        if token.last_used_at is None or now - token.last_used_at >= USED_EVERY:
            self._note_use(token.id, now)
        return token.access

    def any(self) -> bool:
        """
        Whether there is a token that was not revoked.

        One that has expired counts: a door that was closed opens by nobody's doing else.
        """
        import sqlalchemy as sa

        from ai_ledger.database.tables.console import access_tokens

        with self._database.reading() as connection:
            found = connection.execute(
                sa.select(access_tokens.c.id).where(access_tokens.c.revoked_at.is_(None)).limit(1)
            )
            return found.first() is not None

    @property
    def _database(self) -> Database:
        return shared_database(self._url)

    def _note_use(self, id: int, now: datetime) -> None:
        import sqlalchemy as sa

        from ai_ledger.database.tables.console import access_tokens

        def work(connection: Connection) -> None:
            connection.execute(
                sa.update(access_tokens).where(access_tokens.c.id == id).values(last_used_at=now)
            )

        # Nobody is kept out because this could not be written down, nor waits in a queue
        # for it: who comes in next is noted then.
        if time.monotonic() < self._not_before or not self._noting.acquire(blocking=False):
            return
        try:
            self._database.writing(work)
        except AILedgerError:
            self._not_before = time.monotonic() + RETRY_S
        finally:
            self._noting.release()


def hash_of(text: str) -> str:
    """What is kept of a token's or a cookie's *text*."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _name(name: object) -> str:
    # It stands in log lines, headers and beside every edit, so it is one line of letters.
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise InvalidValue("name", name, "a name in one line, without control characters")
    if len(name.strip()) > MAX_LABEL_CHARS:
        raise InvalidValue("name", name, f"at most {MAX_LABEL_CHARS} characters")
    return name.strip()


def _org(org_id: object) -> str | None:
    if org_id is not None and (not isinstance(org_id, str) or not org_id.strip()):
        # An empty text would be taken for no organisation where it is asked "is there one?".
        raise InvalidValue("org_id", org_id, "the id of an organisation, or None for all")
    return None if org_id is None else label(org_id)


def _get(connection: Connection, id: int) -> AccessToken:
    import sqlalchemy as sa

    from ai_ledger.database.tables.console import access_tokens

    if is_id(id):
        row = connection.execute(
            sa.select(access_tokens).where(access_tokens.c.id == id)
        ).one_or_none()
        if row is not None:
            return _token(row)
    raise NotFound(f"there is no access token {id}")


def _token(row: Any) -> AccessToken:
    return AccessToken(**{name: getattr(row, name) for name in AccessToken.__struct_fields__})


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """What the history keeps of a token: neither its text nor the hash of it."""
    return {name: row[name] for name in ("name", "hint", "role", "org_id", "prompts", "expires_at")}
