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
        st.sampled_from([1, 1, 1, 2, 3, 0, -1, -2, -9]),
    ),
    min_size=1,
    max_size=30,
)


@given(steps)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_lua_and_python_agree(raw: redis.Redis, prefix: str, walk: list[Any]) -> None:
    """RL-08 to RL-12: random times, windows, limits and costs; same outcome and state, always."""
    script = raw.register_script(rustauth.SCRIPT.text)
    raw.delete(prefix)
    state, now_ms = None, T
    for gap, window_ms, limit, cost in walk:
        now_ms += gap
        rule = RateLimitRule(window_ms / 1000, limit)
        outcome, new_state = rustauth.step(state, now_ms, rule.window_ms, limit, cost)
        reply = script(keys=[prefix], args=rustauth.arguments(rule, now_ms, cost))
        assert rustauth.read_reply(reply) == outcome
        state = new_state or state
        # The server drops a short-lived bucket by its own clock, not by the walk's.
        raw.persist(prefix)
        assert raw.hgetall(prefix) == (
            {"count": str(state.count), "last_request": str(state.last_request)} if state else {}
        )
