"""The session of a request: what ends it, what spares it, and when nobody's is meant."""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth import get_user, get_user_model, login, update_session_auth_hash
from django.contrib.auth.models import AnonymousUser, User
from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import ASGIHandler
from django.core.signals import request_started
from django.db.models.signals import post_delete, post_save
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client, TestCase, override_settings
from django.urls import path

from rustauth_django import secondary_storage, sessions
from rustauth_django.sessions import SessionStore, current
from rustauth_django.sessions.cookies import sign

from .people import PASSWORD
from .servers import Server
from .test_sessions import ENGINE, index, signed_in, stored

pytestmark = pytest.mark.django_db(transaction=True)


def sign_in(request: HttpRequest) -> HttpResponse:
    login(request, get_user_model().objects.get(username=request.GET["name"]))
    return HttpResponse()


def change(request: HttpRequest) -> HttpResponse:
    """Django's way: a new password, and this session goes on."""
    user = get_user_model().objects.get(pk=request.user.pk)
    user.set_password("another horse")
    user.save()
    update_session_auth_hash(request, user)
    return HttpResponse("changed")


async def achange(request: HttpRequest) -> HttpResponse:
    user = await get_user_model().objects.aget(pk=(await request.auser()).pk)
    user.set_password("another horse")
    await user.asave()
    return HttpResponse("changed")


def end(request: HttpRequest) -> HttpResponse:
    """Ends the session that this request has, in one way or another, and goes on."""
    match request.GET["how"]:
        case "one":
            (own,) = [s for s in sessions.list_sessions(request.user, request) if s.is_current]
            assert sessions.revoke_session(request.user, own.id)
        case "all":
            sessions.revoke_sessions(request.user)
        case "key":
            assert sessions.revoke_session(request.user, request.session.session_key)
        case "delete":
            request.user.delete()
        case "deactivate":
            request.user.is_active = False
            request.user.save()
    if request.GET.get("note"):
        request.session["note"] = request.GET["note"]
    return HttpResponse("ended")


async def aend(request: HttpRequest) -> HttpResponse:
    user = await request.auser()
    match request.GET["how"]:
        case "one":
            found = await sessions.alist_sessions(user, request)
            assert await sessions.arevoke_session(user, next(s.id for s in found if s.is_current))
        case "all":
            await sessions.arevoke_sessions(user)
        case "key":
            assert await sessions.arevoke_session(user, request.session.session_key)
        case "delete":
            await user.adelete()
        case "deactivate":
            user.is_active = False
            await user.asave()
    if request.GET.get("note"):
        await request.session.aset("note", request.GET["note"])
    return HttpResponse("ended")


def stream(request: HttpRequest) -> StreamingHttpResponse:
    request.session.get("x")
    return StreamingHttpResponse([b"a", b"b"])


