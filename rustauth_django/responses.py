"""The response to a request over its limit: JSON for programs, a page for people."""

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template import TemplateDoesNotExist
from django.template.loader import get_template
from django.template.response import TemplateResponse
from django.utils.cache import patch_vary_headers

from .rates import RateLimitDecision

# RustAuth's body, byte for byte (MW-18).
TOO_MANY_REQUESTS = {
    "code": "TOO_MANY_REQUESTS",
    "message": "Too many requests. Please try again later.",
}


def find_template() -> Any:
    """The page, or None on a site without templates."""
    try:
        return get_template("rustauth_django/429.html")
    except TemplateDoesNotExist:
        return None


def too_many_requests(request: HttpRequest, decision: RateLimitDecision) -> HttpResponse:
    """429, as the template ``rustauth_django/429.html`` if the client prefers HTML."""
    response: HttpResponse
    prefers_html = request.get_preferred_type(["application/json", "text/html"]) == "text/html"
    if prefers_html and (template := find_template()):
        context = {"retry_after": decision.retry_after, "decision": decision}
        # Django renders it later, and under ASGI in a thread, since a site's own
        # template may ask the database who is signed in.
        response = TemplateResponse(request, template, context, status=429)
    else:
        separators = {"separators": (",", ":")}
        response = JsonResponse(TOO_MANY_REQUESTS, status=429, json_dumps_params=separators)
    patch_vary_headers(response, ["Accept"])
    return response
