"""RateLimitMiddleware: contract MW, PATH, IP, on every backend and under both protocols."""

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
from django.conf.urls.i18n import i18n_patterns
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory, override_settings
from django.urls import path as url_path
from django.urls import resolve
from django.utils import translation

from rustauth_django import (
    InvalidConfig,
    RateLimitDecision,
    RateLimitRule,
    RustAuthStores,
    rate_limit_store,
)
from rustauth_django.contrib.testing import fresh_rate_limits
from rustauth_django.middleware import RateLimitMiddleware

from .servers import Server
from .site import PeerClient, Site
from .urls import ok

Get = Callable[..., Any]
BODY = b'{"code":"TOO_MANY_REQUESTS","message":"Too many requests. Please try again later."}'


def test_the_fourth_sign_in_is_refused(site: Site) -> None:
    """MW-05, MW-18, MW-31, MW-35: three pass, the fourth is RustAuth's 429 with every header."""
    for remaining in (2, 1, 0):
        response = site.post("/api/auth/sign-in/email")
        assert response.status_code == 200
        assert response.headers["RateLimit"] == f'"sign-in";r={remaining};t=10'
        assert "Retry-After" not in response.headers
    response = site.post("/api/auth/sign-in/email")
    assert response.status_code == 429
    assert response.headers["Content-Type"] == "application/json"
    assert response.content == BODY
    assert response.headers["RateLimit-Policy"] == '"sign-in";q=3;w=10'
    assert response.headers["Retry-After"] == response.headers["X-Retry-After"]
    assert response.headers["Retry-After"] in ("9", "10")
    assert response.headers["RateLimit"] == f'"sign-in";r=0;t={response.headers["Retry-After"]}'
    assert site.buckets() == ["127.0.0.1|/sign-in/email"]


def test_limits_are_per_path_and_client(site: Site) -> None:
    """MW-32, PATH-05: another path and another address have their own; another method has not."""
    assert site.statuses("POST", "/api/auth/sign-in/email", 4)[-1] == 429
    assert site.get("/api/auth/sign-in/email").status_code == 429
    assert site.post("/api/auth/sign-up/email").status_code == 200
    assert site.post("/api/auth/sign-in/email", peer="192.0.2.7").status_code == 200


def test_the_default_limit(memory_site: Site) -> None:
    """MW-04, MW-33, CFG-06: 100 in 10 seconds, or what the settings say."""
    assert memory_site.get("/items/").headers["RateLimit-Policy"] == '"default";q=100;w=10'
    memory_site.configure(WINDOW=60, MAX=20)
    assert memory_site.statuses("GET", "/api/auth/get-session", 21) == [200] * 20 + [429]


@pytest.mark.parametrize(("path", "polls"), [("/items/", 500), ("/api/auth/get-session", 100)])
def test_who_polls_below_the_limit_is_not_refused(path: str, polls: int) -> None:
    """QUIRK-06: but for the base path, where RustAuth's window ends after 100 without a pause."""
    with fresh_rate_limits() as rate_limits:
        for _ in range(polls):
            assert Client().get(path).status_code == 200
            rate_limits.clock.advance(1)
        assert Client().get(path).status_code == (200 if polls == 500 else 429)


def test_queries_do_not_matter(memory_site: Site) -> None:
    """PATH-04: one bucket whatever follows the question mark."""
    memory_site.configure(MAX=2)
    statuses = [memory_site.get(f"/api/auth/ok?nonce={i}").status_code for i in range(3)]
    assert statuses == [200, 200, 429]


def test_the_decision_is_on_the_request(memory_site: Site) -> None:
    """request.rate_limit, for views and templates."""
    assert memory_site.get("/items/").json() == {"remaining": 99}
    assert memory_site.get("/async/").json() == {"remaining": 99}


def test_what_resolves_to_no_view_consumes_nothing(memory_site: Site) -> None:
    """MW-14: 404s are free, and without headers."""
    response = memory_site.get("/nowhere")
    assert response.status_code == 404
    assert "RateLimit" not in response.headers
    assert memory_site.buckets() == []


def test_a_view_that_fails_has_consumed(memory_site: Site) -> None:
    """The headers are on a 500 as well."""
    response = memory_site.get("/broken/")
    assert response.status_code == 500
    assert response.headers["RateLimit"] == '"default";r=99;t=10'


