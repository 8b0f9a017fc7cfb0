"""Words as a policy: found before a call is sent, and in what comes back."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from ai_ledger.errors import CallRefused, ConfigurationError, ContentBlocked, WordsUnavailable
from ai_ledger.forks import Living
from ai_ledger.incidents import Incidents
from ai_ledger.options import check_choice, check_seconds
from ai_ledger.policies.words.findings import (
    Findings,
    TooMany,
    findings_in,
    hits_in,
    mark_of,
    replaced_texts,
    rules_of,
)
from ai_ledger.policies.words.folding import Folded
from ai_ledger.policies.words.matcher import MAX_HITS, Hit, Matcher
from ai_ledger.policies.words.places import Place, in_json, places_of, with_texts
from ai_ledger.policies.words.rows import Word
from ai_ledger.policies.words.store import WordList, on_change
from ai_ledger.policies.words.stream import WordStream
from ai_ledger.policy import MARK_PREFIX, Revision
from ai_ledger.refreshed import Reading, Refreshed

if TYPE_CHECKING:
    from ai_ledger.ledger import Ledger
    from ai_ledger.records import CallRecord

MARK: Final = f"{MARK_PREFIX}words"
REPLACED_MARK: Final = f"{MARK_PREFIX}words_replaced"
ANSWER_MARK: Final = f"{MARK_PREFIX}words_in_answer"
POLL_S: Final = 2.0
FIRST_WAIT_S: Final = 10.0


class _Lists(msgspec.Struct, frozen=True):
    """What was loaded: one matcher for all, and one of each organisation that has words."""

    generation: int
    everybody: Matcher
    of: Mapping[str, Matcher]

    def for_org(self, org_id: str | None) -> list[Matcher]:
        own = self.of.get(org_id) if org_id is not None else None
        return [each for each in (own, self.everybody) if each is not None and each.size]


class Words:
    """
    Blocks, replaces or marks words in prompts. Hand it to ``Ledger(policies=[…])``.

    The list is in the database, see `rows`, and one for all who use that database. Each
    process keeps its own copy ready and asks every two seconds, in the background,
    whether it has changed; edits that this process makes apply at once. When the
    database is away, the last copy stays in use.

    A call is looked through for the global words and those of its organisation,
    never for another one's.

    Threads and ledgers may share one object.

    Args:
        where: A URL of a database, an SQL sink, or a ledger with one. Left out: that of the
            ledger which the policy is handed to.
        answers: Look through answers as well; the record of an answer that has words is
            marked with them.
        on_unavailable: What becomes of a call when no list could be loaded yet, or the
            filter fails: ``"refuse"`` it with `WordsUnavailable`, or ``"allow"`` it.
            Either is counted and logged once.

    Raises:
        ConfigurationError: An option that cannot be, or *where* has no SQL store.
    """

    reads_only: Final = True

    def __init__(
        self,
        where: object = None,
        *,
        answers: bool = False,
        on_unavailable: Literal["refuse", "allow"] = "refuse",
        poll_s: float = POLL_S,
    ) -> None:
        check_choice("on_unavailable", on_unavailable, ("refuse", "allow"))
        check_seconds("poll_s", poll_s)
        self.answers: Final = answers
        self.on_unavailable: Final = on_unavailable
        self._rows = None if where is None else WordList(where)
        self._incidents = Incidents()
        self._ledgers: weakref.WeakSet[Ledger] = weakref.WeakSet()
        self._list: Refreshed[_Lists] = Refreshed(
            self._read, self._unread, name="ai-ledger-words", refresh_s=poll_s, retry_s=poll_s
        )
        # The one that is waited for while there is no list.
        self._first: Reading | None = None
        _living.add(self)

    @property
    def rows(self) -> WordList:
        """
        The list itself, to be read and edited.

        Raises:
            ConfigurationError: Nobody has said where it is.
        """
        if self._rows is None:
            raise ConfigurationError("Words(where=…): name a database, or hand it to a ledger")
        return self._rows

    # The policy

    def bind(self, ledger: Ledger) -> None:
        """Know the ledger, and begin to load the list in the background."""
        if self._rows is None:
            self._rows = WordList(ledger)
        self._ledgers.add(ledger)
        self._first = self._first or self._list.soon()

    def check(self, call: CallRecord, request: Mapping[str, Any] | None) -> Revision | None:
        """
        Look through *request* for the words that apply to *call*.

        Raises:
            ContentBlocked: One of them blocks.
            WordsUnavailable: No list could be loaded, or the filter failed.
        """
        return self._checked(call, request, self._matchers)

    async def acheck(self, call: CallRecord, request: Mapping[str, Any] | None) -> Revision | None:
        """`check` for coroutines: nobody waits while the list is loaded."""
        if request and self._list.current() is None:
            await asyncio.to_thread(self._await_list)
        # Not `check`: by now there may be another edit, and the loop reads no database.
        return self._checked(call, request, self._matchers_at_hand)

    def _checked(
        self,
        call: CallRecord,
        request: Mapping[str, Any] | None,
        matchers_for: Callable[[str | None], list[Matcher]],
    ) -> Revision | None:
        if not request:
            return None
        try:
            matchers = matchers_for(call.org_id)
            return _revised(request, matchers) if matchers else None
        except WordsUnavailable as problem:
            if self.on_unavailable == "allow":
                self._note("a call was let through without a list of words", problem)
                return None
            raise
        except CallRefused:
            raise
        except Exception as problem:  # noqa: BLE001 - whatever it is, the gate has a rule for it
            return self._unavailable(problem)

    def review(self, record: CallRecord, answer: str | None) -> dict[str, str] | None:
        """
        Mark *record* with the words in its *answer*, by the list that is there.

        Raises:
            WordsUnavailable: There is none yet.
        """
        if not self.answers or not answer:
            return None
        # A finalizer may have ended the call, in the middle of anything: nothing is waited for.
        found = findings_in(self._matchers_at_hand(record.org_id), answer)
        return {ANSWER_MARK: mark_of(found.rules())} if found else None

    def settle(self, record: CallRecord) -> None:
        """Nothing has to be settled."""

    # For programs that act themselves

    def find(self, text: str, org_id: str | None = None) -> Findings:
        """
        All words in *text*, with offsets in it as it is.

        Args:
            text: Any text.
            org_id: Whose words apply beside the global ones.

        Raises:
            WordsUnavailable: No list could be loaded.
        """
        return findings_in(self._matchers(org_id), text)

    def replaced(self, text: str, org_id: str | None = None) -> str:
        """
        *text* without the words that are to be replaced, however often that takes.

        Raises:
            ContentBlocked: It has more than 10,000 of them.
            WordsUnavailable: No list could be loaded.
        """
        try:
            return replaced_texts(self._matchers(org_id), [text])[0][0]
        except TooMany as many:
            raise ContentBlocked(many.rules) from None

    def stream(self, org_id: str | None = None) -> WordStream:
        """
        Look through a text that comes in pieces; see `WordStream`.

        Raises:
            WordsUnavailable: No list could be loaded.
        """
        return WordStream(self._matchers(org_id))

    # The list

    @property
    def generation(self) -> int | None:
        """The edit up to which the list in use is; ``None`` before any was loaded."""
        lists = self._list.last
        return None if lists is None else lists.generation

    def incidents(self) -> dict[str, int]:
        """What went wrong, and how often."""
        return self._incidents.counts()

    def reload(self) -> None:
        """
        Load the list now, in this thread.

        Raises:
            SinkUnavailable: The database is away; the list of before stays in use.
            SchemaError: Its tables are not those of this version.
        """
        self._list.read()

    def _read(self, before: _Lists | None) -> _Lists:
        if before is not None and self.rows.generation() == before.generation:
            return before
        generation, settings, words = self.rows.load()
        shared: list[Word] = []
        own: dict[str, list[Word]] = {}
        for word in words:
            (shared if word.org_id is None else own.setdefault(word.org_id, [])).append(word)
        return _Lists(
            generation,
            Matcher(shared, fuzzy=settings.fuzzy),
            {org: Matcher(each, fuzzy=settings.fuzzy) for org, each in own.items()},
        )

    def _unread(self, problem: Exception) -> None:
        self._note("the list of words could not be read", problem)

    def _matchers(self, org_id: str | None) -> list[Matcher]:
        """Those that apply, of a list with all edits of this process; waits for it."""
        lists = self._list.current()
        if lists is not None:
            return lists.for_org(org_id)
        self._await_list()
        return self._matchers_at_hand(org_id)

    def _matchers_at_hand(self, org_id: str | None) -> list[Matcher]:
        """Those that apply, of the list that is there: waits for nothing, reads nothing."""
        lists = self._list.current()
        if lists is None:
            self._list.soon()
            lists = self._list.last
        if lists is None:
            raise WordsUnavailable(
                "the list of words could not be loaded: see the log, and whether the "
                "database is there; Words(on_unavailable='allow') lets calls pass meanwhile"
            )
        return lists.for_org(org_id)

    def _await_list(self) -> None:
        if self._list.last is None:
            self._first = self._first or self._list.soon()
            if self._first is not None:
                self._first.wait(FIRST_WAIT_S)
        if self._list.last is not None:
            try:
                # A database that is away is not asked by every call.
                self._list.catch_up()
            except Exception as problem:  # noqa: BLE001 - the list of before stays in use
                self._note("the list of words could not be read again", problem)

    def _unavailable(self, problem: Exception) -> None:
        self._note("the word filter failed", problem)
        if self.on_unavailable == "allow":
            return
        raise WordsUnavailable(
            f"the word filter failed ({type(problem).__name__}), and is set to refuse then"
        ) from None

    def _note(self, reason: str, problem: Exception) -> None:
        # Not what it says: that may quote a prompt.
        self._incidents.note(reason, problem, quote=False)
        for ledger in list(self._ledgers):
            ledger.note(f"{reason}: {type(problem).__name__}")

    def edited(self, url: str) -> None:
        """This process has edited the list at *url*."""
        if self._rows is not None and self._rows.url == url:
            self._list.edited()

    def after_fork_in_child(self) -> None:
        """Keep the list, and leave the parent's thread and locks alone."""
        self._incidents.after_fork_in_child()
        self._list.after_fork_in_child()
        self._first = None


