"""The responses to refused requests: JSON for programs, a page for people."""

from typing import Any

from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template import TemplateDoesNotExist
from django.template.loader import get_template
from django.template.response import TemplateResponse
from django.utils.cache import patch_vary_headers
from django.utils.http import url_has_allowed_host_and_scheme

from .rates import RateLimitDecision, Uncounted

# The body for 429 is RustAuth's, byte for byte (MW-18).
CODES = {
    403: ("FORBIDDEN", "Requests from here are not accepted."),
    429: ("TOO_MANY_REQUESTS", "Too many requests. Please try again later."),
    503: ("SERVICE_UNAVAILABLE", "Temporarily unavailable. Please try again later."),
}


def refusal(request: HttpRequest, verdict: RateLimitDecision | Uncounted) -> HttpResponse:
    """429, or 503 where the limit could not be counted; both say when to come back."""
    if isinstance(verdict, Uncounted):
        response = respond(request, 503, retry_after=verdict.retry_after, back=way_back(request))
        response.headers["Retry-After"] = str(verdict.retry_after)
        response.is_refusal = True  # type: ignore[attr-defined]  # for limits around this one
        return response
    return respond(
        request, 429, retry_after=verdict.retry_after, decision=verdict, back=way_back(request)
    )


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
    return respond(request, 403)


def respond(request: HttpRequest, status: int, **context: Any) -> HttpResponse:
    """The template ``rustauth_django/{status}.html`` if the client prefers HTML, or JSON."""
    response: HttpResponse
    prefers_html = request.get_preferred_type(["application/json", "text/html"]) == "text/html"
    if prefers_html and (template := find_template(status)):
        # Django renders it later, under ASGI in a thread, since a site's own template may query the
        # database.
        response = TemplateResponse(request, template, context, status=status)
    else:
        code, message = CODES[status]
        response = JsonResponse(
            {"code": code, "message": message},
            status=status,
            json_dumps_params={"separators": (",", ":")},
        )
    patch_vary_headers(response, ["Accept"])
    return response


def find_template(status: int) -> Any:
    """The page, or None on a site without templates."""
    try:
        return get_template(f"rustauth_django/{status}.html")
    except TemplateDoesNotExist:
        return None
