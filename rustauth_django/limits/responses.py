"""The responses to refused requests: JSON for programs, a page for people."""

from contextlib import suppress
from typing import Any, NamedTuple

from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template import TemplateDoesNotExist
from django.template.loader import get_template
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, reverse
from django.utils.cache import patch_vary_headers
from django.utils.http import url_has_allowed_host_and_scheme

from .keys import login_facts
from .rates import RateLimitDecision, Uncounted


class Page(NamedTuple):
    """A response: its status, and the code and the message that programs get."""

    status: int
    code: str
    message: str


PAGES = {
    "403": Page(403, "FORBIDDEN", "Requests from here are not accepted."),
    # RustAuth's body, byte for byte (MW-18).
    "429": Page(429, "TOO_MANY_REQUESTS", "Too many requests. Please try again later."),
    "503": Page(503, "SERVICE_UNAVAILABLE", "Temporarily unavailable. Please try again later."),
    "locked": Page(
        429,
        "TOO_MANY_FAILED_LOGINS",
        "Too many failed attempts to sign in. Please try again later.",
    ),
}
# The pages count longer waits in minutes; pages.css has a rule for each of the shorter ones.
MAX_SECONDS = 120
# The names under which Django and django-allauth have the page that resets a password.
RESETS = ("password_reset", "account_reset_password")


def refusal(request: HttpRequest, verdict: RateLimitDecision | Uncounted) -> HttpResponse:
    """429, or 503 where the limit could not be counted; both say when to come back."""
    wait = verdict.retry_after
    if isinstance(verdict, Uncounted):
        response = respond(request, "503", retry_after=wait, back=way_back(request))
        response.headers["Retry-After"] = str(wait)
        response.is_refusal = True  # type: ignore[attr-defined]  # for limits around this one
        return response
    return respond(request, "429", retry_after=wait, decision=verdict, back=way_back(request))


def locked(request: HttpRequest, verdict: RateLimitDecision | Uncounted) -> HttpResponse:
    """The response to an attempt to sign in that was refused; 503 where it could not be counted.

    The page links to the reset of a password where that ends the wait: not if an address is
    blocked.
    """
    if isinstance(verdict, Uncounted):
        return refusal(request, verdict)
    what = login_facts(verdict.key or "")["what"]
    response = respond(
        request,
        "locked",
        retry_after=verdict.retry_after,
        decision=verdict,
        what=what,
        back=way_back(request),
        reset=None if what == "address" else reset_path(),
    )
    response.headers["Retry-After"] = response.headers["X-Retry-After"] = str(verdict.retry_after)
    return response


def reset_path() -> str | None:
    """The page that resets a password, if the site has one under a usual name."""
    for name in RESETS:
        with suppress(NoReverseMatch):
            return reverse(name)
    return None


def way_back(request: HttpRequest) -> str | None:
    """Where the page's link leads: to the same page, or to the page of the form that was sent.

    No form is sent a second time, and no link leads to another site.
    """
    if request.method in ("GET", "HEAD"):
        return request.get_full_path()
    page = request.headers.get("Referer", "")
    try:
        is_here = url_has_allowed_host_and_scheme(page, request.get_host(), request.is_secure())
    except DisallowedHost:
        return None
    return page if is_here else None


def forbidden(request: HttpRequest) -> HttpResponse:
    """403, for a client on the list ``DENY``."""
    return respond(request, "403")


def respond(request: HttpRequest, page: str, **context: Any) -> HttpResponse:
    """The template ``rustauth_django/{page}.html`` if the client prefers HTML, or JSON."""
    response: HttpResponse
    status, code, message = PAGES[page]
    wait = context.get("retry_after", 0)
    # Nobody counts so many seconds.
    context["minutes"] = -(-wait // 60) if wait > MAX_SECONDS else None
    prefers_html = request.get_preferred_type(["application/json", "text/html"]) == "text/html"
    if prefers_html and (template := find_template(page)):
        # Django renders it later, under ASGI in a thread, since a site's own template may query the
        # database.
        response = TemplateResponse(request, template, context, status=status)
    else:
        response = JsonResponse(
            {"code": code, "message": message},
            status=status,
            json_dumps_params={"separators": (",", ":")},
        )
    patch_vary_headers(response, ["Accept"])
    return response


def find_template(page: str) -> Any:
    """The page's template, or None on a site without templates."""
    try:
        return get_template(f"rustauth_django/{page}.html")
    except TemplateDoesNotExist:
        return None
