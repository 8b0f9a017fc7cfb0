"""Making a call of every form, twice: with the bare client and with the tracked one."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import msgspec

from ai_ledger.context import call_context
from ai_ledger.doctor.form import MODES, Form, Kit, Mode
from ai_ledger.records import CallRecord
from ai_ledger.testing import Provider

if TYPE_CHECKING:
    from ai_ledger.ledger import Ledger

Outcome: TypeAlias = Literal["right", "wrong", "not in this version"]

_TAG: Final = "doctor_form"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one form of call."""

    form: str
    mode: Mode
    outcome: Outcome
    detail: str = ""
    """What was wrong."""


def examine(only: Sequence[str] = ()) -> list[Finding]:
    """
    Make a call of every form, sync and async, and compare.

    What the caller sees must equal what the bare client shows, and exactly one
    record must say what happened. A few seconds; nothing leaves this machine.

    Args:
        only: Only forms whose name contains one of these texts.
    """
    from ai_ledger.doctor.forms import FORMS
    from ai_ledger.doctor.troubles import TROUBLES
    from ai_ledger.ledger import Ledger
    from ai_ledger.sinks.memory import MemorySink

    forms = [
        form
        for form in (*FORMS, *TROUBLES)
        if not only or any(text.lower() in form.name.lower() for text in only)
    ]
    sink = MemorySink()
    seen: dict[tuple[str, Mode], str | None] = {}
    # Forms that are meant to fail make the SDK log retries; that is no news here.
    logger = logging.getLogger("openai")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with Ledger(sinks=[sink], journal=False) as ledger, Provider() as provider:
            for mode in MODES:
                run = _drive if mode == "sync" else asyncio.run
                run(_all_of(forms, mode, provider, ledger, seen))
            ledger.flush(10)
    finally:
        gc.unfreeze()
        logger.setLevel(level)
    return [
        _finding(form, mode, seen[form.name, mode], sink.records)
        for form in forms
        for mode in form.modes
    ]


_MISSING_HERE: Final = "not in this version"


async def _all_of(
    forms: list[Form],
    mode: Mode,
    provider: Provider,
    ledger: Ledger,
    seen: dict[tuple[str, Mode], str | None],
) -> None:
    from ai_ledger import TrackedClient

    bare = _kit(mode, provider, lambda client: client)
    tracked = _kit(mode, provider, lambda client: TrackedClient(client, ledger=ledger))
    await bare.chat()
    for kit in (bare, tracked):
        _ = kit.client.chat, kit.client.responses, kit.client.audio, kit.client.images
    # Looking for streams that were let go is quick when the SDK itself is not looked at.
    gc.collect()
    gc.freeze()
    for form in forms:
        if mode not in form.modes:
            continue
        if not _has(bare.client, form.needs):
            seen[form.name, mode] = _MISSING_HERE
            continue
        wanted = await _seen_by_caller(form, bare)
        with call_context(**{_TAG: f"{mode} {form.name}"}):
            got = await _seen_by_caller(form, tracked)
        # What the caller let go has to be found by the collector.
        gc.collect()
        if mode == "async":
            await asyncio.sleep(0)
        same = got == wanted
        seen[form.name, mode] = None if same else f"the caller saw {got!r}, not {wanted!r}"
    for kit in (bare, tracked):
        await kit.settled(kit.client.close())


async def _seen_by_caller(form: Form, kit: Kit) -> object:
    kit.provider.reset()
    try:
        return await form.run(kit)
    except Exception as error:  # noqa: BLE001  # whatever the SDK raises is what the caller sees
        return type(error).__name__, str(error)


def _kit(mode: Mode, provider: Provider, tracked: Callable[[Any], Any]) -> Kit:
    import openai

    plain, azure = (
        (openai.OpenAI, openai.AzureOpenAI)
        if mode == "sync"
        else (openai.AsyncOpenAI, openai.AsyncAzureOpenAI)
    )
    key: Any = {"api_key": "sk-doctor", "timeout": 20.0}
    return Kit(
        tracked(plain(base_url=provider.base_url, **key)),
        provider,
        lambda: tracked(azure(azure_endpoint=provider.url, api_version="2024-10-21", **key)),
    )


def _has(client: Any, path: str) -> bool:
    for name in path.split(".") if path else ():
        client = getattr(client, name, None)
        if client is None:
            return False
    return True


def _drive(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run *coroutine* without an event loop, which a sync client must not need."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise RuntimeError("a form of the sync client waited for an event loop")


def _finding(form: Form, mode: Mode, said: str | None, records: list[CallRecord]) -> Finding:
    if said == _MISSING_HERE:
        return Finding(form=form.name, mode=mode, outcome="not in this version")
    own = [record for record in records if record.tags.get(_TAG) == f"{mode} {form.name}"]
    wrong = [] if said is None else [said]
    if len(own) != 1:
        wrong.append(f"{len(own)} records, not 1")
    else:
        wrong += form.expected.differences(own[0])
    return Finding(
        form=form.name,
        mode=mode,
        outcome="wrong" if wrong else "right",
        detail="; ".join(wrong),
    )