def test_parameters_open_no_new_bucket(memory_site: Site) -> None:
    """QUIRK-21: a route counts as its template, and so do regular expressions."""
    memory_site.configure(MAX=2)
    for paths in (
        ["/items/1/", "/items/2/", "/items/3/"],
        ["/async/items/1/", "/async/items/2/", "/async/items/3/"],
        ["/years/2024/", "/years/2025/", "/years/2026/"],
        ["/everything-else/a", "/everything-else/b", "/everything-else/c"],
        ["/api/auth/reset-password/a", "/api/auth/reset-password/b", "/api/auth/reset-password/c"],
    ):
        assert [memory_site.get(path).status_code for path in paths] == [200, 200, 429]
    assert memory_site.buckets() == [
        "127.0.0.1|/^everything-else/.*$",
        "127.0.0.1|/^years/(?P<year>[0-9]{4})/$",
        "127.0.0.1|/async/items/<int:pk>",
        "127.0.0.1|/items/<int:pk>",
        "127.0.0.1|/reset-password/<str:token>",
    ]


def test_plain_routes_count_as_their_path(memory_site: Site) -> None:
    """PATH-01: decoded, without base path and trailing slash."""
    for path in (
        "/",
        "/items/",
        "/api/auth/sign-in/anonymous/",
        "/static/page.html",
        "/gr%C3%BC%C3%9Fe/",
    ):
        assert memory_site.get(path).status_code == 200
    assert memory_site.buckets() == [
        "127.0.0.1|/",
        "127.0.0.1|/grüße",
        "127.0.0.1|/items",
        "127.0.0.1|/sign-in/anonymous",
        "127.0.0.1|/static/page.html",
    ]


def test_an_encoded_path_is_the_path(memory_site: Site) -> None:
    """PORT-09: Django routes /%73ign-in, so the strict rule is its rule."""
    paths = ["sign-in", "%73ign-in", "s%69gn-in", "sign%2Din"]
    statuses = [memory_site.post(f"/api/auth/{path}/email").status_code for path in paths]
    assert statuses == [200, 200, 200, 429]


def test_strict_rules_hold_on_every_sign_in_path(memory_site: Site) -> None:
    """MW-05, MW-06: by prefix and by name, on parameterised routes too."""
    policies = {
        "/api/auth/sign-in/email": '"sign-in";q=3;w=10',
        "/api/auth/sign-in/github": '"sign-in";q=3;w=10',
        "/api/auth/sign-up/email": '"sign-in";q=3;w=10',
        "/api/auth/request-password-reset": '"password-reset";q=3;w=60',
        "/api/auth/reset-password/x": '"default";q=100;w=10',
        "/sign-in/email": '"default";q=100;w=10',
    }
    for path, policy in policies.items():
        assert memory_site.post(path).headers["RateLimit-Policy"] == policy


def test_a_path_outside_the_base_has_its_own_counter(memory_site: Site) -> None:
    """Two rules never share one, though RustAuth's name for both paths is /sign-in/email."""
    assert memory_site.statuses("POST", "/sign-in/email", 10) == [200] * 10
    assert memory_site.post("/api/auth/sign-in/email").status_code == 200
    assert memory_site.buckets() == [
        "127.0.0.1|/sign-in/email",
        "127.0.0.1|/sign-in/email|default",
    ]


@pytest.mark.parametrize(
    ("path", "window"),
    [
        ("/accounts/login/", 10),
        ("/members/enter/", 10),
        ("/admin/login/", 10),
        ("/accounts/signup/", 10),
        ("/accounts/password_reset/", 60),
    ],
)
def test_djangos_own_login_views_are_strict(memory_site: Site, path: str, window: int) -> None:
    """By view name in any namespace, on unsafe methods; reading the form is no attempt."""
    assert memory_site.statuses("GET", path, 5) == [200] * 5
    assert memory_site.statuses("POST", path, 3) == [200] * 3
    response = memory_site.post(path)
    assert response.status_code == 429
    assert response.headers["RateLimit-Policy"].endswith(f";q=3;w={window}")
    assert memory_site.get(path).status_code == 200


def test_custom_rules_come_first(memory_site: Site) -> None:
    """MW-08, MW-11: the first match wins, over strict rules too."""
    memory_site.configure(
        RULES=[
            {"path": "/sign-in/*", "window": 60, "max": 2},
            {"path": "/sign-in/email", "window": 60, "max": 50},
            {"path": "/get-session", "disabled": True},
        ]
    )
    assert memory_site.statuses("POST", "/api/auth/sign-in/email", 3) == [200, 200, 429]
    assert memory_site.buckets() == ["127.0.0.1|/sign-in/email"]
    response = memory_site.get("/api/auth/get-session")
    assert response.status_code == 200
    assert "RateLimit" not in response.headers


