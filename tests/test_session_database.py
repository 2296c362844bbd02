"""Sessions that outlive the server: rows, refills, marks, and what revokes them."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
import redis
from django.apps import apps
from django.contrib.sessions.backends.base import UpdateError
from django.core.management import call_command
from django.db import connection, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from rustauth_django import secondary_storage
from rustauth_django.connections import get_stores
from rustauth_django.engine.operations import Delete
from rustauth_django.engine.plans import Call
from rustauth_django.sessions import list_sessions, revoke_session, revoke_sessions
from rustauth_django.sessions.cookies import sign
from rustauth_django.sessions.index import new_token
from rustauth_django.sessions.rows import key_of
from rustauth_django.sessions.store import user_sessions

from .people import person
from .servers import EACH_SERVER, Server
from .site import Site
from .stepwise import after_step
from .test_session_saving import (
    age,
    test_a_session_is_prolonged_by_its_own_age,
    test_a_session_with_a_fixed_end_keeps_it,
    test_a_user_has_one_spelling,
    test_ids_are_unique_however_a_session_gets_a_new_key,
    test_the_serializer_is_the_site_s,
)
from .test_sessions import (
    ENGINE,
    Store,
    data_of,
    hash_of,
    index,
    rustauths,
    stored,
    test_a_new_key_moves_the_index,
    test_a_refresh_by_rustauth_ends_no_login_of_djangos,
    test_a_session_of_rustauths_is_nobodys_at_django,
    test_a_session_that_changes_hands_changes_its_index,
    test_a_session_that_never_was_is_not_saved,
    test_creating_never_overwrites,
    test_of_two_requests_that_get_a_new_key_neither_loses_its_data,
    test_saving_never_brings_a_session_back,
    test_visitors_have_sessions_too,
    test_what_django_adds_to_a_session_of_rustauths_is_beside_it,
)

# The tests are those without a table; here they find this module's fixtures.
__all__ = [
    "rustauths",
    "test_a_new_key_moves_the_index",
    "test_a_refresh_by_rustauth_ends_no_login_of_djangos",
    "test_a_session_is_prolonged_by_its_own_age",
    "test_a_session_of_rustauths_is_nobodys_at_django",
    "test_a_session_that_changes_hands_changes_its_index",
    "test_a_session_that_never_was_is_not_saved",
    "test_a_session_with_a_fixed_end_keeps_it",
    "test_a_user_has_one_spelling",
    "test_creating_never_overwrites",
    "test_ids_are_unique_however_a_session_gets_a_new_key",
    "test_of_two_requests_that_get_a_new_key_neither_loses_its_data",
    "test_saving_never_brings_a_session_back",
    "test_the_serializer_is_the_site_s",
    "test_visitors_have_sessions_too",
    "test_what_django_adds_to_a_session_of_rustauths_is_beside_it",
]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(params=EACH_SERVER)
def own(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that a test may empty and stop."""
    with Server(request.param) as server:
        yield server


@pytest.fixture
def store(own: Server, prefix: str, runner: asyncio.Runner | None) -> Iterator[Store]:
    site = Site(own.plain_url, prefix, runner, **ENGINE)
    site.base |= {
        "SESSIONS": {"DATABASE": "default"},
        "CLIENT_OPTIONS": {"socket_timeout": 2, "socket_connect_timeout": 2},
    }
    site.configure(ENABLED=False)
    yield Store(site)
    if runner:
        runner.run(get_stores().aclose())
    site.close()


def rows() -> Any:
    return apps.get_model("rustauth_django", "SessionRow").objects.all()


def restart(server: Server) -> None:
    server.kill()
    server.start()


def signed_in(store: Store, user_id: str = "1", **data: Any) -> Any:
    session = store(_auth_user_id=user_id, **data)
    session.save()
    return session


def seen(store: Store, session: Any) -> Any:
    """What the next request finds in a session."""
    return store(session.target.session_key).get("cart")


def test_an_emptied_server_signs_nobody_out(store: Store, own: Server) -> None:
    """SESS-25: the row answers and the server is filled again: record, hash and index."""
    session = signed_in(store, cart=[1])
    token = session.target.token
    before = stored(token), hash_of(token)
    restart(own)
    assert secondary_storage.list_keys() == []
    assert seen(store, session) == [1]
    assert (stored(token), hash_of(token)) == before
    assert index() == [token]
    assert (secondary_storage.ttl(f"session:{token}") or 0) > 13 * 86_400
    with CaptureQueriesContext(connection) as queries:
        assert seen(store, session) == [1]
    assert len(queries) == 0