async def astream(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    await request.session.aget("x")
    return StreamingHttpResponse(parts())


def reset(request: HttpRequest) -> HttpResponse:
    """Somebody without a session sets a password, as behind a link in a mail."""
    user = get_user_model().objects.get(username=request.GET["name"])
    user.set_password("another horse")
    user.save()
    return HttpResponse()


urlpatterns = [
    path("sign_in", sign_in),
    path("change", change),
    path("achange", achange),
    path("end", end),
    path("aend", aend),
    path("stream", stream),
    path("astream", astream),
    path("reset", reset),
]


@pytest.fixture(autouse=True)
def site(one_server: Server, prefix: str) -> Iterator[None]:
    """The app's engine with Django's own middleware, and nothing else of the app."""
    middleware = [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ]
    rustauth = {"URL": one_server.url, "KEY_PREFIX": prefix}
    with override_settings(
        **ENGINE, RUSTAUTH=rustauth, MIDDLEWARE=middleware, ROOT_URLCONF=__name__
    ):
        yield


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada", password=PASSWORD)


@pytest.fixture
def grace() -> User:
    return User.objects.create_user("grace", password=PASSWORD)


def client_of(user: User, kind: Any = Client) -> Any:
    client = kind(raise_request_exception=False)
    client.force_login(user)
    return client


def is_in(token: str) -> bool:
    return stored(token) is not None


HOW = ["one", "all", "key", "delete", "deactivate"]


@pytest.mark.parametrize("every_request", [False, True])
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("prefix_of_view", ["", "a"])
def test_to_end_ones_own_session_is_a_flush(
    ada: User, how: str, prefix_of_view: str, every_request: bool
) -> None:
    """The view's response comes through, and the cookie goes."""
    client = client_of(ada)
    token = client.session.token
    with override_settings(SESSION_SAVE_EVERY_REQUEST=every_request):
        response = client.get(f"/{prefix_of_view}end?how={how}")
    assert (response.status_code, response.content) == (HTTPStatus.OK, b"ended")
    assert response.cookies["sessionid"].value == ""
    assert not is_in(token)
    assert secondary_storage.list_keys() == []


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("prefix_of_view", ["", "a"])
async def test_what_is_put_in_afterwards_begins_another_session(
    how: str, prefix_of_view: str
) -> None:
    """An anonymous one, as after ``flush``; under ASGI as well."""
    ada = await User.objects.acreate_user("ada", password=PASSWORD)
    client = AsyncClient(raise_request_exception=False)
    await client.aforce_login(ada)
    token = (await client.asession()).token  # type: ignore[attr-defined]
    response = await client.get(f"/{prefix_of_view}end?how={how}&note=hello")
    assert (response.status_code, response.content) == (HTTPStatus.OK, b"ended")
    session = SessionStore(response.cookies["sessionid"].value)
    assert await session.aload() == {"note": "hello"}
    assert session.token != token
    assert not is_in(token)
    assert stored(session.token or "")["user_id"] == ""


def test_a_session_that_another_request_ends_is_still_a_conflict(ada: User) -> None:
    """Only one's own is flushed."""
    first, second = client_of(ada), client_of(ada)
    token = second.session.token
    first.get("/end?how=all&note=x")
    assert not is_in(token)
    assert second.get("/change").status_code == HTTPStatus.INTERNAL_SERVER_ERROR  # nobody
    assert not is_in(token)


@pytest.mark.parametrize("view", ["change", "achange"])
def test_a_change_of_password_spares_its_own_session(view: str, ada: User, grace: User) -> None:
    """And no other, with one request after the other in the same thread."""
    for user in (ada, grace):
        here, there = client_of(user), client_of(user)
        there.get("/stream")
        assert here.get(f"/{view}").content == b"changed"
        assert index(user.pk) == [here.session.token]


@pytest.mark.parametrize("view", ["change", "achange"])
async def test_a_change_of_password_under_asgi_spares_its_own_session(view: str) -> None:
    """The same in one event loop."""
    ada = await User.objects.acreate_user("ada", password=PASSWORD)
    grace = await User.objects.acreate_user("grace", password=PASSWORD)
    clients = {}
    for user in (ada, grace):
        for place in ("here", "there"):
            clients[user.username, place] = client = AsyncClient()
            await client.aforce_login(user)
    for user in (ada, grace):
        here, there = (clients[user.username, place] for place in ("here", "there"))
        await there.get("/stream")
        response = await here.get(f"/{view}")
        assert response.content == b"changed"
        assert index(user.pk) == [(await here.asession()).token]


def test_a_password_that_is_set_outside_of_a_request_spares_nobody(ada: User) -> None:
    """Nor does a session that plain code has looked at."""
    tokens = [signed_in(ada), signed_in(ada)]
    client = client_of(ada)
    assert b"".join(client.get("/stream")) == b"ab"
    SessionStore(sign(tokens[0])).load()
    ada.set_password("another horse")
    ada.save()
    assert index(ada.pk) is None


def test_a_request_without_a_session_spares_nobody(ada: User) -> None:
    """Not that of the request before, in the same thread."""
    client = client_of(ada)
    assert b"".join(client.get("/stream")) == b"ab"
    Client().get("/reset?name=ada")
    assert index(ada.pk) is None


def test_a_session_belongs_to_its_request() -> None:
    """It is nobody's before, and nobody's after, also in a context that outlives the request."""
    assert current.current_session() is None
    SessionStore()
    assert current.current_session() is None
    current.begin_request(sender=None)
    first = SessionStore()
    SessionStore()
    assert current.current_session() is first
    copied = contextvars.copy_context()
    current.end_request()
    assert current.current_session() is None
    assert copied.run(current.current_session) is None
    copied.run(SessionStore)
    assert copied.run(current.current_session) is None


class Connection:
    """Keeps a connection alive as uvicorn does: the next request runs in a task whose context is
    that in which the last response was sent.
    """

    def __init__(self) -> None:
        self.application = get_asgi_application()
        self.context = contextvars.copy_context()

    async def get(self, url: str, key: str | None = None) -> int:
        path, _, query = url.partition("?")
        cookie = [(b"cookie", f"sessionid={key}".encode())] if key else []
        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "query_string": query.encode(),
            "headers": [(b"host", b"testserver"), *cookie],
        }
        status, is_read = 0, asyncio.Event()

        async def receive() -> dict[str, Any]:
            if is_read.is_set():
                await asyncio.Event().wait()
            is_read.set()
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            self.context = contextvars.copy_context()

        request = self.application(scope, receive, send)
        await asyncio.create_task(request, context=self.context)
        return status


