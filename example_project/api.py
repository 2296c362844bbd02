"""The JSON API beside the pages, with RustAuth's paths and shapes; all of it async.

Where RustAuth has a session's token, these have its id: tokens never leave the server.
"""

import json
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any
from uuid import uuid4

from asgiref.sync import sync_to_async
from django.contrib.auth import aauthenticate, alogin, alogout, get_user_model
from django.contrib.auth.forms import SetPasswordForm
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from rustauth_django import verification
from rustauth_django.contrib.auth import OneTimeTokenGenerator
from rustauth_django.sessions import (
    SessionInfo,
    alist_sessions,
    arevoke_other_sessions,
    arevoke_session,
    arevoke_sessions,
)

from .pages import PasswordResetView, SendMagicLinkView, SignUpView, limit_mails

Body = dict[str, Any]
Answer = Coroutine[Any, Any, JsonResponse]
View = Callable[[HttpRequest], Answer]
ViewOfBody = Callable[[HttpRequest, Body], Answer]

RESET_SENT = "If this email exists in our system, check your email for the reset link"


def error(status: int, code: str, message: str) -> JsonResponse:
    """An error in RustAuth's shape."""
    return JsonResponse({"code": code, "message": message}, status=status)


def post(*names: str) -> Callable[[ViewOfBody], View]:
    """A view that gets a JSON object in which these fields are text.

    A form on another site cannot send application/json, so that these views need no
    CSRF token.
    """

    def decorate(view: ViewOfBody) -> View:
        @csrf_exempt
        @require_POST
        @wraps(view)
        async def read(request: HttpRequest) -> JsonResponse:
            if request.content_type != "application/json":
                return error(415, "UNSUPPORTED_MEDIA_TYPE", "Send application/json")
            try:
                body = json.loads(request.body or b"{}")
            except (ValueError, RecursionError):
                body = None
            if not isinstance(body, dict) or not all(isinstance(body.get(n), str) for n in names):
                return error(400, "INVALID_REQUEST_BODY", f"Send {' and '.join(names) or '{}'}")
            return await view(request, body)

        return read

    return decorate


def signed_in(view: Any) -> Any:
    """A view for those who are."""

    @wraps(view)
    async def check(request: HttpRequest, *args: Any) -> JsonResponse:
        if not (await request.auser()).is_authenticated:
            return error(401, "UNAUTHORIZED", "Unauthorized")
        response: JsonResponse = await view(request, *args)
        return response

    return check


def user_json(user: Any) -> Body:
    return {
        "id": str(user.pk),
        "name": user.first_name,
        "email": user.email,
        "emailVerified": True,
        "image": None,
        "createdAt": user.date_joined,
        "updatedAt": user.date_joined,
    }


def session_json(session: SessionInfo, user: Any) -> Body:
    return {
        "id": session.id,
        "token": session.id,
        "userId": str(user.pk),
        "expiresAt": session.expires_at,
        "createdAt": session.created_at,
        "updatedAt": session.last_seen,
        "ipAddress": session.ip_address,
        "userAgent": session.user_agent,
    }


async def current_session(request: HttpRequest, user: Any) -> SessionInfo | None:
    sessions = await alist_sessions(user, request)
    return next((session for session in sessions if session.is_current), None)


@sync_to_async
def fill_in(page: Any, request: HttpRequest, body: Body) -> JsonResponse | None:
    """Send a page's form with these fields; what is wrong with them."""
    view = page()
    view.setup(request)
    form = view.form_class(body)
    if form.is_valid():
        view.form_valid(form)
        return None
    name, found = next(iter(form.errors.as_data().items()))
    code = found[0].code if name == "password" else f"invalid_{name}"
    return error(400, str(code).upper(), " ".join(found[0].messages))


@limit_mails
@post("name", "email", "password")
async def sign_up_email(request: HttpRequest, body: Body) -> JsonResponse:
    """Mail a link that makes the account (``require_email_verification`` of RustAuth's).

    The answer repeats what was sent, under an id that nobody has: it is the same if the
    address has an account.
    """
    wrong = await fill_in(SignUpView, request, body)
    if wrong:
        return wrong
    User = get_user_model()
    user = User(username=body["email"], email=body["email"].lower(), first_name=body["name"])
    shown = {**user_json(user), "id": uuid4().hex, "emailVerified": False}
    return JsonResponse({"token": None, "user": shown})


@post("email", "password")
async def sign_in_email(request: HttpRequest, body: Body) -> JsonResponse:
    email = body["email"].lower()
    user = await aauthenticate(request, username=email, password=body["password"])
    if user is None:
        return error(401, "INVALID_EMAIL_OR_PASSWORD", "Invalid email or password")
    await alogin(request, user)
    await request.session.asave()  # so that it is listed, and has its id
    session = await current_session(request, user)
    token = session and session.id
    return JsonResponse({"redirect": False, "token": token, "url": None, "user": user_json(user)})


@limit_mails
@post("email")
async def send_magic_link(request: HttpRequest, body: Body) -> JsonResponse:
    return await fill_in(SendMagicLinkView, request, body) or JsonResponse({"status": True})


@require_GET
async def get_session(request: HttpRequest) -> JsonResponse:
    user: Any = await request.auser()
    session = await current_session(request, user) if user.is_authenticated else None
    if session is None:
        return JsonResponse(None, safe=False)
    return JsonResponse({"session": session_json(session, user), "user": user_json(user)})


@require_GET
@signed_in
async def list_sessions(request: HttpRequest) -> JsonResponse:
    user = await request.auser()
    sessions = await alist_sessions(user, request)
    return JsonResponse([session_json(session, user) for session in sessions], safe=False)


@post("token")
@signed_in
async def revoke_session(request: HttpRequest, body: Body) -> JsonResponse:
    """The same answer whether there was such a session, and whosever it is (SESS-19)."""
    await arevoke_session(await request.auser(), body["token"])
    return JsonResponse({"status": True})


@post()
@signed_in
async def revoke_sessions(request: HttpRequest, body: Body) -> JsonResponse:
    await arevoke_sessions(await request.auser())
    return JsonResponse({"status": True})


@post()
@signed_in
async def revoke_other_sessions(request: HttpRequest, body: Body) -> JsonResponse:
    await arevoke_other_sessions(request)
    return JsonResponse({"status": True})


@post()
async def sign_out(request: HttpRequest, body: Body) -> JsonResponse:
    await alogout(request)
    return JsonResponse({"success": True})


@limit_mails
@post("email")
async def request_password_reset(request: HttpRequest, body: Body) -> JsonResponse:
    wrong = await fill_in(PasswordResetView, request, body)
    return wrong or JsonResponse({"status": True, "message": RESET_SENT})


@post("newPassword", "token")
async def reset_password(request: HttpRequest, body: Body) -> JsonResponse:
    wrong = await sync_to_async(set_password)(body["token"], body["newPassword"])
    return wrong or JsonResponse({"status": True})


def set_password(token: str, password: str) -> JsonResponse | None:
    """What the page of a reset link does; what is wrong."""
    tokens = OneTimeTokenGenerator()
    found = verification.peek(tokens.purpose, token)
    user: Any = get_user_model().objects.filter(pk=found.value).first() if found else None
    form = SetPasswordForm(user, {"new_password1": password, "new_password2": password})
    if tokens.check_token(user, token) and not form.is_valid():
        wrong = form.errors.as_data()["new_password2"][0]
        return error(400, str(wrong.code).upper(), " ".join(wrong.messages))
    if not tokens.consume_token(user, token):
        return error(400, "INVALID_TOKEN", "Invalid token")
    form.save()
    return None