def test_a_copy_of_the_table_signs_nobody_in(store: Store) -> None:
    """It has no token and no key; and no foreign key to anything."""
    session = signed_in(store, cart=[1])
    (row,) = rows()
    assert row.key == key_of(session.target.token)
    text = repr(list(rows().values()))
    assert session.target.token not in text
    assert row.user_id == "1"
    assert not [field for field in row._meta.get_fields() if field.is_relation]


def test_sessions_cost_the_queries_of_djangos_engine(store: Store) -> None:
    """One for each that begins, is saved or gets a new key, two for one that is removed, as there;
    none for what is read.
    """
    if store.runner is not None:
        pytest.skip("queries of another thread cannot be counted")
    seen(store, signed_in(store))  # the first contact looks for marks
    costs = {}

    def count(what: str, call: Any) -> None:
        with CaptureQueriesContext(connection) as queries:
            call()
        writes = [
            q["sql"] for q in queries if not q["sql"].startswith(("SAVEPOINT", "RELEASE", "BEGIN"))
        ]
        costs[what] = len([sql for sql in writes if sql != "COMMIT"])

    session = store(_auth_user_id="1")
    count("begin", session.save)
    count("read", lambda: seen(store, session))
    store.put(session, "cart", [1])
    count("save", session.save)
    count("cycle", session.cycle_key)
    count("remove", session.flush)
    assert costs == {"begin": 1, "read": 0, "save": 1, "cycle": 1, "remove": 2}


def test_the_server_may_be_away(store: Store, own: Server) -> None:
    """Sessions are read from the table and saved to it; then the server answers what was saved."""
    session, other = signed_in(store, cart=[1]), signed_in(store, "2")
    own.stop_answering()
    try:
        assert seen(store, session) == [1]
        again = store(session.target.session_key)
        again.get("cart")
        store.put(again, "cart", [2])
        again.save()
        new = signed_in(store, cart=[3])
        assert seen(store, session) == [2]
        assert len(list_sessions(person(1))) == 2
        assert revoke_sessions(person(2)) == 1
        assert seen(store, other) is None
    finally:
        own.answer_again()
    assert data_of(session.target.token)["cart"] == [1]
    assert seen(store, session) == [2]
    assert data_of(session.target.token)["cart"] == [2]
    assert store(other.target.session_key).load() == {}
    assert seen(store, new) == [3]
    assert not rows().exclude(mark=0).exists()
    assert rows().count() == 2


def test_sign_out_holds_while_the_server_is_away(store: Store, own: Server) -> None:
    """Also when the server comes back with what it had; then nothing of it is left."""
    session = signed_in(store)
    moved = signed_in(store, cart=[1])
    old = moved.target.session_key
    own.stop_answering()
    try:
        session.flush()
        moved.cycle_key()
    finally:
        own.answer_again()
    assert store(old).load() == {}
    assert seen(store, moved) == [1]
    assert index() == [moved.target.token]
    assert rows().count() == 1


def test_a_new_process_applies_marks_first(store: Store, own: Server) -> None:
    """One that has not seen the outage, and begins afterwards."""
    session = signed_in(store, cart=[1])
    own.stop_answering()
    try:
        revoke_sessions(person(1))
    finally:
        own.answer_again()
    with override_settings(DEBUG=True):  # builds everything anew
        assert store(session.target.session_key).load() == {}
    assert stored(session.target.token) is None
    assert rows().count() == 0


@pytest.mark.parametrize("way", ["one", "all", "user", "remove"])
def test_a_revocation_ends_row_and_server(store: Store, own: Server, way: str) -> None:
    """SESS-11, SESS-29, QUIRK-01: an emptied server does not bring it back; others go on."""
    session, other = signed_in(store), signed_in(store, "2", cart=[2])
    (info,) = list_sessions(person(1))
    if way == "one":
        assert revoke_session(person(1), info.id)
    elif way == "remove":
        session.delete()
    else:
        assert revoke_sessions(person(1)) == 1
    assert stored(session.target.token) is None
    restart(own)
    assert store(session.target.session_key).load() == {}
    assert seen(store, other) == [2]
    assert rows().count() == 1


def test_what_the_server_has_lost_is_revoked_too(store: Store, own: Server) -> None:
    """Sessions that no index has are rows of their user."""
    session = signed_in(store)
    restart(own)
    assert len(list_sessions(person(1))) == 1
    assert revoke_sessions(person(1)) == 1
    assert store(session.target.session_key).load() == {}