async def test_each_request_of_a_connection_begins_anew() -> None:
    """Though it runs in the context of the one before, after a stream too."""
    ada = await User.objects.acreate_user("ada", password=PASSWORD)
    grace = await User.objects.acreate_user("grace", password=PASSWORD)
    kept = Connection()
    for user in (ada, grace):
        own, other = [(await asyncio.to_thread(client_of, user)).session for _ in range(2)]
        assert await kept.get("/astream", other.session_key) == HTTPStatus.OK
        assert await kept.get("/achange", own.session_key) == HTTPStatus.OK
        assert index(user.pk) == [own.token]
        assert await kept.get("/astream", own.session_key) == HTTPStatus.OK
        assert await kept.get(f"/reset?name={user}") == HTTPStatus.OK
        assert index(user.pk) is None


def test_an_asgi_handler_of_a_sites_own_is_known() -> None:
    """From its second request on; Django's own from the first one."""

    class Handler(ASGIHandler):
        pass

    current.begin_request(sender=Handler)
    assert any(receiver[0][1] == id(Handler) for receiver in request_started.receivers)
    current.end_request()


class DeletingTest(TestCase):
    """What the receivers cost a site that deletes something else."""

    def test_other_models_have_no_receivers(self) -> None:
        """So that Django deletes many rows in one query."""
        from django.contrib.admin.models import LogEntry
        from django.contrib.contenttypes.models import ContentType

        user = User.objects.create_user("ada")
        kind = ContentType.objects.get_for_model(User)
        for number in range(300):
            LogEntry.objects.create(
                user=user, content_type=kind, object_id=str(number), action_flag=1
            )
        with self.assertNumQueries(1):
            LogEntry.objects.all().delete()
        for signal in (post_save, post_delete):
            assert not signal.has_listeners(LogEntry)
            assert signal.has_listeners(User)


@pytest.mark.parametrize("fields", [None, ["password"]])
def test_a_password_that_cannot_be_used_ends_sessions(ada: User, fields: Any) -> None:
    """``set_unusable_password``; but no other save of a user who has had none before."""
    client = client_of(ada)
    assert len(index(ada.pk)) == 1
    ada.set_unusable_password()
    ada.save(update_fields=fields)
    assert index(ada.pk) is None
    assert get_user(_request(client)) == AnonymousUser()
    client = client_of(ada)
    ada.first_name = "Ada"
    ada.save()
    assert len(index(ada.pk)) == 1
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=[settings.SECRET_KEY]):
        ada.save()
        assert len(index(ada.pk)) == 1


def _request(client: Client) -> HttpRequest:
    request = HttpRequest()
    request.session = client.session
    return request
