"""``words``: what must not be sent, what is sent in other words, and what is to be noticed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ai_ledger.cli import render
from ai_ledger.cli.options import (
    F,
    NothingFound,
    by_option,
    database_of,
    json_option,
    tz_option,
    url_option,
)
from ai_ledger.errors import ContentBlocked

if TYPE_CHECKING:
    from ai_ledger.policies.words import Word, WordList
    from ai_ledger.policies.words.files import ImportReport

_SHOWN: Final = 20
_MATCHES: Final = ("exact", "fuzzy")
_ACTIONS: Final = ("block", "replace", "warn")
_ENCODINGS: Final = ("utf-8", "utf-8-sig", "gb18030", "gbk", "big5", "utf-16")


def _list_of(url: str) -> WordList:
    """The words of the first database among the URLs in *url*, which must exist."""
    from ai_ledger.policies.words import WordList

    return WordList(database_of(url))


def _version_option(command: F) -> F:
    return click.option(
        "--version",
        type=int,
        metavar="N",
        help="Only if it is still at this version, which `list` tells.",
    )(command)


def _org_option(command: F) -> F:
    return click.option("--org", metavar="ID", help="Of this organisation; global, if left out.")(
        command
    )


def _literal_option(command: F) -> F:
    return click.option(
        "--literal", is_flag=True, help="Take what looks like a regular expression as it stands."
    )(command)


def _fields(command: F) -> F:
    for option in (
        click.option("--note", metavar="TEXT", help="For people."),
        click.option(
            "--variants/--no-variants",
            default=None,
            help="Whether traditional and simplified spellings count.",
        ),
        click.option(
            "--replacement",
            metavar="TEXT",
            help="What takes its place; *** if left out. Means --action replace.",
        ),
        click.option("--match", type=click.Choice(_MATCHES), help="Exact, if left out."),
        click.option(
            "--action",
            type=click.Choice(_ACTIONS),
            help="Refuse the call, change what is sent, or mark the record. Block, if left out.",
        ),
    ):
        command = option(command)
    return command


def _said(**fields: Any) -> dict[str, Any]:
    said = {name: value for name, value in fields.items() if value is not None}
    if "replacement" in said:
        said.setdefault("action", "replace")
    return said


@click.group("words")
def words_command() -> None:
    """
    Words that are blocked, replaced or noticed in prompts.

    \b
    Examples:
      ai-ledger words add 内部代号 --action replace --replacement 某项目
      ai-ledger words import words.xlsx
      ai-ledger words try "an internal text"
    """


@words_command.command("list")
@_org_option
@click.option("--all", "everybody", is_flag=True, help="Of all organisations, and global ones.")
@click.option("--contains", metavar="TEXT", help="Only words that have this in them.")
@click.option("--inactive", is_flag=True, help="Only those that are switched off.")
@click.option("--after", type=int, default=0, metavar="ID", help="Only those with higher ids.")
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    metavar="N",
    help="At most so many.",
)
@url_option
@json_option
def list_words(
    org: str | None,
    everybody: bool,
    contains: str | None,
    inactive: bool,
    after: int,
    limit: int,
    url: str,
    as_json: bool,
) -> None:
    """
    List words, by id.

    \b
    Example:
      ai-ledger words list --org acme
    """
    if org and everybody:
        raise click.UsageError("--org and --all: give one of them")
    found = _list_of(url).list(
        org_id=org,
        everybody=everybody,
        contains=contains,
        active=False if inactive else None,
        after=after,
        limit=limit + 1,
    )
    more, found = len(found) > limit, found[:limit]
    if as_json:
        render.print_json(found)
    elif found:
        _table(found)
        if more:
            click.echo(f"There are more: --after {found[-1].id}")
    if not found:
        raise NothingFound("there are no such words: add one with `ai-ledger words add`")


def _table(found: Iterable[Word]) -> None:
    render.table(
        ("id", "word", "action", "match", "instead", "org", "active", "version", "note"),
        (
            [
                str(each.id),
                each.word,
                each.action,
                each.match + (" +variants" if each.variants else ""),
                render.shown(each.replacement),
                each.org_id or "all",
                "yes" if each.active else "no",
                str(each.version),
                render.shown(each.note),
            ]
            for each in found
        ),
        numbers=("id", "version"),
        spare=("note", "version"),
    )


def _done(verb: str, word: Word, *, as_json: bool) -> None:
    if as_json:
        render.print_json(word)
        return
    whose = f"organisation {word.org_id}" if word.org_id else "all organisations"
    click.echo(
        f"{verb} word {word.id} ({render.clean(word.word)}) for {render.clean(whose)}: "
        f"{word.action}, {word.match}, version {word.version}"
    )


@words_command.command("add")
@click.argument("word")
@_org_option
@_fields
@_literal_option
@by_option
@url_option
@json_option
def add_word(
    word: str,
    org: str | None,
    action: str | None,
    match: str | None,
    replacement: str | None,
    variants: bool | None,
    note: str | None,
    literal: bool,
    by: str | None,
    url: str,
    as_json: bool,
) -> None:
    """
    Add a word.

    \b
    Examples:
      ai-ledger words add 敏感词 --variants
      ai-ledger words add "project falcon" --org acme --replacement "a project"
    """
    fields = _said(
        org_id=org,
        action=action,
        match=match,
        replacement=replacement,
        variants=variants,
        note=note,
    )
    _done("added", _list_of(url).add(word, by=by, literal=literal, **fields), as_json=as_json)


@words_command.command("edit")
@click.argument("id", type=int)
@click.option("--word", metavar="TEXT", help="Another spelling.")
@_fields
@_literal_option
@_version_option
@by_option
@url_option
@json_option
def edit_word(
    id: int,
    word: str | None,
    action: str | None,
    match: str | None,
    replacement: str | None,
    variants: bool | None,
    note: str | None,
    literal: bool,
    version: int | None,
    by: str | None,
    url: str,
    as_json: bool,
) -> None:
    """
    Change what is named of the word with this ID, and leave the rest.

    \b
    Example:
      ai-ledger words edit 12 --action warn --version 3
    """
    fields = _said(
        word=word,
        action=action,
        match=match,
        replacement=replacement,
        variants=variants,
        note=note,
    )
    if not fields:
        raise click.UsageError("nothing to change: give at least one option")
    edited = _list_of(url).edit(id, version=version, by=by, literal=literal, **fields)
    _done("changed", edited, as_json=as_json)


def _switch(name: str, active: bool, verb: str) -> Callable[..., None]:
    @words_command.command(name, short_help=f"Switch words {'on' if active else 'off'}.")
    @click.argument("ids", type=int, nargs=-1, required=True, metavar="ID...")
    @_version_option
    @by_option
    @url_option
    @json_option
    def switch(
        ids: tuple[int, ...], version: int | None, by: str | None, url: str, as_json: bool
    ) -> None:
        if version is not None and len(ids) > 1:
            raise click.UsageError("--version: name one word with it, as each has its own")
        words = _list_of(url)
        for each in ids:
            words.get(each)
        for each in ids:
            _done(verb, words.edit(each, version=version, by=by, active=active), as_json=as_json)

    switch.help = (
        f"Switch words {'on' if active else 'off'}.\n\n\b\nExample:\n  ai-ledger words {name} 12 15"
    )
    return switch


enable_words = _switch("enable", True, "enabled")
disable_words = _switch("disable", False, "disabled")


@words_command.command("remove")
@click.argument("id", type=int)
@_version_option
@by_option
@url_option
@json_option
def remove_word(
    id: int,
    version: int | None,
    by: str | None,
    url: str,
    as_json: bool,
) -> None:
    """
    Remove a word. Its history stays, and its id is never given again.

    \b
    Example:
      ai-ledger words remove 12
    """
    _done("removed", _list_of(url).remove(id, version=version, by=by), as_json=as_json)


@words_command.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_org_option
@click.option(
    "--encoding",
    type=click.Choice(_ENCODINGS),
    default="utf-8",
    show_default=True,
    help="Of a CSV file.",
)
@click.option("--action", type=click.Choice(_ACTIONS), help="Where the file names none.")
@click.option("--variants", is_flag=True, help="Traditional and simplified, for new words.")
@click.option("--keep-good", is_flag=True, help="Take the good lines although others are bad.")
@click.option("--dry-run", is_flag=True, help="Only say what would become of each line.")
@_literal_option
@by_option
@url_option
@json_option
def import_command(
    file: Path,
    org: str | None,
    encoding: str,
    action: str | None,
    variants: bool,
    keep_good: bool,
    dry_run: bool,
    literal: bool,
    by: str | None,
    url: str,
    as_json: bool,
) -> None:
    """
    Add and update words from a CSV or XLSX file.

    Its first line names the columns, in English or Chinese: word (敏感词), replacement
    (替换词), active (是否启用), action, match, org_id, variants, note. When one line is
    refused nothing is written, unless --keep-good is given. Doing it twice changes
    nothing the second time.

    \b
    Examples:
      ai-ledger words import words.xlsx --dry-run
      ai-ledger words import words.csv --encoding gb18030 --keep-good

    Exit code 1 when lines were refused.
    """
    from ai_ledger.policies.words.files import import_words

    defaults: dict[str, Any] = {"variants": True} if variants else {}
    report = import_words(
        _list_of(url),
        file,
        encoding=encoding,
        org_id=org,
        defaults=defaults | _said(action=action),
        literal=literal,
        keep_good=keep_good,
        dry_run=dry_run,
        by=by,
    )
    if as_json:
        render.print_json(report)
    else:
        _show(report)
    if report.refused:
        kept = "the others are in" if report.written else "nothing was written"
        raise NothingFound(f"{len(report.refused):,} lines were refused; {kept}")
    if not report.lines:
        raise NothingFound("there were no words in it")


def _show(report: ImportReport) -> None:
    counts = report.counts()
    would = "" if report.written else "would be "
    names = {"added": f"{would}added", "updated": f"{would}updated"}
    render.pairs(
        [
            (names.get(outcome, outcome), render.count(counts.get(outcome, 0)))
            for outcome in ("added", "updated", "unchanged", "refused")
        ]
    )
    if report.ignored:
        click.echo(f"columns not used: {render.clean(', '.join(report.ignored))}")
    for line in report.refused[:_SHOWN]:
        click.echo(f"  line {line.number}: {render.clean(line.reason or '')}", err=True)
    if len(report.refused) > _SHOWN:
        click.echo("  … all of them with --json", err=True)
    if not report.written and not report.refused:
        click.echo("nothing was written")


@words_command.command("export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@_org_option
@click.option("--all", "everybody", is_flag=True, help="Of all organisations, and global ones.")
@url_option
def export_command(file: Path, org: str | None, everybody: bool, url: str) -> None:
    """
    Write words into a CSV file that a spreadsheet opens and `import` reads.

    \b
    Example:
      ai-ledger words export words.csv --all
    """
    from ai_ledger.policies.words.files import export_words

    count = export_words(_list_of(url).list(org_id=org, everybody=everybody), file)
    click.echo(f"{count:,} words written to {render.clean(str(file))}")


@words_command.command("try")
@click.argument("text", required=False)
@_org_option
@url_option
@json_option
def try_words(text: str | None, org: str | None, url: str, as_json: bool) -> None:
    """
    Say what would be found in TEXT, or in standard input. Nothing is sent or stored.

    \b
    Example:
      ai-ledger words try "what is project falcon?" --org acme

    Exit code 1 when nothing was found.
    """
    from ai_ledger.policies.words import Words

    words = Words(_list_of(url).url)
    words.reload()
    given = sys.stdin.read() if text is None else text
    found = words.find(given, org)
    try:
        sent = None if found.blocked else words.replaced(given, org)
    except ContentBlocked:
        sent = None
    if as_json:
        render.print_json({"findings": list(found), "sent": sent})
    elif found:
        render.table(
            ("word", "action", "from", "to", "found"),
            (
                [str(each.rule), each.action, str(each.start), str(each.end),
                 given[each.start : each.end]]
                for each in found
            ),
            numbers=("word", "from", "to"),
        )  # fmt: skip
        verdict = "refused" if sent is None else render.clean(sent, lines=True)
        click.echo(f"\nsent: {verdict}" if sent is not None else f"\n{verdict}")
    if not found:
        raise NothingFound("no word was found")


@words_command.command("history")
@click.argument("id", type=int)
@tz_option
@url_option
@json_option
def history_of_word(
    id: int,
    zone: tzinfo,
    url: str,
    as_json: bool,
) -> None:
    """
    Who changed a word, when and how, newest first; also one that was removed.

    \b
    Example:
      ai-ledger words history 12
    """
    changes = _list_of(url).history(id)
    if not changes:
        raise NothingFound(f"there was never a word {id}")
    if as_json:
        render.print_json(changes)
        return
    render.table(
        ("when", "who", "what"),
        (
            [
                render.moment(each.changed_at, zone),
                render.shown(each.changed_by),
                _told(each.before, each.after),
            ]
            for each in changes
        ),
    )


def _told(before: dict[str, Any] | None, after: dict[str, Any] | None) -> str:
    if before is None or after is None:
        return "added" if before is None else "removed"
    return ", ".join(
        f"{name}: {render.shown(before.get(name))} → {render.shown(value)}"
        for name, value in after.items()
        if before.get(name) != value
    )


@words_command.command("settings")
@click.option("--fuzzy/--no-fuzzy", default=None, help="Fuzzy matching, for every process.")
@_version_option
@by_option
@tz_option
@url_option
@json_option
def settings_of_words(
    fuzzy: bool | None,
    version: int | None,
    by: str | None,
    zone: tzinfo,
    url: str,
    as_json: bool,
) -> None:
    """
    Show how the filter is set, or set it.

    \b
    Example:
      ai-ledger words settings --no-fuzzy
    """
    words = _list_of(url)
    settings = words.settings() if fuzzy is None else words.set_fuzzy(fuzzy, version=version, by=by)
    if as_json:
        render.print_json(settings)
        return
    changed = settings.updated_at
    render.pairs(
        [
            ("fuzzy matching", "on" if settings.fuzzy else "off"),
            ("version", str(settings.version)),
            ("changed", render.MISSING if changed is None else render.moment(changed, zone)),
            ("by", render.shown(settings.updated_by)),
        ]
    )