def test_a_revocation_that_is_rolled_back_revokes_nothing(store: Store) -> None:
    """Row and server end together."""
    session = signed_in(store, cart=[1])
    if store.runner is not None:
        pytest.skip("async code has no transactions")
    with transaction.atomic():
        assert revoke_sessions(person(1)) == 1
        transaction.set_rollback(True)
    assert seen(store, session) == [1]
    with transaction.atomic():
        revoke_sessions(person(1))
    assert seen(store, session) is None


def test_a_refill_is_provisional_until_its_row_was_read_again(store: Store, own: Server) -> None:
    """A copy that a process has left behind answers nobody; and it is gone in seconds."""
    session = signed_in(store, cart=[1])
    token = session.target.token
    restart(own)
    plan, backend, answer = user_sessions().find(token), get_stores().backend, None
    is_looked_at = False
    try:
        while True:
            step = plan.send(answer)
            if isinstance(step, Call) and step.function == step.function.__self__.confirm:  # type: ignore[attr-defined]
                assert (hash_of(token) or {})["state"].startswith(b"fill ")
                assert 0 < (secondary_storage.ttl(f"session:{token}") or 0) <= 5
                rows().delete()
                assert store(session.target.session_key).load() == {}
                is_looked_at = True
            answer = step.run() if isinstance(step, Call) else backend.run(step)
    except StopIteration as end:
        found = end.value
    assert is_looked_at
    assert found is None
    assert (hash_of(token) or {}).get("state", b"fill").startswith(b"fill")


def test_a_session_that_began_without_a_table_gets_a_row(store: Store) -> None:
    """As it is saved; until then the server answers alone."""
    with_table = dict(store_settings())
    without = {**with_table, "SESSIONS": {}}
    with override_settings(RUSTAUTH=without):
        session = signed_in(store, cart=[1])
    assert rows().count() == 0
    assert seen(store, session) == [1]
    again = store(session.target.session_key)
    again.get("cart")
    store.put(again, "cart", [2])
    again.save()
    assert rows().count() == 1
    assert seen(store, session) == [2]
    revoked = store(session.target.session_key)
    revoked.get("cart")
    store.put(revoked, "cart", [3])
    revoke_sessions(person(1))
    with pytest.raises(UpdateError):
        revoked.save()


def store_settings() -> Any:
    from django.conf import settings

    return settings.RUSTAUTH


