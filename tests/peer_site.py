"""A site whose users are signed in elsewhere: views of every kind, and who they say is there."""

from typing import Any

from django.contrib.auth import alogin, alogout, login, logout
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from ninja import NinjaAPI
from rest_framework.decorators import api_view, authentication_classes
from rest_framework.request import Request
from rest_framework.response import Response

from rustauth_django.contrib.peers import (
    PeerSession,
    aauthenticate_peer,
    authenticate_peer,
)
from rustauth_django.contrib.peers.ninja import apeer_auth, peer_auth
from rustauth_django.contrib.peers.rest_framework import PeerAuthentication

BACKEND = "django.contrib.auth.backends.ModelBackend"
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "rustauth_django.contrib.peers.PeerSessionMiddleware",
]


def user_for(session: PeerSession) -> User:
    """A user of the site's for each of the peer's, made when first seen."""
    return User.objects.get_or_create(username=session.user_id)[0]


async def auser_for(session: PeerSession) -> User:
    return (await User.objects.aget_or_create(username=session.user_id))[0]


def stranger_for(session: PeerSession) -> User:
    """A user who is never saved."""
    return User(username=session.user_id)


def no_user_for(session: PeerSession) -> None:
    """A site that knows none of them."""


def facts(user: Any, session: PeerSession | None) -> dict[str, Any]:
    return {
        "user": user.username,
        "peer": session and session.peer,
        "user_id": session and session.user_id,
        "session_id": session and session.session_id,
    }


def who(request: HttpRequest) -> HttpResponse:
    return JsonResponse(facts(request.user, request.peer_session))  # type: ignore[attr-defined]


async def awho(request: HttpRequest) -> HttpResponse:
    return JsonResponse(facts(await request.auser(), request.peer_session))  # type: ignore[attr-defined]


def sign_in_another(get_response: Any) -> Any:
    """As middleware for other kinds of tokens does it."""

    def middleware(request: HttpRequest) -> Any:
        request.user = User(pk=9, username="another")
        return get_response(request)

    return middleware


def body(request: HttpRequest) -> HttpResponse:
    """Reads the body by itself, as a webhook does."""
    return JsonResponse({"user": request.user.username, "length": len(request.body)})


def names(request: HttpRequest, user: Any) -> list[Any]:
    session = authenticate_peer(request)
    return [request.user.username, user.username, session and session.peer]


def in_and_out(request: HttpRequest) -> HttpResponse:
    """Who is there at first, after a sign-out, and after a sign-in."""
    found = [names(request, request.user)]
    headers, request.META["HTTP_COOKIE"] = request.META["HTTP_COOKIE"], ""
    logout(request)
    found.append(names(request, request.user))
    request.META["HTTP_COOKIE"] = headers
    login(request, User.objects.get_or_create(username="other")[0], BACKEND)
    found.append(names(request, request.user))
    return JsonResponse(found, safe=False)


async def ain_and_out(request: HttpRequest) -> HttpResponse:
    found = []

    async def note() -> None:
        session = await aauthenticate_peer(request)
        user = await request.auser()
        found.append([request.user.username, user.username, session and session.peer])

    await note()
    headers, request.META["HTTP_COOKIE"] = request.META["HTTP_COOKIE"], ""
    await alogout(request)
    await note()
    request.META["HTTP_COOKIE"] = headers
    other, _ = await User.objects.aget_or_create(username="other")
    await alogin(request, other, BACKEND)
    await note()
    return JsonResponse(found, safe=False)


def nobody(request: HttpRequest) -> HttpResponse:
    """The same for everybody."""
    return HttpResponse("")


@api_view(["GET", "POST"])
@authentication_classes([PeerAuthentication])
def rest(request: Request) -> Response:
    return Response(facts(request.user, request.auth))


api = NinjaAPI(urls_namespace="peers")


@api.api_operation(["GET", "POST"], "/who", auth=peer_auth)
def ninja(request: HttpRequest) -> Any:
    return facts(request.auth, request.peer_session)  # type: ignore[attr-defined]


@api.api_operation(["GET", "POST"], "/awho", auth=apeer_auth)
async def aninja(request: HttpRequest) -> Any:
    return facts(request.auth, request.peer_session)  # type: ignore[attr-defined]


urlpatterns = [
    path("who", who),
    path("awho", awho),
    path("nobody", nobody),
    path("body", csrf_exempt(body)),
    path("in-and-out", in_and_out),
    path("ain-and-out", ain_and_out),
    path("exempt", csrf_exempt(who)),
    path("rest", rest),
    path("api/", api.urls),
]
