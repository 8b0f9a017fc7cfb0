"""`Sessions`: a browser that has shown a token once, and has a cookie since."""

from __future__ import annotations

import hmac
import secrets
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from ai_ledger.access.access import Access
from ai_ledger.access.tokens import hash_of
from ai_ledger.records import utc_now
from ai_ledger.sinks.sql.shared import database_url_of, shared_database

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

    from ai_ledger.database.engine import Database

LASTS: Final = timedelta(hours=12)
_LONGEST: Final = 128


class Sessions:
    """
    The sessions of browsers in a ledger's database. Threads may share one.

    A session is worth what its token is worth at that moment: nothing once that was
    revoked or has expired. Of cookies, as of tokens, only the SHA-256 is kept.

    Args:
        where: A `Ledger` with an SQL store, or the URL of one.
        clock: Says what time it is; aware.

    Raises:
        ConfigurationError: There is no SQL store.
    """

    def __init__(self, where: object, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._url: Final = database_url_of(where)
        self._clock: Final = clock

    def open(self, token_id: int) -> str:
        """Begin a session of the bearer of a token, for `LASTS`; the text of its cookie."""
        import sqlalchemy as sa

        from ai_ledger.database.tables.console import console_sessions

        text = secrets.token_urlsafe(32)
        now = self._clock()

        def work(connection: Connection) -> None:
            # Those that are over go whenever one begins, so that there are never many.
            connection.execute(
                sa.delete(console_sessions).where(console_sessions.c.expires_at <= now)
            )
            connection.execute(
                sa.insert(console_sessions).values(
                    hash=hash_of(text), token_id=token_id, created_at=now, expires_at=now + LASTS
                )
            )

        self._database.writing(work)
        return text

    def access_of(self, text: str) -> Access | None:
        """What whoever has this cookie may; ``None`` if the session or its token is over."""
        import sqlalchemy as sa

        from ai_ledger.database.tables.console import access_tokens, console_sessions

        if not text or len(text) > _LONGEST:
            return None
        digest, now = hash_of(text), self._clock()
        with self._database.reading() as connection:
            row = connection.execute(
                sa.select(
                    console_sessions.c.hash,
                    console_sessions.c.expires_at.label("over_at"),
                    access_tokens.c.id,
                    access_tokens.c.name,
                    access_tokens.c.role,
                    access_tokens.c.org_id,
                    access_tokens.c.prompts,
                    access_tokens.c.expires_at,
                    access_tokens.c.revoked_at,
                )
                .join(access_tokens, access_tokens.c.id == console_sessions.c.token_id)
                .where(console_sessions.c.hash == digest)
            ).one_or_none()
        if row is None or not hmac.compare_digest(row.hash, digest) or row.over_at <= now:
            return None
        if row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
            return None
        return Access(
            name=row.name,
            role=row.role,
            org_id=row.org_id,
            prompts=bool(row.prompts),
            token_id=row.id,
        )

    def close(self, text: str) -> None:
        """End a session; nothing if there is none."""
        import sqlalchemy as sa

        from ai_ledger.database.tables.console import console_sessions

        def work(connection: Connection) -> None:
            connection.execute(
                sa.delete(console_sessions).where(console_sessions.c.hash == hash_of(text))
            )

        self._database.writing(work)

    @property
    def _database(self) -> Database:
        return shared_database(self._url)
