"""A text that comes in pieces: the same verdict as on the whole, however it was cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ai_ledger.errors import ContentBlocked
from ai_ledger.policies.words.findings import (
    Finding,
    Findings,
    chosen,
    edited,
    finding,
    hits_in,
    rules_of,
)
from ai_ledger.policies.words.folding import (
    BEFORE,
    JOIN,
    JOINERS,
    RUNNING,
    SEPARATORS,
    Folded,
    fold,
)
from ai_ledger.policies.words.matcher import Matcher
from ai_ledger.policies.words.rows import STARS


class WordStream:
    """
    Looks for words in a text that comes in pieces. Made by ``words.stream()``::

        stream = words.stream()
        for piece in pieces:
            show(stream.feed(piece))
        show(stream.finish())

    As much is held back as the longest word has letters, and whatever stands between
    those. What a replacement makes of the text around it is not looked at again.

    Args:
        matchers: Those that apply.
    """

    def __init__(self, matchers: Sequence[Matcher]) -> None:
        self._matchers: Final = matchers
        # A letter more tells where a word ends; one more, whether one goes on behind a hyphen.
        self._hold = max((each.longest for each in matchers), default=0) + 2
        self._repeats = any(each.repeats for each in matchers)
        self._held = ""
        self._offset = 0
        self._before = ""
        self._pieces: list[str] = []
        self._waiting = 0
        self._found: list[Finding] = []

    @property
    def findings(self) -> Findings:
        """What was found so far, by offsets in the whole text."""
        return Findings(self._found)

    def feed(self, piece: str) -> str:
        """
        Take the next *piece*; the text that can be shown now, words to be replaced replaced.

        Raises:
            ContentBlocked: There is a word that blocks; what was held back is not for showing.
        """
        self._pieces.append(piece)
        self._waiting += len(piece)
        # What is held is looked at again only when enough has come, so that a letter at a
        # time does not take the square of the time.
        if self._waiting * 16 < len(self._held) or not self._matchers:
            return self._all() if not self._matchers else ""
        return self._advance(end=False)

    def finish(self) -> str:
        """
        The rest of the text, once there are no more pieces.

        Raises:
            ContentBlocked: There is a word that blocks in it.
        """
        return self._advance(end=True) if self._matchers else self._all()

    def _all(self) -> str:
        text = "".join((self._held, *self._pieces))
        self._held, self._pieces, self._waiting = "", [], 0
        return text

    def _advance(self, *, end: bool) -> str:
        text = self._held = self._all()
        folded = Folded([text], before=self._before)
        cut = len(text) if end else self._cut(folded)
        spans = [
            (hit, *folded.spans(hit.begin, hit.end)[0][1:])
            for hit in hits_in(self._matchers, folded)
        ]
        if not end:
            # No word is cut in two, and none that is still open is decided.
            for _, start, after in sorted(spans, key=lambda each: -each[2]):
                if start < cut < after:
                    cut = start
        done = [each for each in spans if each[1] < cut]
        self._found += [finding(hit.word, start, after, self._offset) for hit, start, after in done]
        blocked = rules_of(hit.word.id for hit, _, _ in done if hit.word.action == "block")
        if blocked:
            raise ContentBlocked(blocked)
        kept = set(map(id, chosen(hit for hit, _, _ in done)))
        shown = edited(
            text[:cut],
            (
                (start, after, STARS if hit.word.replacement is None else hit.word.replacement)
                for hit, start, after in done
                if id(hit) in kept
            ),
        )
        self._leave(text, cut)
        return shown

    def _cut(self, folded: Folded) -> int:
        """Up to where everything is known: so many letters before the end."""
        left = self._hold
        later = ""
        for at in range(len(folded.text) - 1, len(self._before) - 1, -1):
            letter = folded.text[at]
            # A letter that is there many times counts once where it is matched once.
            if letter in SEPARATORS or (self._repeats and letter == later):
                continue
            later = letter
            left -= 1
            if not left:
                return folded.origin(at)[1]
        return 0

    def _leave(self, text: str, cut: int) -> None:
        """Keep what stands after *cut*, and of what stands before it what matters to that."""
        self._held = text[cut:]
        self._offset += cut
        if not cut:
            return
        joiners = ""
        for character in reversed(text[:cut]):
            for each in reversed(fold(character)):
                if each in JOINERS:
                    joiners = JOIN
                    continue
                apart = each in SEPARATORS or RUNNING.match(each)
                self._before = "" if apart else BEFORE + joiners
                return
        # Nothing but what is passed over: as it was before.
        self._before = self._before[:1] + (joiners if self._before else "")