def test_a_disabled_path_is_never_limited(memory_site: Site) -> None:
    """MW-08, MW-34: 110 calls and no counter."""
    memory_site.configure(MAX=1, RULES=[{"path": "/get-session", "disabled": True}])
    assert memory_site.statuses("GET", "/api/auth/get-session", 110) == [200] * 110
    assert memory_site.buckets() == []


def test_rules_by_view_name_route_and_method(memory_site: Site) -> None:
    """Each with a counter of its own beside the default's."""
    memory_site.configure(
        RULES=[
            {"view_name": "items", "methods": ["post"], "window": 60, "max": 1},
            {"route": "items/<int:pk>/", "window": 60, "max": 1},
            {"path": "/api/auth/ok", "window": 60, "max": 1},
        ]
    )
    assert memory_site.statuses("POST", "/items/", 2) == [200, 429]
    assert memory_site.get("/items/").json() == {"remaining": 99}
    assert [memory_site.get(f"/items/{i}/").status_code for i in (1, 2)] == [200, 429]
    assert memory_site.statuses("GET", "/api/auth/ok", 2) == [200, 429]
    assert memory_site.buckets() == [
        "127.0.0.1|/items",
        "127.0.0.1|/items/<int:pk>|route:items/<int:pk>/",
        "127.0.0.1|/items|view_name:items POST",
        "127.0.0.1|/ok|path:/api/auth/ok",
    ]


def strict_by_header(request: HttpRequest, current: RateLimitRule) -> RateLimitRule | None:
    match request.headers.get("X-Limit"):
        case "strict":
            return RateLimitRule(window=60, max=1)
        case "off":
            return None
    return current


def test_a_function_may_choose_the_rule(memory_site: Site) -> None:
    """MW-09: by the request; None is no limit, the current rule is the current counter."""
    memory_site.configure(RULES=["tests.test_middleware.strict_by_header"])
    assert memory_site.statuses("GET", "/items/", 2, X_Limit="strict") == [200, 429]
    assert memory_site.get("/items/").json() == {"remaining": 99}
    assert memory_site.get("/items/", X_Limit="off").json() == {"remaining": None}
    assert memory_site.post("/api/auth/sign-in/email").headers["RateLimit"] == '"sign-in";r=2;t=10'
    path_rule = {"path": "/items*", "rule": strict_by_header}
    memory_site.configure(RULES=[path_rule])
    assert memory_site.statuses("GET", "/items/", 2, X_Limit="strict") == [200, 429]
    assert memory_site.statuses("GET", "/async/", 2, X_Limit="strict") == [200, 200]


def no_opinion(request: HttpRequest, current: RateLimitRule) -> RateLimitRule:
    return current


def test_a_function_without_an_opinion_leaves_the_rest(memory_site: Site) -> None:
    """MW-09: the current rule is what would apply without the function, counter included."""
    memory_site.configure(
        RULES=[
            {"path": "/items", "methods": ["POST"], "rule": no_opinion},
            no_opinion,
            {"path": "/items", "window": 60, "max": 2},
            {"path": "/async", "disabled": True},
        ]
    )
    assert memory_site.statuses("GET", "/items/", 2) == [200, 200]
    assert memory_site.statuses("POST", "/items/", 1) == [429]
    assert memory_site.buckets() == ["127.0.0.1|/items"]
    assert memory_site.get("/async/").headers["RateLimit"].startswith('"no_opinion 100/10000ms";')


async def by_user(request: HttpRequest, current: RateLimitRule) -> RateLimitRule | None:
    user = await request.auser()
    return None if user.is_authenticated else RateLimitRule(60, 1)


def by_lazy_user(request: HttpRequest, current: RateLimitRule) -> RateLimitRule | None:
    return None if request.user.is_authenticated else RateLimitRule(60, 1)