def test_clearsessions_removes_what_has_expired(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """And nothing else."""
    signed_in(store, cart=[1])
    expired = signed_in(store, "2")
    past = datetime.now(UTC) - timedelta(seconds=1)
    rows().filter(key=key_of(expired.target.token)).update(expires_at=past.timestamp() * 1000)
    call_command("clearsessions")
    assert rows().count() == 1
    assert "Removed 1 expired session" in capsys.readouterr().out


def test_the_migration_is_all_there_is_to_it(store: Store) -> None:
    """SESS-16: models and migrations agree, and a site without the setting writes no row."""
    call_command("makemigrations", "rustauth_django", check=True, dry_run=True, verbosity=0)
    with override_settings(RUSTAUTH={**store_settings(), "SESSIONS": {}}):
        with CaptureQueriesContext(connection) as queries:
            session = signed_in(store)
            seen(store, session)
            session.flush()
        assert len(queries) == 0


def without_a_table(store: Store, **data: Any) -> Any:
    """A session that began before the setting was there."""
    with override_settings(RUSTAUTH={**store_settings(), "SESSIONS": {}}):
        return signed_in(store, **data)


def test_a_save_gives_no_row_to_what_was_revoked(store: Store) -> None:
    """QUIRK-03: a session without a row that another request has ended."""
    session = without_a_table(store, cart=[1])
    late = store(session.target.session_key)
    assert late.get("cart") == [1]
    store.put(late, "cart", [2])
    assert revoke_sessions(person(1)) == 1
    with pytest.raises(UpdateError):
        late.save()
    assert rows().count() == 0
    assert store(session.target.session_key).load() == {}


def test_two_requests_may_give_a_session_its_row(store: Store) -> None:
    """Neither of them fails."""
    session = without_a_table(store)
    both = [store(session.target.session_key) for _ in range(2)]
    for number, one in enumerate(both):
        assert one.get("cart") is None
        store.put(one, "cart", [number])
    for one in both:
        one.save()
    assert seen(store, session) == [1]
    assert rows().count() == 1


def test_a_revocation_while_the_server_is_away_covers_what_has_no_row(
    store: Store, own: Server
) -> None:
    """As soon as the server is there again; who signs in later is not meant."""
    session = without_a_table(store, cart=[1])
    signed_in(store)
    own.stop_answering()
    try:
        assert revoke_sessions(person(1)) == 1
    finally:
        own.answer_again()
    later = signed_in(store, cart=[3])
    assert store(session.target.session_key).load() == {}
    assert stored(session.target.token) is None
    assert seen(store, later) == [3]
    assert index() == [later.target.token]


def test_a_marked_row_that_cannot_be_read_holds_up_no_other(store: Store, own: Server) -> None:
    """Somebody else has written into it. The change of the other one is caught up with."""
    broken, other = signed_in(store, cart=[1]), signed_in(store, cart=[1])
    own.kill()
    for session in (broken, other):
        store.put(session, "cart", [2])
        session.save()
    rows().filter(key=key_of(broken.target.token)).update(record="{")
    own.start()
    assert seen(store, other) == [2]
    assert seen(store, broken) is None
    assert not rows().exclude(mark=0)


def test_everybody_is_signed_out_and_counted_once(store: Store, own: Server) -> None:
    """Who is known to the server, who is known to the table alone, and who has no row."""
    lost = signed_in(store, cart=[1])
    restart(own)
    known = signed_in(store, "2", cart=[1])
    rowless = signed_in(store, "3", cart=[1])
    rows().filter(key=key_of(rowless.target.token)).delete()
    gone = signed_in(store, "4", cart=[1])
    rows().filter(key=key_of(gone.target.token)).update(is_ended=True)
    out = StringIO()
    call_command("rustauth_sessions", "revoke", "--all", stdout=out)
    assert out.getvalue() == "Revoked 4 sessions of everybody.\n"
    assert not rows()
    assert [seen(store, session) for session in (lost, known, rowless, gone)] == [None] * 4


def test_a_save_does_not_undo_a_sign_out(store: Store) -> None:
    """It may give the session a row again between the two steps in which row and copy end."""
    session = signed_in(store, cart=[1])
    token, late = session.target.token, store(session.target.session_key)
    assert late.get("cart") == [1]
    store.put(late, "cart", [2])
    assert after_step(1, user_sessions().remove(token, "1"), late.save)
    assert not rows()
    assert seen(store, session) is None


def test_a_lost_half_is_filled_again(store: Store) -> None:
    """Whichever of the two keys the server has lost: the row knows both, and is asked once."""
    session = signed_in(store, cart=[1])
    token = session.target.token
    whole = stored(token), hash_of(token)
    prefix = get_stores().secondary_storage.keyspace.prefix
    for kind in ("django", "secondary"):
        get_stores().backend.run(Delete(f"{prefix}{kind}:session:{token}"))
        assert seen(store, session) == [1]
        assert (stored(token), hash_of(token)) == whole
        assert (secondary_storage.ttl(f"session:{token}") or 0) > 13 * 86_400
        with CaptureQueriesContext(connection) as queries:
            assert seen(store, session) == [1]
        assert len(queries) == 0


@pytest.mark.parametrize("missed", ["row", "server", "no row"])
def test_a_session_that_missed_a_visit_is_prolonged_again(store: Store, missed: str) -> None:
    """In the row, on the server, or since the table was emptied: the other half catches up."""
    session = signed_in(store, cart=[1])
    token = session.target.token
    age(token)
    if missed == "no row":
        rows().delete()
    else:
        visit = json.loads(rows().get().visit)
        visit["seen_at"] = str(int(visit["seen_at"]) + (-1000 if missed == "row" else 1000))
        rows().update(visit=json.dumps(visit))
    before = (hash_of(token) or {})["seen_at"]
    again = store(session.target.session_key)
    assert again.get("cart") == [1]
    again.save()
    after = (hash_of(token) or {})["seen_at"]
    assert int(after) - int(before) > 86_400_000
    assert (secondary_storage.ttl(f"session:{token}") or 0) > 13 * 86_400
    if missed != "no row":
        assert json.loads(rows().get().visit)["seen_at"].encode() == after


def test_a_process_that_noticed_nothing_looks_for_marks(store: Store, own: Server) -> None:
    """Every half minute, with one query."""
    session = signed_in(store, cart=[1])
    assert seen(store, session) == [1]
    # Another process revokes while the server does not answer to it.
    rows().update(is_ended=True, mark=7)
    assert seen(store, session) == [1]
    sessions, now = user_sessions(), datetime.now(UTC)
    sessions.clock = lambda: now + timedelta(seconds=31)
    assert seen(store, session) is None
    assert (stored(session.target.token), rows().count()) == (None, 0)


def test_a_full_server_answers_from_the_table(store: Store, own: Server) -> None:
    """What it lacks and cannot take."""
    session, other = signed_in(store, cart=[1]), signed_in(store, "2", cart=[2])
    assert seen(store, session) == [1]
    secondary_storage.clear()
    with redis.Redis.from_url(own.plain_url) as raw:
        raw.config_set("maxmemory", "1")
        assert seen(store, session) == [1]
        again = store(other.target.session_key)
        again.get("cart")
        store.put(again, "cart", [3])
        again.save()
        assert seen(store, other) == [3]
        new = signed_in(store, cart=[4])
        assert seen(store, new) == [4]
        raw.config_set("maxmemory", "0")
    assert [seen(store, one) for one in (session, other, new)] == [[1], [3], [4]]


def test_too_many_sessions_are_counted_by_their_rows(store: Store, own: Server) -> None:
    """Though an emptied server knows of none; the oldest end."""
    limited = {**store_settings(), "SESSIONS": {"DATABASE": "default", "MAX_PER_USER": 2}}
    with override_settings(RUSTAUTH=limited):
        made = [signed_in(store, cart=[number]) for number in range(2)]
        restart(own)
        made += [signed_in(store, cart=[number]) for number in range(2, 5)]
        assert [seen(store, one) for one in made] == [None, None, None, [3], [4]]
        assert rows().count() == 2


def step_until(plan: Any, is_it: Any) -> Any:
    """Drive a plan until the next step is the one that is meant; that step."""
    backend, answer = get_stores().backend, None
    while True:
        step = plan.send(answer)
        if is_it(step):
            return step
        answer = step.run() if isinstance(step, Call) else backend.run(step)


def finish(plan: Any, step: Any) -> Any:
    """Drive a plan from this step to its end; its result."""
    backend = get_stores().backend
    try:
        while True:
            step = plan.send(step.run() if isinstance(step, Call) else backend.run(step))
    except StopIteration as end:
        return end.value


def test_a_refill_does_not_undo_a_save(store: Store, own: Server) -> None:
    """A reader that has read the row before it was changed."""
    session = signed_in(store, cart=[0])
    saver = store(session.target.session_key)
    assert saver.get("cart") == [0]
    restart(own)
    reader = user_sessions().find(session.target.token)
    step = step_until(reader, lambda one: getattr(one, "how", "") == "FILL")
    store.put(saver, "cart", [1])
    saver.save()
    finish(reader, step)
    assert seen(store, session) == [1]
    again = step_until(plan := user_sessions().find(session.target.token), lambda one: True)
    assert finish(plan, again) is not None
    assert seen(store, session) == [1]


def test_a_confirmation_is_for_its_own_copy(store: Store, own: Server) -> None:
    """Not for one that another reader has filled in since the session was revoked."""
    session = signed_in(store, cart=[0])
    token = session.target.token
    restart(own)
    first, second = user_sessions().find(token), user_sessions().find(token)
    confirming = step_until(first, lambda one: getattr(one, "how", "") == "CONFIRM")
    filling = step_until(second, lambda one: getattr(one, "how", "") == "FILL")
    assert revoke_sessions(person(1)) == 1
    answer = get_stores().backend.run(filling)
    finish(first, confirming)
    assert store(session.target.session_key).load() == {}
    second.send(answer)
    second.close()
    assert store(session.target.session_key).load() == {}


def test_a_login_during_a_revocation_is_whole(store: Store) -> None:
    """It has ended, or it has begun afterwards, with a row; nothing in between."""
    session = store(_auth_user_id="1", cart=[1])
    session.target._session_key = sign(new_token())
    plan = session.target._saving(session.target._session, must_create=True)
    step = step_until(plan, lambda one: isinstance(one, Call) and one.function.__name__ == "insert")
    assert revoke_sessions(person(1)) >= 0
    finish(plan, step)
    alive = seen(store, session) == [1]
    assert rows().count() == int(alive)
    assert revoke_sessions(person(1)) == int(alive)
    assert seen(store, session) is None
