"""The responses of a limiter: JSON for programs, a page for people."""

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template import TemplateDoesNotExist
from django.template.loader import get_template
from django.template.response import TemplateResponse
from django.utils.cache import patch_vary_headers

from .limiter import Uncounted
from .rates import RateLimitDecision

# The body of the first is RustAuth's, byte for byte (MW-18).
CODES = {
    403: ("FORBIDDEN", "Requests from here are not accepted."),
    429: ("TOO_MANY_REQUESTS", "Too many requests. Please try again later."),
    503: ("SERVICE_UNAVAILABLE", "Temporarily unavailable. Please try again later."),
}


def refusal(request: HttpRequest, verdict: RateLimitDecision | Uncounted) -> HttpResponse:
    """429, or 503 where the limit could not be counted; both say when to come back."""
    if isinstance(verdict, Uncounted):
        response = respond(request, 503, retry_after=verdict.retry_after)
        response.headers["Retry-After"] = str(verdict.retry_after)
        response.is_refusal = True  # type: ignore[attr-defined]  # for limits around this one
        return response
    return respond(request, 429, retry_after=verdict.retry_after, decision=verdict)


def forbidden(request: HttpRequest) -> HttpResponse:
    """403, for whoever is on the list of those to deny."""
    return respond(request, 403)


def respond(request: HttpRequest, status: int, **context: Any) -> HttpResponse:
    """The template ``rustauth_django/{status}.html`` if the client prefers HTML, or JSON."""
    response: HttpResponse
    prefers_html = request.get_preferred_type(["application/json", "text/html"]) == "text/html"
    if prefers_html and (template := find_template(status)):
        # Django renders it later, and under ASGI in a thread, since a site's own
        # template may ask the database who is signed in.
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