@pytest.mark.parametrize("function", [by_user, by_lazy_user])
def test_a_function_may_ask_who_is_signed_in(memory_site: Site, function: Any) -> None:
    """Of either kind, under either protocol."""
    with override_settings(SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies"):
        memory_site.configure(RULES=[function])
        assert memory_site.statuses("GET", "/items/", 2) == [200, 429]


def strange(request: HttpRequest, current: RateLimitRule) -> Any:
    return (60, 1)


def impossible(request: HttpRequest, current: RateLimitRule) -> Any:
    return RateLimitRule(window=0, max=5)


def test_a_function_that_returns_nonsense_is_named(memory_site: Site) -> None:
    """It is a 500, not a request without a limit."""
    memory_site.configure(RULES=[strange])
    memory_site.client.raise_request_exception = True
    with pytest.raises(TypeError, match="the rule function strange must return rates or None"):
        memory_site.get("/items/")
    memory_site.configure(RULES=[impossible])
    with pytest.raises(InvalidConfig, match="the rule function impossible returned 5 in 0 s"):
        memory_site.get("/items/")


def test_exempt_views_are_passed_over(memory_site: Site) -> None:
    """@rate_limit_exempt, on functions of both kinds and on classes."""
    memory_site.configure(MAX=1)
    for path in ("/exempt/", "/exempt/async/", "/exempt/class/"):
        assert memory_site.statuses("GET", path, 3) == [200] * 3
    assert memory_site.buckets() == []


def test_the_limiter_can_be_off(memory_site: Site) -> None:
    """MW-01, MW-03: ENABLED decides; None means on unless DEBUG."""
    memory_site.configure(MAX=1, ENABLED=False)
    assert memory_site.statuses("GET", "/items/", 3) == [200] * 3
    with override_settings(DEBUG=True):
        memory_site.configure(MAX=1)
        assert memory_site.statuses("GET", "/items/", 3) == [200] * 3
        memory_site.configure(MAX=1, ENABLED=True)
        assert memory_site.statuses("GET", "/items/", 2) == [200, 429]
    memory_site.configure(MAX=1)
    assert memory_site.statuses("GET", "/async/", 2) == [200, 429]


def test_a_missing_address_is_refused(memory_site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """MW-22, MW-23: for the rule's window, said once, nothing counted; MW-26: rules come first."""
    for path, wait in (("/items/", "10"), ("/api/auth/request-password-reset", "60")):
        for _ in range(3):
            response = memory_site.post(path, peer=None)
            assert response.status_code == 429
            assert response.headers["X-Retry-After"] == wait
    assert memory_site.buckets() == []
    assert [record.levelno for record in caplog.records if record.name == "rustauth_django"] == [
        logging.WARNING
    ]
    memory_site.configure(RULES=[{"path": "/items", "disabled": True}])
    assert memory_site.get("/items/", peer=None).status_code == 200


def test_missing_addresses_may_share_a_bucket(memory_site: Site) -> None:
    """MW-23, MW-24: and the strict rules still hold."""
    memory_site.configure(MISSING_IP="shared-bucket")
    assert memory_site.statuses("POST", "/api/auth/sign-in/email", 4, peer=None)[-1] == 429
    assert memory_site.buckets() == ["missing-ip|/sign-in/email"]


def test_missing_addresses_may_pass(memory_site: Site) -> None:
    """MW-23, MW-25: by policy, or because addresses are not tracked at all."""
    memory_site.configure(MISSING_IP="allow", MAX=1)
    assert memory_site.statuses("GET", "/items/", 3, peer=None) == [200] * 3
    assert memory_site.statuses("GET", "/items/", 2) == [200, 429]
    for policy in ("deny", "shared-bucket", "allow"):
        memory_site.configure(TRACK_IP=False, MISSING_IP=policy, MAX=1)
        assert memory_site.statuses("GET", "/items/", 3) == [200] * 3


def test_forged_headers_change_nothing(memory_site: Site) -> None:
    """IP-03: without IP_HEADERS a rotating X-Forwarded-For is air."""
    memory_site.configure(MAX=2)
    statuses = [
        memory_site.get("/items/", X_Forwarded_For=f"198.51.100.{i}").status_code for i in range(3)
    ]
    assert statuses == [200, 200, 429]


def test_configured_headers_tell_clients_apart(memory_site: Site) -> None:
    """IP-10, IP-11: behind proxies of ours."""
    memory_site.configure(MAX=1, IP_HEADERS=["X-Real-IP"])
    for i in range(3):
        assert memory_site.get("/items/", X_Real_IP=f"198.51.100.{i}").status_code == 200
    assert memory_site.get("/items/", X_Real_IP="198.51.100.0").status_code == 429
    assert memory_site.get("/items/", X_Real_IP="198.51.100.9, 198.51.100.8").status_code == 429
    memory_site.configure(MAX=1, IP_HEADERS=["X-Forwarded-For"], TRUSTED_PROXIES=["10.0.0.0/8"])
    for i in range(3):
        chain = f"6.6.6.{i}, 198.51.100.1, 10.0.0.1"
        status = memory_site.get("/items/", X_Forwarded_For=chain, peer="10.0.0.2").status_code
        assert status == (200 if i == 0 else 429)


@pytest.mark.parametrize(
    ("accept", "is_html"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("text/html", True),
        ("*/*", False),
        ("application/json", False),
        ("application/json, text/html;q=0.5", False),
        ("image/png", False),
        ("", False),
    ],
)
def test_browsers_get_a_page(memory_site: Site, accept: str, is_html: bool) -> None:
    """Programs get RustAuth's JSON; caches are told that it depends."""
    memory_site.configure(MAX=1)
    response = [memory_site.get("/items/", Accept=accept) for _ in range(2)][-1]
    assert response.status_code == 429
    assert response.headers["Content-Type"].startswith("text/html") is is_html
    assert response.headers["Vary"] == "Accept"
    assert response.headers["Retry-After"]
    if is_html:
        assert "Please wait 10 seconds, then try again." in response.content.decode()
    else:
        assert response.content == BODY


def test_the_page_counts_down_and_leads_back(memory_site: Site) -> None:
    """To what was read, or to the page with the form; never to another site, nor by a POST."""
    with override_settings(USE_THOUSAND_SEPARATOR=True):
        memory_site.configure(WINDOW=5000, MAX=1)
        responses = [memory_site.get("/items/?a=1&b=2", Accept="text/html") for _ in range(2)]
        page = responses[-1].content.decode()
    assert "Please wait 84 minutes" in page
    assert 'class="countdown' not in page
    assert '<meta http-equiv="refresh" content="5000;url=/items/?a=1&amp;b=2">' in page
    for referer, is_here in [
        ("http://testserver/form/?next=/", True),
        ("http://elsewhere.example/form/", False),
        ("//elsewhere.example/form/", False),
        ("javascript:alert(1)", False),
        ("", False),
    ]:
        headers = {"Accept": "text/html", **({"Referer": referer} if referer else {})}
        page = memory_site.post("/items/", **headers).content.decode()
        assert (f"url={referer}" in page and f'href="{referer}"' in page) is is_here
        assert ("refresh" in page) is is_here
    memory_site.configure(WINDOW=100, MAX=1)
    responses = [memory_site.get("/items/", Accept="text/html") for _ in range(2)]
    assert 'class="countdown wait-100"' in responses[-1].content.decode()


def test_a_304_has_the_headers_too(memory_site: Site) -> None:
    """Where ConditionalGetMiddleware comes after ours; check W012 finds the other order."""
    middleware = [
        "rustauth_django.middleware.RateLimitMiddleware",
        "django.middleware.http.ConditionalGetMiddleware",
    ]
    with override_settings(MIDDLEWARE=middleware):
        memory_site.configure(MAX=9)
        response = memory_site.get("/items/", If_None_Match="*")
    assert response.status_code == 304
    assert response.headers["RateLimit"].startswith('"default";r=8;')


def test_the_page_is_translated_and_overridable(memory_site: Site) -> None:
    """In the visitor's language; a site's own template wins, and may ask who is signed in."""
    middleware = LANGUAGES["MIDDLEWARE"]
    for language, words in (
        ("de", "Zu viele Anfragen"),
        ("fr", "Trop de requêtes"),
        ("es", "Demasiadas solicitudes"),
    ):
        with override_settings(MIDDLEWARE=middleware):
            memory_site.configure(MAX=1)
            memory_site.client = type(memory_site.client)()
            headers = {"Accept": "text/html", "Accept_Language": language}
            response = [memory_site.get("/items/", **headers) for _ in range(2)][-1]
            page = response.content.decode()
            assert words in page
            assert f'<html lang="{language}"' in page
    own = {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {
            "loaders": [
                (
                    "django.template.loaders.locmem.Loader",
                    {"rustauth_django/429.html": "ours: {{ retry_after }} {{ decision.limit }}"},
                )
            ]
        },
    }
    with override_settings(TEMPLATES=[own]):
        memory_site.configure(MAX=1)
        response = [memory_site.get("/items/", Accept="text/html") for _ in range(2)][-1]
        assert response.content == b"ours: 10 1"


@pytest.mark.parametrize(
    "templates",
    [[], [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": False}]],
)
def test_a_site_without_templates_answers_in_json(memory_site: Site, templates: Any) -> None:
    """Whatever the client prefers: a refusal is never a 500."""
    with override_settings(TEMPLATES=templates):
        memory_site.configure(MAX=1)
        response = [memory_site.get("/items/", Accept="text/html") for _ in range(2)][-1]
    assert (response.status_code, response.content) == (429, BODY)


class LanguagesUrls:
    urlpatterns = i18n_patterns(
        url_path("login/", ok, name="login"),
        url_path("items/<int:pk>/", ok),
        url_path("page/", ok),
        url_path("api/auth/sign-in/email", ok),
        prefix_default_language=False,
    )


LANGUAGES = {
    "ROOT_URLCONF": LanguagesUrls,
    "MIDDLEWARE": [
        "django.middleware.locale.LocaleMiddleware",
        "rustauth_django.middleware.RateLimitMiddleware",
    ],
}


@pytest.fixture
def english() -> Iterator[None]:
    yield
    translation.activate("en")


@pytest.mark.usefixtures("english")
def test_languages_open_no_new_bucket(memory_site: Site) -> None:
    """Under i18n_patterns() a path counts once, whatever its language, and so do its rules."""
    with override_settings(**LANGUAGES):
        statuses = [memory_site.post(f"{code}/login/").status_code for code in LANGUAGE_PREFIXES]
        assert statuses == [200, 200, 200, 429]
        memory_site.get("/de/items/1/")
        memory_site.get("/items/2/")
        paths = [f"{code}/api/auth/sign-in/email" for code in LANGUAGE_PREFIXES]
        assert [memory_site.post(path).status_code for path in paths] == [200, 200, 200, 429]
        assert memory_site.buckets() == [
            "127.0.0.1|/items/<int:pk>",
            "127.0.0.1|/login|sign-in",
            "127.0.0.1|/sign-in/email",
        ]
        memory_site.configure(
            RULES=[
                {"path": "/page", "window": 60, "max": 2},
                {"route": "items/<int:pk>/", "window": 60, "max": 2},
            ]
        )
        statuses = [memory_site.get(f"{code}/page/").status_code for code in LANGUAGE_PREFIXES]
        assert statuses == [200, 200, 429, 429]
        statuses = [memory_site.get(f"{code}/items/1/").status_code for code in LANGUAGE_PREFIXES]
        assert statuses == [200, 200, 429, 429]


LANGUAGE_PREFIXES = ("", "/de", "/fr", "/es")


@pytest.mark.usefixtures("english")
def test_rules_of_one_language_keep_to_themselves(memory_site: Site) -> None:
    """A rule that names the language has a counter of its own."""
    with override_settings(**LANGUAGES):
        memory_site.configure(RULES=[{"path": "/de/page", "window": 60, "max": 1}])
        assert memory_site.statuses("GET", "/de/page/", 2) == [200, 429]
        assert memory_site.statuses("GET", "/page/", 2) == [200, 200]
        assert memory_site.buckets() == ["127.0.0.1|/page", "127.0.0.1|/page|path:/de/page"]


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "rustauth_django"]


def test_an_outage_neither_opens_the_door_nor_takes_the_site_down(
    prefix: str, runner: asyncio.Runner | None, caplog: pytest.LogCaptureFixture
) -> None:
    """QUIRK-34: without the server this process counts, says so once, and says when it is over."""
    from .servers import BINARIES

    with Server(next(iter(BINARIES))) as server:
        site = Site(server.url, prefix, runner)
        try:
            assert site.post("/api/auth/sign-in/email").status_code == 200
            server.kill()
            assert site.statuses("POST", "/api/auth/sign-in/email", 5) == [200, 200, 200, 429, 429]
            server.start()
            deadline = time.monotonic() + 3
            while len(said := messages(caplog)) < 2 and time.monotonic() < deadline:
                site.get("/items/")
            assert site.statuses("POST", "/api/auth/sign-in/email", 4) == [200, 200, 200, 429]
            assert len(said) == 2
            assert "cannot be counted on the server now" in said[0]
            assert "127.0.0.1|" not in said[0]
            assert said[1] == "Rate limits are counted on the server again."
        finally:
            site.close()


def test_a_bucket_of_another_type_is_no_500(one_server: Server, prefix: str, runner: Any) -> None:
    """QUIRK-13: the request is counted here, the next one there."""
    site = Site(one_server.url, prefix, runner)
    try:
        with one_server.client() as raw:
            raw.set(f"{prefix}limits:127.0.0.1|/items", "what", ex=60)
        assert site.get("/items/").status_code == 200
        assert site.get("/items/").status_code == 200
        assert site.buckets() == ["127.0.0.1|/items"]
    finally:
        site.close()


seen_tasks: list[Any] = []


async def note_task(request: HttpRequest, current: RateLimitRule) -> RateLimitRule:
    seen_tasks.append(asyncio.current_task())
    return current


async def test_under_asgi_nothing_leaves_the_event_loop(backend_url: str, prefix: str) -> None:
    """Native async: the request's own task works all of it out, never a thread's."""
    limits = {"RULES": ["tests.test_middleware.note_task"]}
    middleware = ["rustauth_django.middleware.RateLimitMiddleware"]
    rustauth = {"URL": backend_url, "KEY_PREFIX": prefix, "RATE_LIMIT": limits}
    seen_tasks.clear()
    with override_settings(RUSTAUTH=rustauth, MIDDLEWARE=middleware):
        response = await PeerClient().get("/async/")
    assert response.headers["RateLimit"] == '"default";r=99;t=10'
    assert seen_tasks == [asyncio.current_task()]


def test_a_request_costs_one_round_trip(one_server: Server, prefix: str, runner: Any) -> None:
    """Whatever the rule."""
    import redis

    site = Site(one_server.url, prefix, runner)
    try:
        site.post("/api/auth/sign-in/email")
        with redis.Redis(port=one_server.port) as raw:
            raw.config_resetstat()
            site.post("/api/auth/sign-in/email")
            ran = raw.info("commandstats")
        assert ran["cmdstat_evalsha"]["calls"] == 1
        assert set(ran) <= {
            "cmdstat_evalsha",
            "cmdstat_hmget",
            "cmdstat_hset",
            "cmdstat_pexpire",
            "cmdstat_pttl",
            "cmdstat_time",
            "cmdstat_config|resetstat",
            "cmdstat_config",
        }
    finally:
        site.close()


def test_the_limits_of_a_rust_service_are_ours(one_server: Server, prefix: str) -> None:
    """KEY-02: one counter for /sign-in/email, whoever was asked."""
    site = Site(one_server.url, prefix, None)
    try:
        with RustAuthStores.from_url(one_server.url, key_prefix=prefix) as service:
            for _ in range(2):
                service.rate_limit_store.consume("127.0.0.1|/sign-in/email", RateLimitRule(10, 3))
        assert site.statuses("POST", "/api/auth/sign-in/email", 2) == [200, 429]
        rule = RateLimitRule(10, 3)
        assert not rate_limit_store.consume("127.0.0.1|/sign-in/email", rule).permitted
    finally:
        site.close()


def test_decisions_compare(memory: RustAuthStores) -> None:
    """They are values."""
    decision = memory.rate_limit_store.consume("key", RateLimitRule(10, 3))
    assert decision == RateLimitDecision(True, 0, 3, 2, 10)


def test_requests_of_asgi_have_a_peer() -> None:
    """REMOTE_ADDR is what the ASGI server says of its client."""
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "headers": [],
        "client": ["192.0.2.1", 1],
    }
    assert ASGIRequest(scope, None).META["REMOTE_ADDR"] == "192.0.2.1"


def calls_of(function: Callable[[], Any]) -> int:
    """How many functions of Python's are called in it."""
    called: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            called.append(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return len(called)


def test_a_decision_takes_few_calls(server: Server, prefix: str) -> None:
    """Counted and not timed, so that it holds on a busy machine; without the view's own calls."""

    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse("items")

    def answer() -> None:
        assert middleware.process_view(request, view, (), {}) is None
        assert middleware(request)["RateLimit"]

    limits = {"ENABLED": True, "WINDOW": 60}
    rustauth = {"URL": server.url, "KEY_PREFIX": prefix, "RATE_LIMIT": limits}
    with override_settings(RUSTAUTH=rustauth):
        middleware = RateLimitMiddleware(view)
        for _ in range(2):
            request = RequestFactory().get("/")
            request.resolver_match = resolve("/")
            count = calls_of(answer)
    assert 0 < count - calls_of(lambda: view(request)) <= 120
