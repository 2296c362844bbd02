"""Sessions on a cluster, where the two halves of a session and the index are on several servers."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.conf import settings as settings_of_django
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from rustauth_django import BackendUnavailable, secondary_storage
from rustauth_django.connections import get_stores
from rustauth_django.engine.plans import drive
from rustauth_django.sessions import list_sessions, revoke_sessions
from rustauth_django.sessions.index import new_token
from rustauth_django.sessions.store import user_sessions

from .clusters import ABLE, Cluster
from .people import person
from .site import Site
from .stepwise import after_step
from .test_session_saving import (
    test_a_login_of_which_two_requests_make_two_has_two_ids,
    test_a_lost_index_has_a_session_again_once_it_is_due,
    test_a_session_is_prolonged_by_its_own_age,
    test_a_session_with_a_fixed_end_keeps_it,
    test_a_user_has_one_spelling,
    test_clearing_the_storage_leaves_nothing,
    test_ids_are_unique_however_a_session_gets_a_new_key,
    test_replacing_what_was_never_read_keeps_the_session,
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
    test_an_expired_session_is_none,
    test_of_two_requests_that_get_a_new_key_neither_loses_its_data,
    test_saving_never_brings_a_session_back,
    test_tokens_that_are_gone_fall_out,
    test_what_django_adds_to_a_session_of_rustauths_is_beside_it,
)
from .test_wire import calls

# The tests are those of a single server; here they find this module's fixtures.
__all__ = [
    "rustauths",
    "test_a_login_of_which_two_requests_make_two_has_two_ids",
    "test_a_lost_index_has_a_session_again_once_it_is_due",
    "test_a_new_key_moves_the_index",
    "test_a_refresh_by_rustauth_ends_no_login_of_djangos",
    "test_a_session_is_prolonged_by_its_own_age",
    "test_a_session_of_rustauths_is_nobodys_at_django",
    "test_a_session_that_changes_hands_changes_its_index",
    "test_a_session_with_a_fixed_end_keeps_it",
    "test_a_user_has_one_spelling",
    "test_an_expired_session_is_none",
    "test_clearing_the_storage_leaves_nothing",
    "test_ids_are_unique_however_a_session_gets_a_new_key",
    "test_of_two_requests_that_get_a_new_key_neither_loses_its_data",
    "test_replacing_what_was_never_read_keeps_the_session",
    "test_saving_never_brings_a_session_back",
    "test_tokens_that_are_gone_fall_out",
    "test_what_django_adds_to_a_session_of_rustauths_is_beside_it",
]

pytestmark = pytest.mark.skipif(not ABLE, reason="there is no server that can be in a cluster")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def store(cluster: Cluster, prefix: str, runner: asyncio.Runner | None) -> Iterator[Store]:
    site = Site(cluster.url, prefix, runner, **ENGINE)
    site.base |= {"CLUSTER": True}
    site.configure(ENABLED=False)
    yield Store(site)
    if runner:
        runner.run(get_stores().aclose())
    site.close()


def test_both_halves_come_and_go(store: Store) -> None:
    """Whichever servers hold them, and whoever looks."""
    made = []
    for number in range(30):
        session = store(_auth_user_id="1", number=number)
        session.save()
        made.append(session.target)
    assert index() == [one.token for one in made]
    for number, one in enumerate(made):
        assert store(one.session_key).get("number") == number
        assert data_of(one.token)["number"] == number
    assert len(list_sessions(person(1))) == 30
    assert revoke_sessions(person(1)) == 30
    assert all(stored(one.token) is hash_of(one.token) is None for one in made)
    assert secondary_storage.list_keys() == []


def test_both_halves_are_read_at_once(store: Store, cluster: Cluster, prefix: str) -> None:
    """A request waits for the slower of the two servers, not for one after the other."""
    while True:
        session = store(_auth_user_id="1", cart=[1])
        session.save()
        token = session.target.token
        halves = f"{prefix}secondary:session:{token}", f"{prefix}django:session:{token}"
        record, hash = (cluster.servers[cluster.owner(key)] for key in halves)
        if record is not hash:
            break
    for silent, other, command in ((record, hash, "hmget"), (hash, record, "get")):
        with redis.Redis(port=other.port) as raw:
            calls(raw)
            silent.stop_answering()
            with pytest.raises(BackendUnavailable):
                store(session.target.session_key).get("cart")
            silent.answer_again()
            assert calls(raw) == {command: 1}
    assert store(session.target.session_key).get("cart") == [1]


def test_a_session_that_gets_a_new_key_can_always_be_revoked(store: Store) -> None:
    """Between any two of the steps, whoever revokes finds one of its tokens."""
    for step in range(1, 7):
        session = store(_auth_user_id="1", cart=[1])
        session.save()
        found = session.target._found
        record = found.record._replace(token=new_token())
        plan = user_sessions().move(found.record, record, found.part)
        move = plan.send(None).across_slots()
        is_moved = after_step(step, move, lambda: drive(revoking(), get_stores().backend.run))
        alive = [token for token in (found.record.token, record.token) if stored(token)]
        assert not (is_moved and alive), step
        assert alive == [], step
        assert index() is None


def revoking() -> Any:
    return user_sessions().revoke("1")


@pytest.mark.django_db(transaction=True)
def test_a_copy_is_confirmed_here_too(store: Store) -> None:
    """So that the table is asked for what the server does not have, and for nothing else."""
    settings = {**settings_of_django.RUSTAUTH, "SESSIONS": {"DATABASE": "default"}}
    with override_settings(RUSTAUTH=settings):
        session = store(_auth_user_id="1", cart=[1])
        session.save()
        token = session.target.token
        assert (hash_of(token) or {})["state"] == b"row"
        secondary_storage.delete(f"session:{token}")
        assert store(session.target.session_key).get("cart") == [1]
        assert (hash_of(token) or {})["state"] == b"row"
        assert (secondary_storage.ttl(f"session:{token}") or 0) > 13 * 86_400
        with CaptureQueriesContext(connection) as queries:
            assert store(session.target.session_key).get("cart") == [1]
        assert len(queries) == 0
        assert revoke_sessions(person(1)) == 1


def test_a_hash_without_a_record_is_nothing(store: Store) -> None:
    """As a server leaves it that fails between the two; and it expires."""
    session = store(_auth_user_id="1")
    session.save()
    token = session.target.token
    secondary_storage.delete(f"session:{token}")
    assert hash_of(token) is not None
    assert store(session.target.session_key).load() == {}
    assert list_sessions(person(1)) == []
    assert hash_of(token) is None
