"""Dates, times, durations and UUIDs as terms: the forms of ISO 8601 that Python writes, with real months and days.

Knows no JSON; whoever wants quotes puts them around.
"""

from __future__ import annotations

from homefire.engine.grammar import Chars, Repeat, Term, choice, seq
from homefire.modules.type_shape import Named

_DIGIT = Chars("0-9")
_HEX = Chars("0-9a-f")


def named_term(shape: Named, *, tight: bool) -> Term:
    """The term of all texts of a date, time, duration or UUID; limits other than time zone and version are left to validation."""
    limits = dict(shape.limits)
    match shape.kind:
        case "date":
            return _date()
        case "time":
            return seq(_clock(tight=tight), _zone(limits, tight=tight))
        case "datetime":
            return seq(_date(), "T", _clock(tight=tight), _zone(limits, tight=tight))
        case "timedelta":
            return _duration(tight=tight)
        case "uuid":
            return _uuid(limits.get("version"))


def _date() -> Term:
    year = choice(
        [
            seq(Chars("1-9"), Repeat(_DIGIT, 3, 3)),
            seq("0", Chars("1-9"), Repeat(_DIGIT, 2, 2)),
            seq("00", Chars("1-9"), _DIGIT),
            seq("000", Chars("1-9")),
        ]
    )
    day_28 = choice([seq("0", Chars("1-9")), seq("1", _DIGIT), seq("2", Chars("0-8"))])
    day_30 = choice([day_28, "29", "30"])
    month_day = choice(
        [
            seq(choice([seq("0", Chars("13578")), "10", "12"]), "-", choice([day_30, "31"])),
            seq(choice([seq("0", Chars("469")), "11"]), "-", day_30),
            seq("02-", day_28),
        ]
    )
    fourth = choice([seq("0", Chars("48")), seq(Chars("2468"), Chars("048")), seq(Chars("13579"), Chars("26"))])
    leap_year = choice([seq(Repeat(_DIGIT, 2, 2), fourth), seq(fourth, "00")])
    return choice([seq(year, "-", month_day), seq(leap_year, "-02-29")])


def _clock(*, tight: bool) -> Term:
    minute = seq(Chars("0-5"), _DIGIT)
    fraction: list[Term | str] = [""] if tight else ["", seq(".", Repeat(_DIGIT, 1, 6))]
    return seq(_hour(), ":", minute, ":", minute, choice(fraction))


def _hour() -> Term:
    return choice([seq(Chars("01"), _DIGIT), seq("2", Chars("0-3"))])


def _zone(limits: dict[str, object], *, tight: bool) -> Term:
    asked = limits.get("tz_constraint")
    if asked == "naive" or (tight and asked != "aware"):
        return seq("")
    ways: list[Term | str] = ["Z", seq(Chars("+-"), _hour(), ":", Chars("0-5"), _DIGIT)]
    return choice(ways if asked == "aware" else ["", *ways])


def _duration(*, tight: bool) -> Term:
    up_to_59 = choice([_DIGIT, seq(Chars("1-5"), _DIGIT)])
    fraction: list[Term | str] = [""] if tight else ["", seq(".", Repeat(_DIGIT, 1, 6))]
    hours, minutes = seq(choice([_DIGIT, seq("1", _DIGIT), seq("2", Chars("0-3"))]), "H"), seq(up_to_59, "M")
    seconds = seq(up_to_59, choice(fraction), "S")
    clock = seq(
        "T",
        choice([seq(hours, choice(["", minutes]), choice(["", seconds])), seq(minutes, choice(["", seconds])), seconds]),
    )
    days = seq(choice(["0", seq(Chars("1-9"), Repeat(_DIGIT, 0, 3 if tight else 7))]), "D")
    return seq(choice(["", "-"]), "P", choice([clock, seq(days, choice(["", clock]))]))


def _uuid(version: object) -> Term:
    third = seq(str(version), Repeat(_HEX, 3, 3)) if version is not None else seq(Repeat(_HEX, 4, 4))
    fourth = seq(Chars("89ab"), Repeat(_HEX, 3, 3)) if version is not None else seq(Repeat(_HEX, 4, 4))
    return seq(Repeat(_HEX, 8, 8), "-", Repeat(_HEX, 4, 4), "-", third, "-", fourth, "-", Repeat(_HEX, 12, 12))
