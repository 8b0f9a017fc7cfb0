"""The API of words."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Path, Query, UploadFile
from starlette.responses import Response

from ai_ledger.policies.words.rows import Action
from ai_ledger.validation import MAX_ID
from ai_ledger.web.edits import Edit, HowMany
from ai_ledger.web.parameters import MAX_VERSION
from ai_ledger.web.visit import DeskOf
from ai_ledger.web.words import lists, trial
from ai_ledger.web.words.shapes import (
    MAX_ORG_CHARS,
    Found,
    NewWord,
    Settings,
    SettingsEdit,
    Trial,
    WordEdit,
    WordImport,
    WordPage,
    WordView,
)

router = APIRouter(tags=["words"])

WordId = Annotated[int, Path(ge=1, le=MAX_ID)]
Org = Annotated[
    str | None, Query(max_length=MAX_ORG_CHARS, description="Only this organisation's.")
]
ForAll = Annotated[bool, Query(description="Only those for all organisations.")]
Encoding = Literal["utf-8", "gb18030", "gbk", "big5", "utf-16"]

_MEDIA = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}


@router.get("/words", operation_id="list_words", summary="Words, the newest first.")
def list_words(
    desk: DeskOf,
    org_id: Org = None,
    for_all: ForAll = False,
    contains: Annotated[str | None, Query(max_length=100)] = None,
    active: bool | None = None,
    action: Action | None = None,
    after: Annotated[int, Query(ge=0, le=MAX_ID)] = 0,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> WordPage:
    """Of all organisations; whoever is confined to one sees its own and those for all."""
    found, total, next_id = lists.page(
        desk,
        lists.orgs_of(desk, org_id, for_all=for_all),
        contains=contains,
        active=active,
        action=action,
        after=after,
        limit=limit,
    )
    return WordPage(words=found, total=total, next=next_id)


@router.post("/words", status_code=201, operation_id="add_word", summary="Add a word.")
def add_word(desk: DeskOf, body: NewWord) -> WordView:
    """Programs that use the list see it within seconds."""
    fields = body.model_dump(exclude={"word", "literal"})
    return lists.add(desk, body.word, fields, literal=body.literal)


@router.post("/words/check", operation_id="check_text", summary="What becomes of a text.")
def check_text(desk: DeskOf, body: Trial) -> Found:
    """As a prompt of a call is judged. The text is neither stored nor sent."""
    return trial.tried(desk, body.text, body.org_id)


@router.post(
    "/words/import", operation_id="import_words", summary="Add and update words from a file."
)
def import_words(
    desk: DeskOf,
    file: Annotated[UploadFile, File(description="CSV, TXT or XLSX, at most 8 MB.")],
    org_id: Annotated[str | None, Form(max_length=MAX_ORG_CHARS)] = None,
    dry_run: Annotated[bool, Form(description="Only say what would change.")] = True,
    keep_good: Annotated[
        bool, Form(description="Take the good lines although others are refused.")
    ] = False,
    encoding: Annotated[Encoding, Form()] = "utf-8",
    action: Annotated[Action | None, Form(description="Where the file names none.")] = None,
    variants: Annotated[bool, Form()] = False,
) -> WordImport:
    """Its first line names the columns. Without dry_run=false it only says what would change."""
    data = file.file.read(lists.MAX_FILE_BYTES + 1)
    return lists.import_file(
        desk,
        file.filename or "",
        data,
        org=org_id,
        dry_run=dry_run,
        keep_good=keep_good,
        encoding=encoding,
        action=action,
        variants=variants,
    )


@router.get(
    "/words/export",
    operation_id="export_words",
    summary="The words as a file.",
    response_class=Response,
    responses={
        200: {
            "content": {
                media: {"schema": {"type": "string"}} for media in ("text/csv", _MEDIA["jsonl"])
            }
        }
    },
)
def export_words(
    desk: DeskOf,
    format: Literal["csv", "jsonl"] = "csv",
    org_id: Org = None,
    for_all: ForAll = False,
) -> Response:
    """CSV, made harmless for spreadsheets and read by the import, or JSON lines."""
    data = lists.export(desk, lists.orgs_of(desk, org_id, for_all=for_all), format)
    return Response(data, media_type=_MEDIA[format])


@router.get("/words/settings", operation_id="get_word_settings", summary="How the filter is set.")
def get_word_settings(desk: DeskOf) -> Settings:
    """For all organisations and programs."""
    return lists.settings(desk)


@router.put("/words/settings", operation_id="set_word_settings", summary="Set the filter.")
def set_word_settings(desk: DeskOf, body: SettingsEdit) -> Settings:
    """409 when somebody else has changed it since."""
    return lists.set_fuzzy(desk, body.fuzzy, body.version)


@router.get("/words/{word_id}", operation_id="get_word", summary="One word.")
def get_word(desk: DeskOf, word_id: WordId) -> WordView:
    """Words of other organisations are unknown to whoever is confined to one."""
    return lists.word(desk, word_id)


@router.get(
    "/words/{word_id}/history",
    operation_id="get_word_history",
    summary="Who changed a word, the newest edit first.",
)
def get_word_history(desk: DeskOf, word_id: WordId, limit: HowMany = 100) -> list[Edit]:
    """Also of one that was removed."""
    return lists.history(desk, word_id, limit)


@router.patch("/words/{word_id}", operation_id="edit_word", summary="Change a word.")
def edit_word(desk: DeskOf, word_id: WordId, body: WordEdit) -> WordView:
    """409 when somebody else has changed it since."""
    said: dict[str, Any] = body.model_dump(exclude={"version", "literal"}, exclude_unset=True)
    # Only these can be taken away; of the others nothing said means that they stay.
    fields = {
        name: value
        for name, value in said.items()
        if value is not None or name in ("replacement", "note")
    }
    return lists.edit(desk, word_id, body.version, fields, literal=body.literal)


@router.delete("/words/{word_id}", operation_id="remove_word", summary="Remove a word.")
def remove_word(
    desk: DeskOf,
    word_id: WordId,
    version: Annotated[int | None, Query(ge=1, le=MAX_VERSION)] = None,
) -> WordView:
    """Its history stays, and its id is never given again."""
    return lists.remove(desk, word_id, version)
