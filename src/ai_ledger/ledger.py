"""The ledger: stamps the context, asks the policies, appends to the journal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import msgspec

from ai_ledger.answers import to_text
from ai_ledger.bounds import MAX_TEXT_BYTES, cut, label, storable
from ai_ledger.calls import ManualCall, OpenCall, content_part, status_of
from ai_ledger.context import Context, current_context
from ai_ledger.delivery import Delivery, Health
from ai_ledger.entries import checked_text, entry
from ai_ledger.errors import ConfigurationError, InvalidValue, SinkError
from ai_ledger.forks import Living
from ai_ledger.gatekeeper import Gatekeeper
from ai_ledger.incidents import Incidents
from ai_ledger.interruptions import passes, passing
from ai_ledger.locations import journal_folder, ledger_urls, sink_name
from ai_ledger.options import (
    check_bytes,
    check_choice,
    check_function,
    check_journal,
    check_seconds,
    context_fields,
    policies_of,
    prices_of,
    sinks_of,
)
from ai_ledger.policy import Policy
from ai_ledger.pricing import PriceTable
from ai_ledger.pricing.stored import ledger_prices
from ai_ledger.query import Query
from ai_ledger.records import (
    CallRecord,
    Status,
    new_id,
    utc_now,
)
from ai_ledger.redaction import FAILED, Redactor
from ai_ledger.secrets import scrub_known
from ai_ledger.sinks import Sink, Store, open_sink
from ai_ledger.sinks.scan import forgotten, matches
from ai_ledger.tokens import counted

if TYPE_CHECKING:
    from ai_ledger.pricing import RepriceReport
    from ai_ledger.stats import Stats


class Ledger:
    """
    Where calls go on the books. One for each database and process is enough.

    Opening a ledger connects to nothing: records go to a journal on this
    machine, and one background thread delivers them from there.

    Args:
        url: Where to, as `open_sink` reads it; several as a sequence. Left out:
            ``AI_LEDGER_URL`` (several separated by spaces), else
            ``sqlite:///ai_ledger.db``.
        sinks: Sinks of your own, beside or instead of *url*.
        prices: What tokens cost: a table, or what `PriceTable.load` reads; the shipped
            table and list prices otherwise.
        content: ``"full"`` stores prompts and answers, ``"none"`` neither.
        redact: Takes each prompt and answer, gives back what may be stored. Runs
            before anything touches a disk. If it fails, ``[redaction failed]`` is stored.
        redact_timeout: Seconds that one call waits for *redact* at the most.
        max_text_bytes: Longer prompts and answers are cut, with a mark.
        policies: Asked before each call, told after it.
        require: Context fields that every call should have.
        on_missing: ``"warn"`` logs when one is missing, once for each
            combination; ``"raise"`` refuses the call with `ContextMissing`.
        journal: Folder for the journal. Left out: beside the SQLite file or
            inside the JSON Lines folder, else in the user's state folder.
            ``False``: none; records wait in memory and die with the process.
        fsync: When the journal is forced to the disk, which only matters when the
            machine loses power: each ``"second"``, in the background; ``"always"``,
            before the call returns; or ``"never"``.
        on_full: When journal and memory are full: ``"drop"`` records but keep
            their sums, or ``"block"`` the caller until there is room.
        exit_timeout: Seconds that the end of the program waits for delivery at
            the most. What is left then stays in the journal.

    Raises:
        ConfigurationError: No sink has this URL's scheme, or an option cannot be;
            names the option. `PriceError` when *prices* cannot be read.
        MissingExtra: The URL's packages are not installed.
    """

    def __init__(
        self,
        url: str | Sequence[str] | None = None,
        *,
        sinks: Iterable[Sink] = (),
        prices: PriceTable | Path | str | Mapping[str, Any] | None = None,
        content: Literal["full", "none"] = "full",
        redact: Callable[[str], str] | None = None,
        redact_timeout: float = 1.0,
        max_text_bytes: int = MAX_TEXT_BYTES,
        policies: Iterable[Policy] = (),
        require: Iterable[str] = (),
        on_missing: Literal["warn", "raise"] = "warn",
        journal: Path | str | Literal[False] | None = None,
        fsync: Literal["never", "second", "always"] = "second",
        on_full: Literal["drop", "block"] = "drop",
        exit_timeout: float = 3.0,
    ) -> None:
        check_choice("content", content, ("full", "none"))
        check_choice("on_missing", on_missing, ("warn", "raise"))
        check_choice("fsync", fsync, ("never", "second", "always"))
        check_choice("on_full", on_full, ("drop", "block"))
        check_function("redact", redact)
        check_seconds("redact_timeout", redact_timeout)
        check_seconds("exit_timeout", exit_timeout)
        check_bytes("max_text_bytes", max_text_bytes)
        check_journal(journal)
        own = sinks_of(sinks)
        self.urls: Final = ledger_urls(url, others=bool(own))
        table = prices_of(prices)
        self.policies: Final = policies_of(policies)
        self.require: Final = context_fields(require)
        # Last, since others may have to be closed.
        self.sinks: Final = (*sinks_of(map(open_sink, self.urls)), *own)
        """All sinks, those of *url* first."""
        self._markers: Final[tuple[Callable[[], Mapping[str, str] | None], ...]] = tuple(
            sink.marks for sink in cast("tuple[Any, ...]", self.sinks) if hasattr(sink, "marks")
        )
        self.prices: Final = ledger_prices(table, self.sinks)
        """What calls are priced by: the catalogue of the first SQL store, then *prices*."""
        self.on_missing: Final = on_missing
        self._keeps_content: Final = content == "full" and redact is None
        self._content: Final = content
        self._max_text_bytes: Final = max_text_bytes
        self._incidents: Final = Incidents()
        self._redactor = (
            Redactor(redact, timeout=redact_timeout, incidents=self._incidents)
            if redact is not None
            else None
        )
        self._open: dict[str, OpenCall] = {}
        self._gatekeeper: Final = Gatekeeper(
            self,
            require=self.require,
            refuses=on_missing == "raise",
            keep_request=self._keep_request,
        )
        self._delivery: Final = Delivery(
            self.sinks,
            folder=journal_folder(journal, self.urls, self.sinks),
            prepare=self._prepare,
            fsync=fsync,
            on_full=on_full,
            exit_timeout=exit_timeout,
        )
        self._delivery.before_exit(self._finish_open_calls)
        _living.add(self)
        for policy in self.policies:
            self._gatekeeper.bind(policy)

    # Recording

    def open_call(
        self,
        *,
        operation: str,
        provider: str | None,
        server_address: str | None,
        request_model: str | None,
        streamed: bool = False,
        request: Mapping[str, Any] | None = None,
        context: Context,
        secrets: tuple[str, ...] = (),
        policies: tuple[Policy, ...] = (),
        started: float | None = None,
        ask: bool = True,
    ) -> OpenCall:
        """
        Begin a call, which `admit` or `aadmit` has to follow.

        Args:
            operation: What kind of call.
            provider: Who will answer, unless the context names someone.
            server_address: Host that is called.
            request_model: Model asked for.
            streamed: Whether the answer comes in pieces.
            request: The body to be sent.
            context: Who is calling and why, merged from all that is known.
            secrets: Credentials in use, taken out of every text.
            policies: Asked after the ledger's own.
            started: When the call began, by `time.perf_counter`; now, if left out.
            ask: False for a call that was made before it was noticed.

        Raises:
            ContextMissing: Required context is missing. The refused call is on the books.
        """
        begun = CallRecord(
            id=new_id(),
            started_at=utc_now() if started is None else _moment_of(started),
            status="unfinished",
            operation=context.operation or operation,
            provider=context.provider or provider,
            server_address=server_address,
            request_model=None if request_model is None else label(request_model),
            streamed=streamed,
            org_id=context.org_id,
            user_id=context.user_id,
            device_id=context.device_id,
            session_id=context.session_id,
            function=context.function,
            business_type=context.business_type,
            reference_id=context.reference_id,
            tags=self._marked(context.tags) if self._markers else context.tags,
        )
        call = OpenCall(self, begun, request, secrets)
        self._keep_request(call)
        self._open[begun.id] = call
        if started is not None:
            call.started = started
        if ask and self.require:
            self._gatekeeper.check_context(call)
        if ask and (self.policies or policies):
            call.policies = (*self.policies, *policies)
        return call

    def _marked(self, tags: dict[str, str]) -> dict[str, str]:
        """*tags* with what sinks want to know of here and now when they get the record."""
        handled = sys.exception()
        for marks in self._markers:
            try:
                made = marks()
                if made:
                    tags = {**tags, **self._gatekeeper.own_marks(made)}
            except Exception as problem:  # noqa: BLE001  # the boundary around a sink
                raised = passing(problem, handled)
                if raised is not None:
                    raise raised from None  # nothing was sent yet
                self.note("a sink's marks could not be made", problem)
        return tags

    def _keep_request(self, call: OpenCall) -> None:
        if call.request is None or self._content != "full":
            return
        part = content_part(call.request)
        if part is not None:
            call.request_content = self.content_of(to_text(part), call.secrets)

    def admit(self, call: OpenCall) -> None:
        """
        Ask the policies of a call, then write its first line.

        Raises:
            CallRefused: A policy refused. The refused call is on the books.
        """
        if call.policies:
            self._gatekeeper.ask(call)
        self._begin(call)

    async def aadmit(self, call: OpenCall) -> None:
        """`admit` for coroutines: a policy that has to wait holds nobody else up."""
        if call.policies:
            await self._gatekeeper.aask(call)
        self._begin(call)

    def _begin(self, call: OpenCall) -> None:
        try:
            self._delivery.begin(call.begun)
        except BaseException as problem:
            if passes(problem):
                # It is not sent, and what policies hold for it comes back.
                self.end_call(call, status_of(problem), problem)
            raise

    def end_call(
        self,
        call: OpenCall,
        status: Status,
        error: BaseException | None = None,
        *,
        cost: tuple[Decimal, str] | None = None,
    ) -> None:
        """
        Put *call* on the books, the first time this is said.

        Never raises, but what the program raises by a signal meanwhile; after that.
        """
        raised: list[BaseException] = []
        handled: BaseException | None = None
        try:
            # Whoever takes it out of the dictionary ends it: atomic, without a lock. That
            # is no function, after which a handler could run before the block begins.
            del self._open[call.begun.id]
        except KeyError:
            return
        try:
            handled = sys.exception()
            record = _with_cost(call.outcome(status, error), cost)
            if call.policies:
                record = self._gatekeeper.review(call, record, raised)
        except BaseException as problem:  # noqa: BLE001  # the boundary around bookkeeping
            self._broke(problem, handled, raised)
            record = self._bare_outcome(call, status, error, cost)
        if call.forgotten:
            record = forgotten(record)
        call.ledgered = record
        try:
            self._delivery.end(record)
        except BaseException as problem:  # noqa: BLE001  # of the program
            raised.append(problem)
            self._delivery.end(record)  # twice is as good as once
        if call.admitted:
            self._gatekeeper.settle(call, record, raised)
        if raised:
            raise raised[0]

    def _bare_outcome(
        self,
        call: OpenCall,
        status: Status,
        error: BaseException | None,
        cost: tuple[Decimal, str] | None,
    ) -> CallRecord:
        """What was used and what it cost at least, when the text cannot be had."""
        try:
            return _with_cost(call.outcome(status, error, content=False), cost)
        except Exception:  # noqa: BLE001  # noted already
            return call.begun.replace(
                status=status, error_type=type(error).__name__ if error else None
            )

    def _broke(
        self,
        problem: BaseException,
        handled: BaseException | None,
        raised: list[BaseException],
    ) -> None:
        found = passing(problem, handled)
        if found is None:
            self.note("a call could not be read in full", problem)
        else:
            raised.append(found)

    def call(
        self, model: str, *, operation: str = "chat", provider: str | None = None, **context: Any
    ) -> ManualCall:
        """
        A call accounted for by hand::

            with ledger.call(model="my-model", user_id=7) as call:
                answer = whatever(...)
                call.set_usage(input_tokens=120, output_tokens=40)

        Args:
            model: The model asked for.
            operation: ``chat``, ``embeddings``, …
            provider: Who answers.
            context: As for `call_context`.

        Raises:
            InvalidValue: A context value of the wrong kind.
            CallRefused: A policy refused the call.
        """
        call = self.open_call(
            operation=operation,
            provider=provider,
            server_address=None,
            request_model=checked_text("model", model),
            context=current_context().merged(Context.of(context)),
        )
        self.admit(call)
        return ManualCall(call)

    def record(self, model: str | None = None, **fields: Any) -> CallRecord:
        """
        Put a call that is already over on the books; see `record_ai_usage`.

        Raises:
            InvalidValue: A value that no record can hold; names the field.
        """
        record = entry({"model": model, **fields}, self.content_of)
        if self._markers:
            record = record.replace(tags=self._marked(record.tags))
        self._delivery.end(record)
        return record

    def content_of(self, text: str, secrets: tuple[str, ...] = ()) -> str | None:
        """*text* as it may be stored: redacted, without *secrets*, bounded. ``None`` for "none"."""
        if self._content == "none":
            return None
        if self._redactor is not None:
            text = self._redactor(text)
        if text is not FAILED:
            text = cut(scrub_known(storable(text), secrets), self._max_text_bytes)
        return text

    @property
    def keeps_content(self) -> bool:
        """Whether texts reach the journal as they are, so that they can be counted there."""
        return self._keeps_content

    def note(self, reason: str, error: BaseException | None = None) -> None:
        """Count something that went wrong inside the ledger; logged once for each reason."""
        self._incidents.note(reason, error)

    # The delivery thread

    def _prepare(self, record: CallRecord) -> CallRecord:
        """Count what nobody reported, then price. Runs in the delivery thread."""
        if record.usage_source == "estimated" and record.input_tokens is None:
            record = counted(record)
        return self.prices.priced(record)

    def _finish_open_calls(self) -> None:
        # A stream that somebody still holds when the program ends was abandoned.
        for call in list(self._open.values()):
            if call.begun.streamed:
                call.finish("cancelled")

    def after_fork_in_child(self) -> None:
        """Begin anew: calls in flight belong to the parent process, which will end them."""
        self._open = {}
        self._incidents.after_fork_in_child()
        if self._redactor is not None:
            self._redactor.after_fork_in_child()

    # Asking

    @property
    def store(self) -> Store:
        """
        The first sink that can be asked.

        Raises:
            ConfigurationError: None of them can.
        """
        for sink in self.sinks:
            if isinstance(sink, Store):
                return sink
        raise ConfigurationError(
            "none of this ledger's sinks can be asked: add sqlite:, postgresql:, mysql:, "
            "jsonl: or memory:"
        )

    @property
    def stats(self) -> Stats:
        """Reports over what has been delivered; `flush` first to include the last second."""
        from ai_ledger.stats import Stats

        return Stats(self.store)

    def reprice(
        self, *, since: datetime | None = None, until: datetime | None = None, dry_run: bool = True
    ) -> RepriceReport:
        """
        Price the calls of a time again with the present prices, unpriced ones included.

        Costs that the provider stated stay. Doing it twice changes nothing more.

        Args:
            since: Aware; left out, from the first call on.
            until: Aware; left out, to the last.
            dry_run: Only say what would change.
        """
        from ai_ledger.pricing import reprice

        if not dry_run:
            # What is still on its way is priced by the same table when it arrives.
            self.flush(5.0)
        return reprice(
            self.store,
            self.prices,
            scope=None,
            since=since,
            until=until,
            dry_run=dry_run,
            now=utc_now(),
        )

    def forget(self, **who: Any) -> int:
        """
        Erase content and identity of someone's calls everywhere, the journal included.

        Counts, tokens and costs stay, so totals do not change. Calls in flight are
        kept without it when they end. What waits in the journals of *other*
        processes that are alive comes to the store later: forget again after that.

        Args:
            who: Which calls, as in `Query`: ``user_id="u-42"``, ``session_id=…``.

        Returns:
            How many calls were erased from the stores.

        Raises:
            InvalidValue: Nothing was named, or an unknown field.
            SinkError: A store or the journal could not be rewritten; try again.
        """
        for value in who.values() or (None,):
            several = isinstance(value, (list, tuple, set, frozenset))
            values = tuple(cast("Iterable[Any]", value)) if several else (value,)
            if not values or None in values:
                raise InvalidValue("who", who, "at least one field with a value, such as user_id=…")
        query = Query.build(scope=None, where=who)
        for call in list(self._open.values()):
            if matches(query, call.begun):
                call.forgotten = True
        self.flush(5.0)
        journal_problem: SinkError | None = None
        try:
            self._delivery.forget(lambda record: matches(query, record), forgotten)
        except SinkError as problem:
            journal_problem = problem  # the stores come first
        erased = sum(sink.forget(query) for sink in self.sinks if isinstance(sink, Store))
        if journal_problem is not None:
            raise journal_problem
        return erased

    # Life

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until every sink has every record; false when *timeout* seconds were too few."""
        return self._delivery.flush(timeout)

    async def aflush(self, timeout: float | None = None) -> bool:
        """`flush` for coroutines."""
        return await self._delivery.aflush(timeout)

    def health(self) -> Health:
        """What waits, what was dropped and why, and how the sinks are."""
        return msgspec.structs.replace(self._delivery.health(), incidents=self._incidents.counts())

    def close(self, timeout: float | None = None) -> bool:
        """Flush and close the sinks; the same answer as `flush`. Calls made later still journal."""
        return self._delivery.close(timeout)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Ledger({', '.join(sink_name(sink) for sink in self.sinks)})"


_living: Final[Living[Ledger]] = Living()


def living_ledgers() -> list[Ledger]:
    """All ledgers of this process."""
    return list(_living)


def _with_cost(record: CallRecord, cost: tuple[Decimal, str] | None) -> CallRecord:
    if cost is None:
        return record
    return record.replace(cost=cost[0], currency=cost[1], price_id="provider")


def _moment_of(started: float) -> datetime:
    return utc_now() - timedelta(seconds=time.perf_counter() - started)
