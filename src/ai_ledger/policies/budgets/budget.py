"""`Budget`: so much money, or so many tokens, in a period. What does not fit is not sent."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from datetime import date, datetime
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

import msgspec

from ai_ledger.bounds import key_of, label, value_of_key
from ai_ledger.currencies import CURRENCIES
from ai_ledger.errors import ConfigurationError, InvalidValue
from ai_ledger.money import EXACT, to_nano
from ai_ledger.options import check_choice, check_function, wrong_option
from ai_ledger.policies.budgets.account import NotInForce
from ai_ledger.policies.budgets.holds import holds_of
from ai_ledger.policies.budgets.member import BudgetWarning, Member
from ai_ledger.policies.budgets.panel import MARK, Panel
from ai_ledger.policies.budgets.worst_case import LARGEST, OUTPUT_TOKENS, UNSEEN_TOKENS
from ai_ledger.policy import MARK_PREFIX, Revision
from ai_ledger.query import TAG_PREFIX, field_name
from ai_ledger.records import CONTEXT_FIELDS, CallRecord, utc_now
from ai_ledger.sinks.sql.shared import database_url_of
from ai_ledger.sinks.sql.sink import SQLSink
from ai_ledger.terms import TOKENS, Terms

if TYPE_CHECKING:
    from ai_ledger.ledger import Ledger
    from ai_ledger.policies.budgets.account import Account
    from ai_ledger.stats import RunsOut

_PER: Final = ("hour", "day", "week", "month", "total")
_Per: TypeAlias = Literal["hour", "day", "week", "month", "total"] | tuple[datetime, datetime]
_Amount: TypeAlias = Decimal | int | float | str

KNOWN_BEFORE: Final = (
    *CONTEXT_FIELDS,
    "operation",
    "provider",
    "server_address",
    "request_model",
)
"""What is known of a call before it is sent, besides its tags."""

_MILLION: Final = 1_000_000


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """
    What was spent of a budget in one of its periods.

    Args:
        period: Which one: ``2026-11-21``, ``2026-W47``, ``2026-11``.
        whose: For whom, where there is one budget each; ``None`` for all together.
        starts_at: Inclusive, aware; ``None`` when it has no beginning.
        ends_at: Exclusive, aware; ``None`` when it has no end.
        unit: ``tokens``, or the code of a currency.
        spent: By the ledger's rows.
        limit: As it is now.
        overrun: By how much paid calls have passed the limit.
        calls: How many were counted.
        uncounted: How many of them took nobody knows how much.
    """

    period: str
    whose: str | None
    starts_at: datetime | None
    ends_at: datetime | None
    unit: str
    spent: Decimal
    limit: Decimal
    overrun: Decimal
    calls: int
    uncounted: int


class Budget:
    """
    So much money, or so many tokens, in a period. A policy::

        Ledger("postgresql://…", policies=[Budget("50 CNY", per="month", each="user_id")])

    Before a call, the most that it can take is set aside in the ledger's store; when
    that does not fit, the call is refused with `BudgetExceeded` and never sent. What
    it did take replaces that afterwards. All processes that share the store share the
    budget. What is used is always what the ledger's rows add up to.

    The most that a call can take is its input, counted as one token a byte, and the
    output limit that the request states, both at the dearest rates of the model's
    price. What a request does not state is assumed: see *max_output_tokens* and
    *unseen_input_tokens*. A call that takes more all the same is charged in full, and
    marked ``ai_ledger.budget: overrun``.

    Several budgets of a ledger must all admit a call, or none of them is charged.

    Args:
        limit: Money: ``"50 CNY"``.
        tokens: Or tokens, input and output together.
        per: ``hour``, ``day``, ``week`` (from Monday), ``month``, ``total``, or a
            beginning and an end, aware.
        where: Which calls are counted: field or ``tags.<key>`` → a value or several;
            ``None``: not set. Of what is known before a call.
        each: The field or ``tags.<key>`` for each of whose values there is so much.
        tz: Whose clock says when a period begins.
        mode: ``hard`` refuses, ``soft`` only counts and warns.
        warn_at: Shares of the limit at which there is a line in the log.
        on_warning: Called with a `BudgetWarning` then, once in each process. Must
            not take long.
        name: Unique in a store. A budget of this name that is there already is
            changed to these terms. Left out, it is made of limit, mode and the other
            terms, so that with another limit it is another budget: the old one goes
            on counting, and refuses nobody, until `ai-ledger budgets deactivate`.
        on_unavailable: What happens while the store cannot be asked, or a price is
            not known to it: ``refuse`` (with `BudgetUnavailable`), or ``allow``, in
            which case the calls are marked ``ai_ledger.budget: unchecked``. Left out,
            a hard budget refuses and a soft one allows.
        unpriced_as: What a million tokens cost of input, and of output, of a model
            without a price, in the budget's currency. Without it a hard budget
            refuses such calls, and a soft one marks them ``ai_ledger.budget: unpriced``.
        rates: What one unit of another currency is worth, for models priced in it.
        max_output_tokens: Assumed for the answer when a request states no limit.
        unseen_input_tokens: Assumed for each part of a request that its body does not
            show: an image, a file, a conversation kept by the provider. Also for all
            of the input of a call that is accounted for by hand.
        lease_ttl: Seconds after which a process that died has given back what it had
            set aside. While it lives that is renewed.

    Raises:
        ConfigurationError: One of these cannot be; names it.
    """

    reads_only = True
    passes_on = True
    replaces = False
    """Whether it takes the place of another one of its name, as after the edit of a quota."""

    def __init__(
        self,
        limit: str | None = None,
        *,
        tokens: int | None = None,
        per: _Per = "month",
        where: Mapping[str, str | Collection[str | None] | None] | None = None,
        each: str | None = None,
        tz: str = "UTC",
        mode: Literal["hard", "soft"] = "hard",
        warn_at: Iterable[float] = (0.5, 0.8, 1.0),
        on_warning: Callable[[BudgetWarning], object] | None = None,
        name: str | None = None,
        on_unavailable: Literal["allow", "refuse"] | None = None,
        unpriced_as: tuple[_Amount, _Amount] | None = None,
        rates: Mapping[str, _Amount] | None = None,
        max_output_tokens: int = OUTPUT_TOKENS,
        unseen_input_tokens: int = UNSEEN_TOKENS,
        lease_ttl: float = 60.0,
    ) -> None:
        check_choice("mode", mode, ("hard", "soft"))
        if on_unavailable is not None:
            check_choice("on_unavailable", on_unavailable, ("allow", "refuse"))
        check_function("on_warning", on_warning)
        self.terms: Final = _terms(
            limit=limit,
            tokens=tokens,
            per=per,
            where=where,
            each=each,
            tz=tz,
            mode=mode,
            name=name,
            unpriced_as=unpriced_as,
            rates=rates,
        )
        """What is stored of it: limit, period, conditions."""
        self.name: Final = self.terms.name
        self._lease_ttl = _lease_ttl(lease_ttl)
        self.member: Final = Member(
            self.terms,
            refuses=(on_unavailable or ("refuse" if mode == "hard" else "allow")) == "refuse",
            output_tokens=_count("max_output_tokens", max_output_tokens),
            unseen_tokens=_count("unseen_input_tokens", unseen_input_tokens),
            warn_at=_shares(warn_at),
            on_warning=on_warning,
        )
        """What is asked of it before each call."""
        self.panel: Panel | None = None
        """Who is asked together with it."""
        self._ledger: weakref.ref[Ledger] | None = None
        self._url = ""

    # The policy

    def bind(self, ledger: Ledger) -> None:
        """
        Belong to *ledger*, together with the other budgets among its policies.

        Raises:
            ConfigurationError: It has no SQL store, another budget has the same name
                there, or this one belongs to the store of another ledger.
        """
        url = database_url_of(ledger)
        known = self._ledger() if self._ledger is not None else None
        if known is not None and known is not ledger and url != self._url:
            raise ConfigurationError(
                f"{self!r} belongs to the store of {known!r}: make another one for {ledger!r}"
            )
        together = [policy for policy in ledger.policies if isinstance(policy, Budget)]
        if self not in together or (known is not None and known is not ledger):
            together = [self]
        names = [budget.name for budget in together]
        if len(set(names)) != len(names):
            raise ConfigurationError(
                f"several budgets are called {max(names, key=names.count)!r}: give them names "
                "of their own"
            )
        holds = holds_of(url)
        for budget in together:
            holds.bind(budget.terms, ledger, replaces=budget.replaces)
        holds.warm_up()
        holds.lease_ttl = min(holds.lease_ttl, self._lease_ttl)
        for sink in ledger.sinks:
            if isinstance(sink, SQLSink) and sink.url == url:
                sink.holds = holds
        self.member.use(ledger)
        if self._url != url:
            self.member.forget()
        self._url = url
        self._ledger = weakref.ref(ledger)
        members = tuple(budget.member for budget in together)
        shared = [budget.panel for budget in together if budget.panel is not None]
        self.panel = next(
            (panel for panel in shared if panel.is_for(ledger, members, holds)), None
        ) or Panel(members, holds, ledger)

    def check(self, call: CallRecord, request: Mapping[str, Any] | None) -> Revision | None:
        """
        Set the most aside that *call* can take, of all budgets of the ledger.

        Raises:
            BudgetExceeded: One of them has not enough.
            BudgetUnavailable: That cannot be told.
        """
        return self._bound().check(call, request)

    async def acheck(self, call: CallRecord, request: Mapping[str, Any] | None) -> Revision | None:
        """`check` for coroutines: waiting for the store holds nobody else up."""
        return await self._bound().acheck(call, request)

    def review(self, record: CallRecord, answer: str | None) -> Mapping[str, str] | None:
        """Give back what the call did not take; a mark if it took more than was set aside."""
        panel = self.panel
        mark = None if panel is None else panel.holds.end(record)
        return None if mark is None else {MARK: mark}

    def settle(self, record: CallRecord) -> None:
        """The same, for whoever does not ask for a review."""
        if self.panel is not None:
            self.panel.holds.end(record)

    def _bound(self) -> Panel:
        if self.panel is None:
            raise ConfigurationError(
                f"{self!r} is on no ledger yet: Ledger(…, policies=[…]) or "
                "TrackedClient(…, policies=[…])"
            )
        return self.panel

    # Asking

    def spent(self, whose: str | None = None, at: datetime | None = None) -> Decimal:
        """
        How much is used in the period, by the rows that are stored; `Ledger.flush` first.

        Args:
            whose: For whom, where there is one budget each; left out, the ten
                thousand that have used most, together.
            at: The period of that moment, aware; now, if left out.

        Raises:
            InvalidValue: *whose* for a budget that is not for each of something, or
                *at* without a time zone.
            SinkUnavailable: The store is away.
        """
        return self._shown(sum(account.used for account in self._accounts(whose, at)))

    def reserved(self, whose: str | None = None) -> Decimal:
        """How much processes have set aside at the moment; see `spent`."""
        return self._shown(sum(account.reserved for account in self._accounts(whose, None)))

    def remaining(self, whose: str | None = None) -> Decimal:
        """
        How much of the limit is not used yet, at least 0; see `spent`.

        Raises:
            InvalidValue: There is one budget each, and no *whose*.
        """
        if whose is None and self.terms.each is not None:
            raise InvalidValue("whose", whose, f"whose budget, since there is one {self._each}")
        accounts = self._accounts(whose, None)
        limit = accounts[0].limit if accounts else self.terms.limit
        return self._shown(max(0, limit - sum(account.used for account in accounts)))

    def history(self, whose: str | None = None, *, limit: int = 100) -> list[Period]:
        """
        What was spent in this period and those before, newest first.

        Args:
            whose: For whom, where there is one budget each; left out, all of them.
            limit: How many at the most.
        """
        accounts = self._bound().holds.accounts
        found = accounts.history(self._id(), self._key(whose), limit=limit)
        return [self._period(account) for account in found]

    def forecast(self, whose: str | None = None, *, level: float = 0.8) -> RunsOut:
        """
        The day on which the period's limit is reached if usage goes on as it did.

        Args:
            whose: For whom; needed where there is one budget each.
            level: The probability of the interval that is given with it.

        Raises:
            InvalidValue: There is one budget each, and no *whose*.
            MissingExtra: Reports need the extra ``stats``.
        """
        from ai_ledger.stats import runs_out

        if whose is None and self.terms.each is not None:
            raise InvalidValue("whose", whose, f"whose budget, since there is one {self._each}")
        now = utc_now()
        accounts = self._accounts(whose, None)
        period = self.terms.period_of(now)
        bounds = None if period is None else self.terms.bounds_of(period)
        return runs_out(
            used=self._shown(sum(account.used for account in accounts)),
            limit=self._shown(accounts[0].limit if accounts else self.terms.limit),
            daily=self._daily(whose, now),
            until=None if bounds is None else bounds[1],
            now=now,
            tz=self.terms.tz,
            level=level,
        )

    def __repr__(self) -> str:
        return f"Budget({self.name!r}, {_shown_limit(self.terms)}, {self.terms.mode})"

    @property
    def _each(self) -> str:
        return f"for each {self.terms.each}"

    def _shown(self, amount: int) -> Decimal:
        return self.member.shown(amount)

    def _id(self) -> int:
        member = self.member
        if member.id is None:
            panel = self._bound()
            with panel.holds.slow, suppress(NotInForce):
                panel.is_in_force(member)
        if member.id is None:
            stored = self._bound().holds.accounts.budget(self.name)
            assert stored is not None  # it is switched off, or of another shape
            return stored.id
        return member.id

    def _key(self, whose: str | None) -> str | None:
        if whose is None:
            return None if self.terms.each is not None else ""
        if self.terms.each is None:
            raise InvalidValue("whose", whose, "nothing, since the budget is for all together")
        return key_of(label(whose))

    def _accounts(self, whose: str | None, at: datetime | None) -> list[Account]:
        if at is not None and at.tzinfo is None:
            raise InvalidValue("at", at, "a datetime with a time zone")
        key = self._key(whose)
        period = self.terms.period_of(at or utc_now())
        if period is None:
            return []
        accounts = self._bound().holds.accounts
        if key is not None:
            return [accounts.state(self._id(), key, period)]
        return accounts.period(self._id(), period)

    def _period(self, account: Account) -> Period:
        starts_at, ends_at = self.terms.bounds_of(account.period) or (None, None)
        return Period(
            period=account.period,
            whose=value_of_key(account.whose),
            starts_at=starts_at,
            ends_at=ends_at,
            unit=self.terms.unit,
            spent=self._shown(account.used),
            limit=self._shown(account.limit),
            overrun=self._shown(account.overrun),
            calls=account.calls,
            uncounted=account.uncounted,
        )

    def _daily(self, whose: str | None, now: datetime) -> dict[date, Decimal]:
        from ai_ledger.policies.budgets.daily import daily_use

        ledger = self._ledger() if self._ledger is not None else None
        if ledger is None:
            return {}
        store = next(
            sink for sink in ledger.sinks if isinstance(sink, SQLSink) and sink.url == self._url
        )
        each = self.terms.each is not None
        value = None if whose is None else label(whose)
        used = daily_use(store, self.terms, value, each=each, now=now)
        return {day: self._shown(amount) for day, amount in used.items()}


def _shown_limit(terms: Terms) -> str:
    if terms.unit == TOKENS:
        amount = f"{terms.limit:,} tokens"
    else:
        amount = f"{EXACT.scaleb(Decimal(terms.limit), -9).normalize():f} {terms.unit}"
    return f"{amount} {_shown_per(terms)}"


def _shown_per(terms: Terms) -> str:
    if terms.per == "window":
        assert terms.since is not None
        assert terms.until is not None
        return f"from {terms.since:%Y-%m-%dT%H:%M}Z to {terms.until:%Y-%m-%dT%H:%M}Z"
    return "in total" if terms.per == "total" else f"per {terms.per}"


# From what a person writes to `Terms`


def _terms(
    *,
    limit: object,
    tokens: object,
    per: object,
    where: object,
    each: object,
    tz: object,
    mode: Any,
    name: object,
    unpriced_as: object,
    rates: object,
) -> Terms:
    unit, amount = _limit(limit, tokens)
    since = until = None
    if isinstance(per, tuple):
        since, until = _window(cast("tuple[object, ...]", per))
        per = "window"
    elif per not in _PER:
        raise wrong_option("per", per, f"one of {', '.join(_PER)}, or a beginning and an end")
    if not isinstance(tz, str):
        raise wrong_option("tz", tz, "the name of a time zone, such as Asia/Shanghai")
    if unit == TOKENS and (unpriced_as is not None or rates is not None):
        raise ConfigurationError("unpriced_as and rates are for a limit in money, not in tokens")
    try:
        terms = Terms(
            name="-",
            unit=unit,
            limit=amount,
            per=cast("Any", per),
            since=since,
            until=until,
            where=_where(where),
            each=None if each is None else _field("each", each),
            tz=tz,
            mode=mode,
            unpriced_as=_unpriced(unpriced_as),
            rates=_rates(rates),
        )
        if name is not None and not isinstance(name, str):
            raise wrong_option("name", name, "a text")
        return msgspec.structs.replace(terms, name=_name_of(terms) if name is None else name)
    except InvalidValue as error:
        raise ConfigurationError(str(error)) from error


def _limit(limit: object, tokens: object) -> tuple[str, int]:
    if (limit is None) == (tokens is None):
        raise ConfigurationError(
            'a budget has either a limit in money, such as "50 CNY", or tokens=…'
        )
    if limit is None:
        if type(tokens) is not int or tokens < 0:
            raise wrong_option("tokens", tokens, "a whole number, at least 0")
        return TOKENS, tokens
    form = re.fullmatch(r"\s*(\S+)\s+(\S+)\s*", limit) if isinstance(limit, str) else None
    if form is None:
        raise wrong_option("limit", limit, 'an amount and a currency, such as "50 CNY"')
    amount, code = form.groups()
    if code not in CURRENCIES:
        raise wrong_option("limit", limit, f"a currency of ISO 4217 instead of {code}")
    return code, _nano("limit", amount, shown=limit)


def _nano(name: str, value: object, *, shown: object = None, scale: int = 1) -> int:
    """*value* in nano-units, rounded up after it was divided by *scale*."""
    wrong = wrong_option(name, value if shown is None else shown, "an amount that is not negative")
    if isinstance(value, bool) or not isinstance(value, (Decimal, int, float, str)):
        raise wrong
    try:
        # A float by what is written, which is what was meant.
        amount = Decimal(str(value))
        if not amount.is_finite() or amount < 0:
            raise wrong
        if scale != 1:
            amount = EXACT.divide(amount, Decimal(scale))
            nano = EXACT.scaleb(amount, 9).to_integral_value(rounding=ROUND_CEILING, context=EXACT)
            amount = EXACT.scaleb(nano, -9)
        return to_nano(amount)
    except (InvalidOperation, InvalidValue):
        raise wrong from None


def _window(per: tuple[object, ...]) -> tuple[datetime, datetime]:
    wrong = wrong_option("per", per, "two datetimes with time zones, the earlier one first")
    if len(per) != 2 or not all(
        isinstance(moment, datetime) and moment.tzinfo is not None for moment in per
    ):
        raise wrong
    since, until = cast("tuple[datetime, datetime]", per)
    if since >= until:
        raise wrong
    return since, until


def _field(option: str, name: object) -> str:
    if not isinstance(name, str):
        raise wrong_option(option, name, "the name of a field, or tags.<key>")
    field = field_name(name, KNOWN_BEFORE)
    if field.startswith(TAG_PREFIX + MARK_PREFIX):
        raise wrong_option(option, name, "a tag of yours, since those are put on calls later")
    return field


def _where(where: object) -> dict[str, tuple[str | None, ...]]:
    if where is None:
        return {}
    if not isinstance(where, Mapping):
        raise wrong_option("where", where, "a mapping of fields to values")
    return {
        _field("where", name): _values(name, value)
        for name, value in cast("Mapping[object, object]", where).items()
    }


def _values(name: object, value: object) -> tuple[str | None, ...]:
    several = isinstance(value, (list, tuple, set, frozenset))
    found: list[str | None] = []
    for each in cast("Collection[object]", value) if several else (value,):
        # As for a context: a number is the text of it.
        if isinstance(each, int) and not isinstance(each, bool):
            each = str(each)
        if each is not None and not isinstance(each, str):
            raise wrong_option(f"where[{name}]", each, "a text, several, or None for not set")
        found.append(each)
    if not found:
        raise wrong_option(f"where[{name}]", value, "at least one value")
    return tuple(found)


def _unpriced(prices: object) -> tuple[int, int] | None:
    if prices is None:
        return None
    both = cast("tuple[object, ...]", prices) if isinstance(prices, (tuple, list)) else ()
    if len(both) != 2:
        raise wrong_option(
            "unpriced_as",
            cast("object", prices),
            "the price of a million tokens of input, and of output",
        )
    of_input, of_output = both
    return (
        _nano("unpriced_as", of_input, scale=_MILLION),
        _nano("unpriced_as", of_output, scale=_MILLION),
    )


def _rates(rates: object) -> dict[str, str]:
    if rates is None:
        return {}
    if not isinstance(rates, Mapping):
        raise wrong_option("rates", rates, 'a mapping such as {"USD": "7.1"}')
    return {str(code): str(rate) for code, rate in cast("Mapping[object, object]", rates).items()}


def _name_of(terms: Terms) -> str:
    """A name that says what it is, so that an unnamed budget never changes another one."""
    if terms.unit == TOKENS:
        amount = str(terms.limit)
    else:
        amount = f"{EXACT.scaleb(Decimal(terms.limit), -9).normalize():f}"
    parts = [terms.mode, amount, terms.unit, _shown_per(terms)]
    if terms.each is not None:
        parts.append(f"for each {terms.each}")
    for field, values in terms.where.items():
        shown = " or ".join("none" if value is None else value for value in values)
        parts.append(f"where {field} is {shown}")
    if terms.tz != "UTC":
        parts.append(f"in {terms.tz}")
    return label(" ".join(parts))


def _count(name: str, value: object) -> int:
    if type(value) is not int or not 0 <= value <= LARGEST:
        raise wrong_option(name, value, "a whole number of tokens, at least 0")
    return value


def _shares(warn_at: object) -> tuple[float, ...]:
    if isinstance(warn_at, (int, float)):
        warn_at = (warn_at,)
    if not isinstance(warn_at, Iterable) or isinstance(warn_at, (str, bytes)):
        raise wrong_option("warn_at", warn_at, "shares of the limit, such as (0.5, 0.8, 1.0)")
    shares: list[float] = []
    for share in cast("Iterable[object]", warn_at):
        # False for NaN as well.
        if (
            isinstance(share, bool)
            or not isinstance(share, (int, float, Decimal))
            or not 0 < share < 1e9
        ):
            raise wrong_option("warn_at", share, "shares of the limit above 0, such as 0.8")
        shares.append(float(share))
    return tuple(sorted(set(shares)))


def _lease_ttl(seconds: object) -> float:
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, (int, float))
        or not 1 <= seconds <= 86_400
    ):
        raise wrong_option("lease_ttl", seconds, "seconds, from 1 to 86400")
    return float(seconds)
