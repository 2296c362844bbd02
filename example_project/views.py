"""Pages and a JSON API. The middleware limits all of them; one says a limit of its own."""

import hashlib
import json
import secrets
from typing import Any

from django.contrib.auth import aauthenticate, alogin, alogout, get_user_model, login
from django.core.mail import send_mail
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from rustauth_django import secondary_storage
from rustauth_django.decorators import rate_limit

LINK_LIFETIME = 300


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    return render(request, "home.html")


@require_GET
def about(request: HttpRequest) -> HttpResponse:
    return render(request, "about.html")


def error(status: int, code: str, message: str) -> JsonResponse:
    """An error in RustAuth's shape."""
    return JsonResponse({"code": code, "message": message}, status=status)


def as_json(user: Any) -> dict[str, Any]:
    return {"id": str(user.pk), "email": user.email}


def read_json(request: HttpRequest, *names: str) -> dict[str, str] | JsonResponse:
    """These fields of a JSON body, all of them text; or the response that says what is wrong.

    A form on another site cannot send application/json, so that these views need no
    CSRF token.
    """
    if request.content_type != "application/json":
        return error(415, "UNSUPPORTED_MEDIA_TYPE", "Send application/json")
    try:
        body = json.loads(request.body)
    except ValueError:
        body = None
    if not isinstance(body, dict) or not all(isinstance(body.get(name), str) for name in names):
        return error(400, "INVALID_REQUEST_BODY", f"Send {' and '.join(names)}")
    return {name: body[name] for name in names}


@csrf_exempt
@require_POST
async def sign_in_email(request: HttpRequest) -> JsonResponse:
    body = read_json(request, "email", "password")
    if isinstance(body, JsonResponse):
        return body
    user = await aauthenticate(request, username=body["email"], password=body["password"])
    if user is None:
        return error(401, "INVALID_EMAIL_OR_PASSWORD", "Invalid email or password")
    await alogin(request, user)
    return JsonResponse({"user": as_json(user)})


@require_GET
async def get_session(request: HttpRequest) -> JsonResponse:
    user = await request.auser()
    session = {"user": as_json(user)} if user.is_authenticated else None
    return JsonResponse(session, safe=False)


@csrf_exempt
@require_POST
async def sign_out(request: HttpRequest) -> JsonResponse:
    body = read_json(request)
    if isinstance(body, JsonResponse):
        return body
    await alogout(request)
    return JsonResponse({"success": True})


@csrf_exempt
@require_POST
@rate_limit("5/h", key="json:email")
def send_magic_link(request: HttpRequest) -> JsonResponse:
    """Mail a link that signs in once. The answer is the same for an unknown address."""
    body = read_json(request, "email")
    if isinstance(body, JsonResponse):
        return body
    user = get_user_model().objects.filter(username=body["email"], is_active=True).first()
    if user is not None:
        token = secrets.token_urlsafe(16)  # short enough for one line of a mail
        secondary_storage.set(link_key(token), str(user.pk), ttl=LINK_LIFETIME)
        url = request.build_absolute_uri(reverse("sign-in-link", args=[token]))
        send_mail("Sign in", f"Within five minutes, and once:\n{url}", None, [body["email"]])
    return JsonResponse({"status": True})


@require_http_methods(["GET", "POST"])
def sign_in_link(request: HttpRequest, token: str) -> HttpResponse:
    """A GET shows a button, so that a mail scanner uses nothing up; the POST signs in."""
    if request.method == "GET":
        return render(request, "sign_in_link.html")
    user_id = secondary_storage.take(link_key(token))
    users = get_user_model().objects.filter(is_active=True)
    user = users.filter(pk=user_id).first() if user_id else None
    if user is None:
        return render(request, "sign_in_link.html", {"is_spent": True}, status=410)
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    return redirect("home")


def link_key(token: str) -> str:
    """What is stored is not what is mailed: who reads the one cannot use the other."""
    return f"magic-link:{hashlib.sha256(token.encode()).hexdigest()}"
