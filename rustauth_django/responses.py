"""The response to a request over its limit: JSON for programs, a page for people."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.utils.cache import patch_vary_headers

from .rates import RateLimitDecision

# RustAuth's body, byte for byte (MW-18).
TOO_MANY_REQUESTS = {
    "code": "TOO_MANY_REQUESTS",
    "message": "Too many requests. Please try again later.",
}


def too_many_requests(request: HttpRequest, decision: RateLimitDecision) -> HttpResponse:
    """429, as the template ``rustauth_django/429.html`` if the client prefers HTML."""
    response: HttpResponse
    if request.get_preferred_type(["application/json", "text/html"]) == "text/html":
        context = {"retry_after": decision.retry_after, "decision": decision}
        # Django renders it later, and under ASGI in a thread, since a site's own
        # template may ask the database who is signed in.
        response = TemplateResponse(request, "rustauth_django/429.html", context, status=429)
    else:
        separators = {"separators": (",", ":")}
        response = JsonResponse(TOO_MANY_REQUESTS, status=429, json_dumps_params=separators)
    patch_vary_headers(response, ["Accept"])
    return response
