"""The script and the pure function are one algorithm."""

from typing import Any

import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rustauth_django.algorithms import rustauth
from rustauth_django.rates import RateLimitRule

T = 1_700_000_000_000
steps = st.lists(
    st.tuples(
        st.one_of(st.integers(-2_000, 2_000), st.sampled_from([999, 1_000, 1_001])),
        st.one_of(st.integers(1, 3_000), st.just(1_000)),
        st.integers(1, 4),
    ),
    min_size=1,
    max_size=30,
)


@given(steps)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_lua_and_python_agree(raw: redis.Redis, prefix: str, walk: list[Any]) -> None:
    """RL-08 to RL-12: random times, windows and limits; same outcome and same state, always."""
    script = raw.register_script(rustauth.SCRIPT.text)
    raw.delete(prefix)
    state, now_ms = None, T
    for gap, window_ms, limit in walk:
        now_ms += gap
        rule = RateLimitRule(window_ms / 1000, limit)
        outcome = rustauth.step(state, now_ms, rule.window_ms, limit)
        reply = script(keys=[prefix], args=rustauth.arguments(rule, now_ms))
        assert rustauth.read_reply(reply) == outcome
        if outcome.permitted:
            state = rustauth.State(outcome.count, outcome.last_request)
        # The server drops a short-lived bucket by its own clock, not by the walk's.
        raw.persist(prefix)
        assert raw.hgetall(prefix) == {
            "count": str(state and state.count),
            "last_request": str(state and state.last_request),
        }
