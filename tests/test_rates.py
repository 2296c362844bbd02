"""Rates as text."""

import pytest

from rustauth_django import InvalidConfig, RateLimitRule
from rustauth_django.limits.grammar import UNITS
from rustauth_django.limits.rates import MAX_LOG


@pytest.mark.parametrize(
    ("text", "max", "window"),
    [
        ("5/m", 5, 60),
        ("100/h", 100, 3600),
        ("3/10s", 3, 10),
        ("1000/day", 1000, 86_400),
        ("2/w", 2, 604_800),
        (" 30 / 15 minutes ", 30, 900),
        ("1/2 weeks", 1, 1_209_600),
    ],
)
def test_a_rate_is_an_exact_log(text: str, max: int, window: int) -> None:
    """Which is what people mean by it."""
    assert RateLimitRule.parse(text) == RateLimitRule(window, max, "sliding-log")


def test_a_rate_that_is_too_large_for_a_log_is_a_fixed_window() -> None:
    """Which never refuses who stays within it either."""
    assert RateLimitRule.parse(f"{MAX_LOG}/d").algorithm == "sliding-log"
    assert RateLimitRule.parse(f"{MAX_LOG + 1}/d").algorithm == "fixed-window"


def test_a_rule_without_an_algorithm_is_what_its_user_makes_of_it() -> None:
    """RustAuth's window in a store, what it says elsewhere; one that names its own is that."""
    rule = RateLimitRule(60, 5)
    assert rule.algorithm is None
    assert (rule.counted_by, rule.slot) == ("rustauth", "")
    assert rule.as_written() == RateLimitRule(60, 5, "sliding-log")
    assert rule.as_written() is rule.as_written()
    assert RateLimitRule(60, MAX_LOG + 1).as_written().algorithm == "fixed-window"
    named = RateLimitRule(60, 5, "rustauth")
    assert named.as_written() is named


def test_a_burst_makes_it_gcra() -> None:
    """So many at once, and evenly from then on."""
    assert RateLimitRule.parse("10/s burst 20") == RateLimitRule(1, 10, "gcra", burst=20)


def test_several_rates_are_joined_by_semicolons() -> None:
    """Each a rule."""
    assert RateLimitRule.parse_all("5/m; 100/h;3/s burst 9") == (
        RateLimitRule(60, 5, "sliding-log"),
        RateLimitRule(3600, 100, "sliding-log"),
        RateLimitRule(1, 3, "gcra", burst=9),
    )
    assert len(RateLimitRule.parse_all("5/m")) == 1


@pytest.mark.parametrize("unit", UNITS)
def test_units_have_names(unit: str) -> None:
    """Short and long."""
    assert RateLimitRule.parse(f"7/{unit}").window == UNITS[unit]


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "5", "/m", "5/", "5m", "m/5", "5/m/s", "5//m", "five/m", "5 per minute"),
        *("0/m", "05/m", "-5/m", "+5/m", "5.0/m", "1e3/m", "1_000/m", "５/m", "5/０m"),
        *("5/0s", "5/1.5h", "5/month", "5/M", "5/mo", "5/y", "5/100", "5/ms", "100/weekly"),
        *("5/m burst", "5/m burst 0", "5/m burst -1", "5/m burst2", "burst 5", "5/m 5/h"),
        *("5/m;", ";5/m", "5/m,100/h", "5/m\n;", "9" * 16 + "/s", "5/" + "9" * 10 + "s"),
    ],
)
def test_junk_is_refused(text: str) -> None:
    """The text is quoted and the grammar shown."""
    with pytest.raises(InvalidConfig, match='is not a rate; write "COUNT/UNIT"') as caught:
        RateLimitRule.parse_all(text)
    assert any(repr(part) in str(caught.value) for part in text.split(";"))


def test_one_rate_is_one_rate() -> None:
    """``parse`` takes no list, and neither takes anything but text."""
    with pytest.raises(InvalidConfig, match="'5/m;100/h' is not a rate"):
        RateLimitRule.parse("5/m;100/h")
    for parse in (RateLimitRule.parse, RateLimitRule.parse_all):
        with pytest.raises(TypeError, match="a rate must be a str, not int"):
            parse(5)  # type: ignore[arg-type]


def test_a_rate_that_no_store_can_count_is_refused() -> None:
    """At once, not when it is used."""
    with pytest.raises(InvalidConfig, match="the rate '9{15}/9{9}w' cannot be counted: .* large"):
        RateLimitRule.parse("999999999999999/999999999w")
