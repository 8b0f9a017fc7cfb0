"""``doctor``: whether this installation records every form of call, and how the ledger is."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from ai_ledger.cli import render
from ai_ledger.cli.options import DEFAULT_URL, json_option
from ai_ledger.errors import AILedgerError, MissingExtra
from ai_ledger.secrets import scrub

if TYPE_CHECKING:
    from ai_ledger.doctor import Finding
    from ai_ledger.doctor.orphans import Orphan

_PACKAGES = ("ai-ledger", "openai", "httpx2", "httpx", "sqlalchemy", "genai-prices", "tiktoken")


@click.command("doctor")
@click.option(
    "--url", envvar="AI_LEDGER_URL", show_envvar=True,
    help="Also say how this ledger is; sqlite:///ai_ledger.db when there is one.",
)  # fmt: skip
@click.option("--form", "forms", multiple=True, metavar="TEXT", help="Only forms that contain it.")
@click.option("--all", "show_all", is_flag=True, help="List the forms that are right, too.")
@json_option
def doctor_command(url: str | None, forms: tuple[str, ...], show_all: bool, as_json: bool) -> None:
    """
    Check that every form of call is recorded right.

    Drives the installed openai SDK, tracked, through all of them. A provider on
    loopback answers, or fails on purpose, so no key and no network are needed. Each
    form must leave exactly one record that says what happened, and the caller must
    get what the bare SDK would have given.

    \b
    Examples:
      ai-ledger doctor
      ai-ledger doctor --form stream --all

    With --json: versions, forms, ledger. Exit code 1 when a form is recorded wrong.
    """
    if find_spec("openai") is None:
        raise MissingExtra("doctor", "demo")
    from ai_ledger.doctor import examine

    findings = examine(only=forms)
    health, trouble = _health(url)
    versions = _versions()
    wrong = [finding for finding in findings if finding.outcome == "wrong"]
    if as_json:
        ledger = {"health": health, "trouble": trouble}
        render.print_json({"versions": versions, "forms": findings, "ledger": ledger})
    else:
        render.pairs(versions.items())
        _show(findings, show_all=show_all)
        _show_health(health, trouble)
    raise click.exceptions.Exit(1 if wrong or not findings else 0)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _show(findings: list[Finding], *, show_all: bool) -> None:
    counts = {
        outcome: sum(finding.outcome == outcome for finding in findings)
        for outcome in ("right", "wrong", "not in this version")
    }
    render.heading(
        f"{counts['right']} forms recorded right, {counts['wrong']} wrong, "
        f"{counts['not in this version']} not in this version"
    )
    listed = [each for each in findings if show_all or each.outcome != "right"]
    if listed:
        render.table(
            ("form", "client", "outcome", "what was wrong"),
            ([each.form, each.mode, each.outcome, each.detail] for each in listed),
        )


def _health(url: str | None) -> tuple[dict[str, Any] | None, str | None]:
    """The health of the ledger and the orphans in its journal, or why there is none to tell."""
    from ai_ledger.doctor.orphans import orphans
    from ai_ledger.ledger import Ledger

    if url is None:
        if not Path("ai_ledger.db").exists():
            return None, "no ledger here; name one with --url"
        url = DEFAULT_URL
    try:
        ledger = Ledger(url.split())
        try:
            health = ledger.health()
        finally:
            ledger.close(0)
        found = orphans(Path(health.folder)) if health.folder else []
    except (AILedgerError, OSError) as error:
        return None, scrub(str(error))
    return {**msgspec.structs.asdict(health), "orphans": found}, None


def _show_health(health: dict[str, Any] | None, trouble: str | None) -> None:
    render.heading("the ledger")
    if health is None:
        click.echo(f"  {render.clean(trouble or '')}")
        return
    orphans: list[Orphan] = health["orphans"]
    left = "none"
    if orphans:
        size = sum(orphan.bytes for orphan in orphans)
        oldest = orphans[0].age_seconds
        left = (
            f"{len(orphans)} segments of dead processes, {size:,} bytes, "
            f"the oldest {oldest:,.0f} s old; the next process that opens this ledger delivers them"
        )
    render.pairs(
        [
            ("sinks", ", ".join(sink.name for sink in health["sinks"])),
            ("journal", health["folder"] or "in memory"),
            ("left behind", left),
            ("quarantined", f"{health['quarantined']:,} records"),
        ]
    )
