"""Stored texts that would like to be more than texts, in every place that people can fill."""

from __future__ import annotations

from typing import Final

from ai_ledger import Ledger

CANARY: Final = "canary.invalid"
SCRIPT: Final = "<script>alert('x')</script>"
IMAGE: Final = f"<img src=http://{CANARY}/i.png onerror=alert(1)>"
SVG: Final = f"<svg onload=alert(2)><image href='http://{CANARY}/s.png'/></svg>"
BREAKOUT: Final = "\"'></title></script><script>alert(3)</script>{{7*7}}${7*7}"
LINK: Final = "javascript:alert(4)"
MARKDOWN: Final = f"![x](http://{CANARY}/m.png) [go](javascript:alert(5)) <a href={LINK}>go</a>"
ODD: Final = "\u202eevil\u202c line\u2028line\u2029 \u0000\u001b[31m \ufeff\u200b"
ALL: Final = f"{SCRIPT}{IMAGE}{SVG}{BREAKOUT}{MARKDOWN}{ODD}"


def fill(ledger: Ledger, url: str) -> None:
    """Put them into calls, and into everything that is edited."""
    from ai_ledger.alerts import Alerts, Rule
    from ai_ledger.catalog import Catalog
    from ai_ledger.policies import Budget, Quotas
    from ai_ledger.policies.budgets.accounts import Accounts
    from ai_ledger.policies.words.store import WordList
    from ai_ledger.sinks.sql.shared import shared_database

    for number, text in enumerate((SCRIPT, IMAGE, SVG, BREAKOUT, LINK, MARKDOWN, ODD)):
        ledger.record(
            text[:120],
            status="failed" if number % 2 else "success",
            provider=text[:60],
            operation=text[:60],
            error_type=text[:100] if number % 2 else None,
            error_message=ALL if number % 2 else None,
            input_tokens=10 + number,
            output_tokens=5,
            cost="0.01",
            currency="USD",
            user_id=text[:100],
            org_id=text[:100],
            device_id=text[:100],
            session_id=text[:100],
            reference_id=text[:100],
            function=text[:100],
            business_type=text[:100],
            request_content=f'{{"messages": [{{"role": "user", "content": "{text[:3]}"}}]}} {ALL}',
            response_content=ALL,
            tags={"note": text[:100], "<b>key</b>": SCRIPT},
        )
    ledger.flush(30)
    accounts = Accounts(shared_database(url))
    accounts.register(Budget("5 USD", name=SCRIPT, where={"user_id": IMAGE[:100]}).terms, by=IMAGE)
    quotas = Quotas(url)
    quotas.set(SCRIPT[:60], IMAGE[:60], tokens=10, by=SVG[:60])
    catalog = Catalog(url)
    catalog.add_provider(
        f"p-{SCRIPT}", display_name=IMAGE, description=ALL.replace("\0", ""), by=SVG,
        site="https://provider.example/",
    )  # fmt: skip
    catalog.add_model(f"m-{SCRIPT}", provider=f"p-{SCRIPT}", display_name=SVG, by=IMAGE)
    WordList(url).add(SCRIPT, action="replace", replacement=IMAGE, note=SVG, by=MARKDOWN[:60])
    with Alerts(url) as alerts:
        alerts.add_rule(
            Rule(name=f"rule {SCRIPT}", kind="unpriced", each="function", threshold=1), by=IMAGE
        )
        ledger.record(SCRIPT, function=IMAGE[:100], input_tokens=3, output_tokens=1, org_id=SVG)
        ledger.flush(30)
        alerts.evaluate()
