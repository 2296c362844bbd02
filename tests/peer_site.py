"""A site whose users are signed in elsewhere: views of every kind, and who they say is there."""

from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from ninja import NinjaAPI
from rest_framework.decorators import api_view, authentication_classes
from rest_framework.request import Request
from rest_framework.response import Response

from rustauth_django.contrib.peers import PeerSession
from rustauth_django.contrib.peers.ninja import apeer_auth, peer_auth
from rustauth_django.contrib.peers.rest_framework import PeerAuthentication

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
    path("exempt", csrf_exempt(who)),
    path("rest", rest),
    path("api/", api.urls),
]
