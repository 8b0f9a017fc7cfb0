"""`Catalog`: providers and models as rows, read, edited, called and switched off."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast

from ai_ledger.catalog.checks import checked_model, checked_provider
from ai_ledger.catalog.entries import KINDS, Kind, ModelEntry, ProviderEntry
from ai_ledger.catalog.files import EntryChange, ImportReport, read_catalog, write_whole, written
from ai_ledger.catalog.guard import Guard, statuses_changed
from ai_ledger.catalog.trial import PURPOSE, Listener, TestResult, result_of, try_out
from ai_ledger.defaults import default_ledger, given_ledger
from ai_ledger.errors import InvalidValue
from ai_ledger.incidents import Incidents
from ai_ledger.ledger import Ledger
from ai_ledger.options import check_choice, wrong_option
from ai_ledger.pricing.stored import prices_changed
from ai_ledger.sinks.sql.shared import database_url_of, shared_database

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

    from ai_ledger.database.changes import Change
    from ai_ledger.database.engine import Database
    from ai_ledger.openai import AsyncOpenAI, OpenAI
    from ai_ledger.policy import Policy, Revision
    from ai_ledger.records import CallRecord

T = TypeVar("T")


class Catalog:
    """
    The providers and models in a ledger's database.

    Nothing is connected to before it is first used. Threads may share one. It is a
    policy, too: handed to ``Ledger(policies=[…])`` or to a client, it refuses calls to
    what is disabled or removed, within seconds of the edit and without asking the
    database for each call. Calls to what is not in the catalogue are none of its
    business. While the database is away, what was last known holds.

    Args:
        where: A `Ledger` with an SQL store, or the URL of one.
        on_unavailable: As a policy, while the database could not be read even once:
            ``"allow"`` calls, and mark their records with ``ai_ledger.catalog``:
            ``unchecked``; or ``"refuse"`` them with `ModelNotAllowed`.

    Raises:
        ConfigurationError: There is no SQL store, or no such choice.
    """

    reads_only: Final = True

    def __init__(
        self, where: Ledger | str, *, on_unavailable: Literal["allow", "refuse"] = "allow"
    ) -> None:
        check_choice("on_unavailable", on_unavailable, ("allow", "refuse"))
        if not isinstance(where, (Ledger, str)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise wrong_option("where", where, "a Ledger, or the URL of a database")
        self._url = database_url_of(where)
        self._ledger = where if isinstance(where, Ledger) else None
        self._incidents = Incidents()
        self._guard = Guard(self._database, self._note, on_unavailable)

    def __repr__(self) -> str:
        from ai_ledger.database.address import without_password

        return f"Catalog({without_password(self._url)!r})"

    # Reading

    def providers(self, *, deleted: bool = False) -> list[ProviderEntry]:
        """All providers in their order; those that were removed only if *deleted*."""
        return cast("list[ProviderEntry]", self._all("provider", deleted))

    def models(self, *, provider: str | None = None, deleted: bool = False) -> list[ModelEntry]:
        """
        All models by provider and name.

        Args:
            provider: Only this one's.
            deleted: Those that were removed, too.
        """
        found = cast("list[ModelEntry]", self._all("model", deleted))
        return [each for each in found if provider is None or each.provider == provider]

    def provider(self, name: str) -> ProviderEntry:
        """
        The provider of this name, also when it was removed.

        Raises:
            NotFound: There is none.
        """
        return cast("ProviderEntry", self._one("provider", name))

    def model(self, name: str) -> ModelEntry:
        """
        The model of this name, also when it was removed.

        Raises:
            NotFound: There is none.
        """
        return cast("ModelEntry", self._one("model", name))

    def default_provider(self) -> ProviderEntry | None:
        """The provider that is the default; ``None`` when none is."""
        return next((each for each in self.providers() if each.default), None)

    def history(self, kind: Kind, name: str, *, limit: int = 100) -> list[Change]:
        """
        Who changed an entry, when, and from what to what; newest first.

        Args:
            kind: ``provider`` or ``model``.
            name: Which.
            limit: How many edits, 1 to 1,000.

        Raises:
            InvalidValue: There is no such *kind*, or *limit* cannot be.
        """
        from ai_ledger.database.changes import changes_of

        if kind not in KINDS:
            raise InvalidValue("kind", kind, f"one of {', '.join(KINDS)}")
        if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidValue("name", name, "a text")
        with self._database().reading() as connection:
            return changes_of(connection, kind, name, limit=limit)

    # Editing

    def add_provider(self, name: str, *, by: str | None = None, **fields: Any) -> ProviderEntry:
        """
        Add a provider; one that was removed comes back with these fields.

        Args:
            name: Unique.
            by: Who says so; the user of this process, if left out.
            fields: Those of `ProviderEntry`.

        Raises:
            AlreadyThere: There is one of this name.
            InvalidValue: A field cannot be so; names it. A key in place of a reference.
        """
        return cast("ProviderEntry", self._add(checked_provider(name, fields), by))

    def add_model(
        self, name: str, *, provider: str, by: str | None = None, **fields: Any
    ) -> ModelEntry:
        """
        Add a model; one that was removed comes back with these fields.

        Args:
            name: Unique; what requests call it.
            provider: The name of its provider.
            by: Who says so; the user of this process, if left out.
            fields: Those of `ModelEntry`. ``prices`` are `Price` objects, or mappings
                with the keys of a price file without ``model`` and ``provider``.

        Raises:
            AlreadyThere: There is one of this name, or two prices overlap.
            InvalidValue: A field cannot be so; names it.
            PriceError: A price is wrong, or overlaps with another; names both.
        """
        return cast(
            "ModelEntry", self._add(checked_model(name, {"provider": provider, **fields}), by)
        )

    def edit_provider(
        self, name: str, *, version: int, by: str | None = None, **changes: Any
    ) -> ProviderEntry:
        """
        Change fields of a provider.

        Args:
            name: Which.
            version: That of the entry which the editor saw.
            by: Who says so; the user of this process, if left out.
            changes: Fields of `ProviderEntry`, each whole.

        Raises:
            NotFound: There is none.
            EditConflict: Somebody else has changed it since.
            InvalidValue: A field cannot be so.
        """
        return cast("ProviderEntry", self._edit("provider", name, changes, version, by))

    def edit_model(
        self, name: str, *, version: int, by: str | None = None, **changes: Any
    ) -> ModelEntry:
        """
        Change fields of a model; as `edit_provider`.

        A further price is ``prices=[*model.prices, {…}]``.
        """
        return cast("ModelEntry", self._edit("model", name, changes, version, by))

    def enable_provider(
        self, name: str, *, by: str | None = None, version: int | None = None
    ) -> ProviderEntry:
        """
        Let calls to this provider's models through, also after it was removed.

        Args:
            name: Which.
            by: Who says so; the user of this process, if left out.
            version: That of the entry which the editor saw; any, if left out. So for
                the other switches.

        Raises:
            NotFound: There is none.
            EditConflict: Somebody else has changed it since.
        """
        return cast("ProviderEntry", self._switch("provider", name, "enabled", by, version))

    def disable_provider(
        self, name: str, *, by: str | None = None, version: int | None = None
    ) -> ProviderEntry:
        """Refuse calls to this provider and its models from now on."""
        return cast("ProviderEntry", self._switch("provider", name, "disabled", by, version))

    def remove_provider(
        self, name: str, *, by: str | None = None, version: int | None = None
    ) -> ProviderEntry:
        """Mark a provider as deleted: it is no longer listed, and calls to it are refused."""
        return cast("ProviderEntry", self._switch("provider", name, "deleted", by, version))

    def enable_model(
        self, name: str, *, by: str | None = None, version: int | None = None
    ) -> ModelEntry:
        """Let calls to this model through, also after it was removed."""
        return cast("ModelEntry", self._switch("model", name, "enabled", by, version))

    def disable_model(
        self, name: str, *, by: str | None = None, version: int | None = None
    ) -> ModelEntry:
        """Refuse calls to this model from now on. Its prices stay."""
        return cast("ModelEntry", self._switch("model", name, "disabled", by, version))

    def remove_model(
        self, name: str, *, by: str | None = None, version: int | None = None
    ) -> ModelEntry:
        """Mark a model as deleted: no longer listed, calls refused, its prices out of use."""
        return cast("ModelEntry", self._switch("model", name, "deleted", by, version))

    # Files

    def import_toml(
        self, path: Path | str, *, dry_run: bool = False, by: str | None = None
    ) -> ImportReport:
        """
        Make the entries of a file what it says, all or none. What is not in it stays.

        Args:
            path: As `export_toml` writes it.
            dry_run: Only say what would change.
            by: Who says so; the user of this process, if left out.

        Raises:
            ConfigurationError: The file cannot be read.
            InvalidValue: An entry is wrong; names it and the field. `PriceError`,
                `AlreadyThere`: as for `add_model`.
        """
        from ai_ledger.database.changes import editor

        entries = read_catalog(path)
        who = editor(by)

        class Rehearsed(Exception):
            """Undoes what was only tried."""

        report: list[ImportReport] = []

        def work(connection: Connection) -> None:
            report[:] = [_import(connection, entries, who, dry_run)]
            if dry_run:
                raise Rehearsed

        with suppress(Rehearsed):
            self._write(work)
        return report[0]

    def export_toml(self, path: Path | str | None = None, *, models: bool = True) -> str:
        """
        The catalogue as TOML, without what was removed; `import_toml` reads it as the same.

        Args:
            path: Written to this file, which is replaced; left out, to none.
            models: False for the providers alone.

        Returns:
            The text.
        """
        entries: list[ProviderEntry | ModelEntry] = [*self.providers()]
        if models:
            entries += self.models()
        text = written(entries)
        if path is not None:
            write_whole(Path(path), text)
        return text

    # Calling

    def client(
        self,
        name: str,
        *,
        ledger: Ledger | None = None,
        policies: Iterable[Policy] = (),
        **context: Any,
    ) -> OpenAI:
        """
        The SDK's client for a model, tracked and ready to call.

        It has the model's URL and time-out, the key that its provider's settings refer to,
        read at this moment, and says the model's parameters where a call of this model
        leaves them out. Calls are refused while the model or its provider is switched off.

        Args:
            name: The model's.
            ledger: Where calls go; else the ledger that the catalogue was opened with or
                is a policy of, else the default one.
            policies: Asked after the ledger's own.
            context: As for `TrackedClient`.

        Raises:
            NotFound: There is no such model.
            ConfigurationError: It has no URL, a variable is not set, or the model's
                ``api_type`` is ``other``.
            MissingExtra: The openai SDK is not installed.
        """
        return self._client(name, False, ledger, policies, context)

    def aclient(
        self,
        name: str,
        *,
        ledger: Ledger | None = None,
        policies: Iterable[Policy] = (),
        **context: Any,
    ) -> AsyncOpenAI:
        """`client`, for coroutines: an ``AsyncOpenAI``."""
        return self._client(name, True, ledger, policies, context)

    def test(
        self, name: str, *, operation: str = "chat", ledger: Ledger | None = None
    ) -> TestResult:
        """
        Make one small real call to a model, and say what came back. It is on the books.

        Args:
            name: The model's.
            operation: ``chat`` or ``embeddings``.
            ledger: As for `client`.

        Raises:
            NotFound: There is no such model.
            ConfigurationError: As for `client`, or there is no such *operation*.
        """
        books = given_ledger(ledger) or self._ledger or default_ledger()
        model = self.model(name)
        listener = Listener()
        client: Any = self._client(name, False, books, (listener,), {"business_type": PURPOSE})
        begun = time.perf_counter()
        try:
            error = try_out(client, model, operation)
        finally:
            client.close()
        record = listener.record
        if record is not None:
            record = books.prices.priced(record)
        return result_of(model, client, record, error, begun)

    # The policy

    def bind(self, ledger: Ledger) -> None:
        """The ledger that this catalogue is a policy of."""
        if self._ledger is None:
            self._ledger = ledger

    def check(self, call: CallRecord, request: Mapping[str, Any] | None) -> Revision | None:
        """
        Refuse *call* if its model or its provider is disabled or deleted.

        Raises:
            ModelNotAllowed: Says which.
        """
        return self._guard.check(call)

    async def acheck(self, call: CallRecord, request: Mapping[str, Any] | None) -> Revision | None:
        """`check` for coroutines."""
        if not self._guard.must_wait():
            return self._guard.decide(call)
        from anyio.to_thread import run_sync

        return await run_sync(self._guard.check, call)

    def settle(self, record: CallRecord) -> None:
        """Nothing to learn from how calls end."""

    # Inside

    def _database(self) -> Database:
        return shared_database(self._url)

    def _note(self, reason: str, error: BaseException) -> None:
        if self._ledger is not None:
            self._ledger.note(reason, error)
        else:
            self._incidents.note(reason, error)

    def _all(self, kind: Kind, deleted: bool) -> Sequence[ProviderEntry | ModelEntry]:
        from ai_ledger.catalog.rows import read_all

        with self._database().reading() as connection:
            return read_all(connection, kind, deleted=deleted)

    def _one(self, kind: Kind, name: str) -> ProviderEntry | ModelEntry:
        from ai_ledger.catalog.rows import found

        with self._database().reading() as connection:
            return found(connection, kind, name)

    def _write(self, work: Callable[[Connection], T]) -> T:
        from ai_ledger.catalog.rows import take_turn

        def in_turn(connection: Connection) -> T:
            take_turn(connection)
            return work(connection)

        result = self._database().writing(in_turn)
        statuses_changed()
        prices_changed()
        return result

    def _add(self, entry: ProviderEntry | ModelEntry, by: str | None) -> Any:
        from ai_ledger.catalog.rows import add
        from ai_ledger.database.changes import editor

        who = editor(by)
        return self._write(lambda connection: add(connection, entry, who))

    def _edit(
        self, kind: Kind, name: str, changes: Mapping[str, Any], version: int | None, by: str | None
    ) -> Any:
        from ai_ledger.catalog.rows import edit
        from ai_ledger.database.changes import editor

        if version is not None and type(version) is not int:
            raise InvalidValue("version", version, "the version of the entry that was seen")
        who = editor(by)
        return self._write(
            lambda connection: edit(connection, kind, name, changes, version=version, by=who)
        )

    def _switch(
        self, kind: Kind, name: str, status: str, by: str | None, version: int | None
    ) -> Any:
        # What was removed is the default no longer.
        given_up = {"default": False} if kind == "provider" and status == "deleted" else {}
        return self._edit(kind, name, {"status": status, **given_up}, version, by)

    def _client(
        self,
        name: str,
        asynchronous: bool,
        ledger: Ledger | None,
        policies: Iterable[Policy],
        context: Mapping[str, Any],
    ) -> Any:
        from ai_ledger.catalog.clients import make_client
        from ai_ledger.catalog.rows import found

        with self._database().reading() as connection:
            model = cast("ModelEntry", found(connection, "model", name))
            provider = cast("ProviderEntry", found(connection, "provider", model.provider))
        return make_client(
            model,
            provider,
            asynchronous=asynchronous,
            ledger=given_ledger(ledger) or self._ledger,
            policies=(*policies, self),
            context=context,
        )


def _import(
    connection: Connection, entries: Sequence[ProviderEntry | ModelEntry], by: str | None, dry: bool
) -> ImportReport:
    from ai_ledger.catalog.rows import kind_of, read, save

    added: list[EntryChange] = []
    changed: list[EntryChange] = []
    unchanged = 0
    for entry in entries:
        kind = kind_of(entry)
        before = read(connection, kind, entry.name, lock=True)
        save(connection, before, entry, by)
        if before is None:
            added.append(EntryChange(kind=kind, name=entry.name, fields=()))
            continue
        old, new = before.fields(), entry.fields()
        different = tuple(field for field in new if new[field] != old[field])
        if different:
            changed.append(EntryChange(kind=kind, name=entry.name, fields=different))
        else:
            unchanged += 1
    return ImportReport(
        dry_run=dry, added=tuple(added), changed=tuple(changed), unchanged=unchanged
    )