def _revised(request: Mapping[str, Any], matchers: list[Matcher]) -> Revision | None:
    places = places_of(request)
    if not places:
        return None
    joined = frozenset(index for index, place in enumerate(places) if place.goes_on)
    folded = Folded([place.text for place in places], joined=joined)
    hits = hits_in(matchers, folded, until_blocked=True)
    if not hits:
        return None
    blocked = rules_of(hit.word.id for hit in hits if hit.word.action == "block")
    if blocked:
        raise ContentBlocked(blocked)
    marks: dict[str, str] = {}
    warned = rules_of(hit.word.id for hit in hits if hit.word.action == "warn")
    if warned:
        marks[MARK] = mark_of(warned)
    replaced = rules_of(hit.word.id for hit in hits if hit.word.action == "replace")
    if not replaced:
        if len(hits) >= MAX_HITS and any(matcher.acts["replace"] for matcher in matchers):
            raise ContentBlocked(warned)
        return Revision(marks=marks)
    marks[REPLACED_MARK] = mark_of(replaced)
    return Revision(
        request=_replaced(request, matchers, places, joined, (folded, hits)), marks=marks
    )


def _replaced(
    request: Mapping[str, Any],
    matchers: list[Matcher],
    places: list[Place],
    joined: frozenset[int],
    known: tuple[Folded, list[Hit]],
) -> dict[str, Any]:
    texts = [place.text for place in places]
    try:
        changed, after = replaced_texts(
            matchers,
            texts,
            joined=joined,
            written=lambda index, text: in_json(text) if places[index].is_json else text,
            known=known,
        )
    except TooMany as many:
        raise ContentBlocked(many.rules) from None
    # What a replacement has made out of the text around it may be a word that blocks.
    blocked = rules_of(hit.word.id for hit in after if hit.word.action == "block")
    if blocked:
        raise ContentBlocked(blocked)
    return with_texts(
        request,
        {
            place.path: new
            for place, old, new in zip(places, texts, changed, strict=True)
            if new != old
        },
    )


_living: Final[Living[Words]] = Living()


def _edited(url: str) -> None:
    for words in _living:
        words.edited(url)


on_change.append(_edited)
