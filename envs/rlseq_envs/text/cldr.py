"""A parallel corpus made from Unicode's locale data (CLDR), through Babel, with nothing to download.

Each sentence is a list of one to three clauses: dates, times, spans, durations, measures, amounts of money, numbers,
names of countries and languages. Values are drawn once and written in two locales, so translating needs names, plural
forms, another order of words, other separators and, between some locales, the way from a 12- to a 24-hour clock.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches
from functools import partial
from typing import Literal

from babel import Locale, UnknownLocaleError, dates, lists, numbers, units
from babel.localedata import locale_identifiers

from rlseq_envs.text.corpus import ParallelText
from rlseq_envs.text.storage import TextRows

Clause = Callable[[Locale], str]
DateStyle = Literal["full", "long", "medium"]
ListStyle = Literal["standard", "or"]

_MEASURES = (
    "length-kilometer length-meter length-centimeter length-mile length-foot mass-kilogram mass-gram mass-pound "
    "speed-kilometer-per-hour speed-meter-per-second speed-mile-per-hour temperature-celsius temperature-fahrenheit "
    "digital-gigabyte digital-megabyte area-square-kilometer area-hectare volume-liter volume-cubic-meter "
    "energy-kilowatt-hour power-watt angle-degree duration-year duration-month duration-week duration-day "
    "duration-hour duration-minute duration-second"
).split()
_RELATIVE_SECONDS = {"year": 31536000, "month": 2592000, "week": 604800, "day": 86400, "hour": 3600, "minute": 60}
_CURRENCIES = "USD EUR GBP JPY CHF CNY INR SEK NOK DKK PLN CZK BRL CAD AUD MXN KRW TRY ZAR RUB".split()
_SKELETONS = ("yMMMM", "MMMMd", "yMMMEd", "yMMMd", "MEd", "yQQQQ", "MMMEd")
_SPAN_SKELETONS = ("yMMMd", "yMMMM", "MMMd", "yMMMEd")
_DATE_STYLES: tuple[DateStyle, ...] = ("full", "long", "medium")
_LIST_STYLES: tuple[ListStyle, ...] = ("standard", "or")
_LENGTH_WEIGHTS = (30, 45, 25)  # of one, two and three clauses
_FIRST_DAY = datetime(1900, 1, 1)
_NUM_DAYS = 73_000
_MAX_DRAWS_PER_PAIR = 50


def parse_locales(source: str, target: str) -> tuple[Locale, Locale]:
    """The two locales of these names.

    Raises:
        ValueError: A name is no locale Babel has data for, or both are the same; all that is wrong is named.
    """
    faults = [fault for fault in (_locale_fault("source", source), _locale_fault("target", target)) if fault]
    if not faults and source == target:
        faults = [f"both sides are {source!r}, so there is nothing to translate"]
    if faults:
        raise ValueError("locales of the made corpus: " + "; ".join(faults))
    return Locale.parse(source), Locale.parse(target)


def _locale_fault(side: str, name: str) -> str | None:
    try:
        Locale.parse(name)
    except (UnknownLocaleError, ValueError, TypeError):
        near = get_close_matches(str(name), locale_identifiers(), n=3, cutoff=0.4)
        return f"the {side} locale {name!r} is not in CLDR" + (f" (near it: {', '.join(near)})" if near else "")
    return None


@dataclass(frozen=True)
class _Inventory:
    """What both locales can name."""

    territories: list[str]
    languages: list[str]
    skeletons: list[str]

    @classmethod
    def common(cls, source: Locale, target: Locale) -> _Inventory:
        territories = source.territories.keys() & target.territories.keys()
        languages = source.languages.keys() & target.languages.keys()
        return cls(
            territories=sorted(code for code in territories if len(code) == 2 and code.isalpha()),
            languages=sorted(code for code in languages if len(code) == 2),
            skeletons=[
                key for key in _SKELETONS if key in source.datetime_skeletons and key in target.datetime_skeletons
            ],
        )


def _instant(rng: random.Random) -> datetime:
    return _FIRST_DAY + timedelta(days=rng.randrange(_NUM_DAYS), minutes=rng.randrange(1440))


def _quantity(rng: random.Random) -> float:
    """A number whose size and number of decimals vary."""
    decimals = rng.choice((0, 0, 0, 1, 2))
    value = round(10 ** rng.uniform(0, 4), decimals)
    return int(value) if decimals == 0 else value


def _date(rng: random.Random, inventory: _Inventory) -> Clause:
    day = _instant(rng)
    if inventory.skeletons and rng.random() < 0.4:
        skeleton = rng.choice(inventory.skeletons)
        return lambda locale: dates.format_skeleton(skeleton, day, locale=locale)
    style = rng.choice(_DATE_STYLES)
    return lambda locale: dates.format_date(day.date(), style, locale)


def _time(rng: random.Random, inventory: _Inventory) -> Clause:
    instant = _instant(rng)
    return lambda locale: dates.format_time(instant, "short", locale=locale)


def _date_and_time(rng: random.Random, inventory: _Inventory) -> Clause:
    instant, style = _instant(rng), rng.choice(_DATE_STYLES)

    def write(locale: Locale) -> str:
        pattern = str(dates.get_datetime_format(style, locale=locale)).replace("'", "")
        written = pattern.replace("{0}", dates.format_time(instant, "short", locale=locale))
        return written.replace("{1}", dates.format_date(instant.date(), style, locale))

    return write


def _span(rng: random.Random, inventory: _Inventory) -> Clause:
    start, skeleton = _instant(rng), rng.choice(_SPAN_SKELETONS)
    end = start + timedelta(days=rng.randrange(1, 400))
    return lambda locale: str(dates.format_interval(start.date(), end.date(), skeleton, locale=locale))


def _relative_time(rng: random.Random, inventory: _Inventory) -> Clause:
    unit = rng.choice(tuple(_RELATIVE_SECONDS))
    delta = timedelta(seconds=rng.choice((-1, 1)) * rng.randrange(1, 60) * _RELATIVE_SECONDS[unit])
    return lambda locale: dates.format_timedelta(delta, unit, math.inf, add_direction=True, locale=locale)  # type: ignore[arg-type]


def _duration(rng: random.Random, inventory: _Inventory) -> Clause:
    parts = [(rng.randrange(1, 24), "duration-hour"), (rng.randrange(1, 60), "duration-minute")]
    if rng.random() < 0.5:
        parts.insert(0, (rng.randrange(1, 30), "duration-day"))

    def write(locale: Locale) -> str:
        written = [units.format_unit(value, unit, locale=locale) for value, unit in parts]
        return lists.format_list(written, "unit", locale)

    return write


def _measure(rng: random.Random, inventory: _Inventory) -> Clause:
    value, unit = _quantity(rng), rng.choice(_MEASURES)
    return lambda locale: units.format_unit(value, unit, locale=locale)


def _money(rng: random.Random, inventory: _Inventory) -> Clause:
    value, currency, kind = _quantity(rng), rng.choice(_CURRENCIES), rng.choice(("name", "name", "standard"))
    return lambda locale: numbers.format_currency(value, currency, locale=locale, format_type=kind)  # type: ignore[arg-type]


def _number(rng: random.Random, inventory: _Inventory) -> Clause:
    if rng.random() < 0.3:
        share = round(rng.random(), 3)
        return lambda locale: numbers.format_percent(share, locale=locale, decimal_quantization=False)
    value = round(10 ** rng.uniform(3, 11), -2)
    return lambda locale: numbers.format_compact_decimal(value, format_type="long", locale=locale, fraction_digits=1)


def _territory(rng: random.Random, inventory: _Inventory) -> Clause:
    code = rng.choice(inventory.territories)
    return lambda locale: str(locale.territories[code])


def _language(rng: random.Random, inventory: _Inventory) -> Clause:
    code = rng.choice(inventory.languages)
    return lambda locale: str(locale.languages[code])


_KINDS: dict[Callable[[random.Random, _Inventory], Clause], int] = {
    _date: 16,
    _time: 5,
    _date_and_time: 16,
    _span: 8,
    _relative_time: 10,
    _duration: 8,
    _measure: 14,
    _money: 14,
    _number: 8,
    _territory: 8,
    _language: 4,
}


def _draw_sentence(rng: random.Random, inventory: _Inventory) -> Clause:
    length = rng.choices((1, 2, 3), _LENGTH_WEIGHTS)[0]
    kinds = rng.choices(tuple(_KINDS), tuple(_KINDS.values()), k=length)
    clauses = [kind(rng, inventory) for kind in kinds]
    return partial(_write_list, clauses, rng.choice(_LIST_STYLES))


def _write_list(clauses: Sequence[Clause], style: ListStyle, locale: Locale) -> str:
    return lists.format_list([clause(locale) for clause in clauses], style, locale)


def make_corpus(source: str, target: str, sizes: Sequence[int], seed: int) -> tuple[ParallelText, ...]:
    """Splits of a parallel corpus; the same arguments (and version of CLDR) give the same text.

    Args:
        source: Name of the sources' locale.
        target: Name of the references' locale.
        sizes: Number of pairs of each split; no source sentence is in two splits, or twice in one.
        seed: Of the draws.

    Raises:
        ValueError: A locale is unknown, or there are not as many distinct sentences.
    """
    locales = parse_locales(source, target)
    inventory = _Inventory.common(*locales)
    rng, seen = random.Random(seed), set[str]()
    return tuple(_make_split(locales, inventory, size, rng, seen) for size in sizes)


def _write_pair(write: Clause, locales: tuple[Locale, Locale]) -> tuple[str, str] | None:
    """One sentence in both locales; None if CLDR lacks a pattern or a name for it in either."""
    try:
        return write(locales[0]), write(locales[1])
    except (LookupError, ValueError, AttributeError):
        return None


def _make_split(
    locales: tuple[Locale, Locale], inventory: _Inventory, size: int, rng: random.Random, seen: set[str]
) -> ParallelText:
    pairs: list[tuple[str, str]] = []
    for _ in range(size * _MAX_DRAWS_PER_PAIR):
        if len(pairs) == size:
            break
        written = _write_pair(_draw_sentence(rng, inventory), locales)
        if written is not None and written[0] not in seen:
            seen.add(written[0])
            pairs.append(written)
    if len(pairs) < size:
        raise ValueError(f"CLDR gave only {len(pairs)} of {size} distinct sentences; ask for fewer")
    sources, targets = (TextRows.gather(pair[side] for pair in pairs) for side in (0, 1))
    return ParallelText(sources, (targets,))
