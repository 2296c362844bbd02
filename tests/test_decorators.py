"""``rate_limit``: what a view may say, in both of its forms."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings
from django.utils.decorators import method_decorator
from django.views import View

from rustauth_django import BackendUnavailable, InvalidConfig, RateLimitRule
from rustauth_django.connections import get_guard
from rustauth_django.contrib.testing import fresh_rate_limits
from rustauth_django.decorators import rate_limit
from rustauth_django.limits.keys import Visitors, fold
from rustauth_django.signals import rate_limit_shadowed, rate_limited

from .conftest import Clock
from .faces import Face
from .site import Site

THREE = RateLimitRule(60, 3)
SETTINGS = {"ENABLED": True, "RULES": [{"path": "*", "disabled": True}]}


@pytest.fixture
def urlconf() -> str:
    return "tests.limited"


@pytest.fixture(params=["", "a/"], ids=["view", "async-view"])
def kind(request: pytest.FixtureRequest) -> str:
    """Both forms of each view."""
    return request.param


@pytest.fixture
def server_site(site: Site, kind: str) -> Site:
    site.configure(**SETTINGS)
    return site


@pytest.fixture
def local(memory_site: Site, kind: str) -> Iterator[Site]:
    """In memory, where signing in takes no database either."""
    who = "tests.limited.WhoMiddleware"
    with override_settings(MIDDLEWARE=[who, "rustauth_django.middleware.RateLimitMiddleware"]):
        memory_site.configure(**SETTINGS)
        yield memory_site


def test_each_view_has_a_limit_of_its_own(server_site: Site, kind: str) -> None:
    """And an address another's."""
    site = server_site
    assert site.statuses("GET", f"/{kind}two", 3) == [200, 200, 429]
    assert site.statuses("GET", f"/{kind}other", 3) == [200, 200, 429]
    assert site.get(f"/{kind}two", peer="192.0.2.1").status_code == 200
    refused = site.get(f"/{kind}two")
    assert 0 < int(refused.headers["Retry-After"]) <= 90
    assert refused.headers["RateLimit"].startswith('"tests.limited.two";r=0;t=')


def test_several_rates_count_together(server_site: Site, kind: str) -> None:
    """A refused call burns none of them."""
    assert server_site.statuses("GET", f"/{kind}several", 9) == [200] * 3 + [429] * 6
    assert server_site.buckets() == ["127.0.0.1|tests.limited.several"]


def test_failures_are_counted_after_the_view(server_site: Site, kind: str) -> None:
    """Statuses from 400 and exceptions; whatever succeeds costs nothing."""
    path = f"/{kind}failures?status="
    assert server_site.statuses("GET", f"{path}200", 5) == [200] * 5
    assert server_site.statuses("GET", f"{path}400", 1) == [400]
    assert server_site.statuses("GET", f"{path}2", 1) == [500]
    assert server_site.statuses("GET", f"{path}200", 2) == [429, 429]


@pytest.mark.parametrize("status", [404, 200])
def test_no_more_than_the_limit_are_under_way(site: Site, status: int) -> None:
    """However many come before the first is answered; what does not count leaves its room."""
    site.configure(**SETTINGS)
    on: Any = "failure" if status == 404 else "success"
    answered: list[int] = []

    @rate_limit("2/m", scope="nested", on=on)
    def view(request: HttpRequest, depth: int, status: int) -> HttpResponse:
        if depth:
            answered.append(view(request, depth - 1, status).status_code)
        return HttpResponse(status=status)

    @rate_limit("2/m", scope="nested", on=on)
    async def aview(request: HttpRequest, depth: int, status: int) -> HttpResponse:
        if depth:
            answered.append((await aview(request, depth - 1, status)).status_code)
        return HttpResponse(status=status)

    request = RequestFactory().get("/")
    other = 604 - status
    for depth, sent in ((0, other), (1, other), (5, status)):
        if site.runner:
            site.runner.run(aview(request, depth, sent))
        else:
            view(request, depth, sent)
    assert answered == [other, 429, status]
    assert view(RequestFactory().get("/"), 0, status).status_code == 429


def test_successes_are_counted_after_the_view(local: Site, kind: str) -> None:
    """Failures cost nothing."""
    path = f"/{kind}successes?status="
    assert local.statuses("GET", f"{path}404", 3) == [404] * 3
    assert local.statuses("GET", f"{path}1", 3) == [404] * 3
    assert local.statuses("GET", f"{path}302", 3) == [302, 302, 429]


@pytest.mark.parametrize("route", ["teapots", "async-teapots"])
def test_a_function_says_what_counts(local: Site, kind: str, route: str) -> None:
    """Of request and response, of either kind."""
    path = f"/{kind}{route}?status="
    assert local.statuses("GET", f"{path}400", 3) == [400] * 3
    assert local.statuses("GET", f"{path}418", 3) == [418, 418, 429]


def test_a_form_with_errors_is_a_failure(local: Site, kind: str) -> None:
    """Though its status is 200; an empty form is none."""
    path = f"/{kind}form-failures"
    assert local.statuses("GET", path, 3) == [200] * 3
    assert local.statuses("POST", path, 3, {"name": "Ada"}) == [200] * 3
    assert local.statuses("POST", path, 3, {"other": "x"}) == [200, 200, 429]


def test_views_of_a_scope_share(local: Site, kind: str) -> None:
    """One bucket."""
    assert local.get(f"/{kind}shared-a").status_code == 200
    assert local.get(f"/{kind}shared-b").status_code == 200
    assert local.get(f"/{kind}shared-a").status_code == 429


def test_stacked_limits_count_apart(local: Site, kind: str) -> None:
    """Even where their rates are the same."""
    assert local.statuses("GET", f"/{kind}stacked?status=400", 1) == [400]
    assert local.statuses("GET", f"/{kind}stacked", 2) == [200, 429]


def test_other_methods_are_free(local: Site, kind: str) -> None:
    """Those that are named count."""
    assert local.statuses("GET", f"/{kind}posts", 3) == [200] * 3
    assert local.statuses("POST", f"/{kind}posts", 2) == [200, 429]


def test_a_request_may_cost_more(local: Site, kind: str) -> None:
    """Whole, or not at all."""
    assert local.statuses("GET", f"/{kind}costly", 3) == [200, 200, 429]


def test_without_block_the_view_decides(local: Site, kind: str) -> None:
    """It finds the decision on the request."""
    answers = [local.get(f"/{kind}open") for _ in range(2)]
    assert [answer.json()["permitted"] for answer in answers] == [True, False]
    assert [answer.status_code for answer in answers] == [200, 200]


def test_a_shadow_only_tells(local: Site, kind: str) -> None:
    """A signal, and nobody else."""
    told: list[Any] = []

    def note(sender: Any, **named: Any) -> None:
        told.append((named["name"], named["decision"].permitted))

    rate_limit_shadowed.connect(note)
    try:
        answers = [local.get(f"/{kind}shadow") for _ in range(3)]
    finally:
        rate_limit_shadowed.disconnect(note)
    assert [answer.status_code for answer in answers] == [200] * 3
    assert "RateLimit" not in answers[2].headers
    assert told == [("tests.limited.shadow", False)] * 2


def test_a_refusal_is_told(local: Site, kind: str) -> None:
    """To sync and async receivers; one that raises changes nothing."""
    told: list[str] = []

    def note(sender: Any, **named: Any) -> None:
        told.append(named["name"])
        raise RuntimeError("as receivers do")

    async def anote(sender: Any, **named: Any) -> None:
        told.append(str(named["request"].path))

    rate_limited.connect(note)
    rate_limited.connect(anote)
    try:
        assert local.statuses("GET", f"/{kind}two", 3) == [200, 200, 429]
    finally:
        rate_limited.disconnect(note)
        rate_limited.disconnect(anote)
    assert sorted(told) == sorted([f"/{kind}two", "tests.limited.two"])


@pytest.mark.parametrize("route", ["plan", "async-plan"])
def test_a_function_says_the_rates(local: Site, kind: str, route: str) -> None:
    """For each request, or None for no limit."""
    path = f"/{kind}{route}"
    assert local.statuses("GET", path, 2) == [200, 429]
    assert local.statuses("GET", path, 4, plan="many") == [200] * 3 + [429]
    assert local.statuses("GET", path, 4, plan="none") == [200] * 4


def test_users_count_whatever_their_address(local: Site, kind: str) -> None:
    """Visitors that nobody knows are not counted by ``user``, and by address by the other."""
    for route, anonymous in (("user", [200, 200]), ("user-or-ip", [200, 429])):
        path = f"/{kind}{route}"
        assert local.get(path, who="7").status_code == 200
        assert local.get(path, who="7", peer="192.0.2.9").status_code == 429
        assert local.get(path, who="8").status_code == 200
        assert local.statuses("GET", path, 2) == anonymous
    assert {key.split("|")[0] for key in local.buckets()} == {"user:7", "user:8", "127.0.0.1"}


def test_what_is_sent_is_in_no_key(local: Site, kind: str) -> None:
    """KEY-04: an HMAC stands for it, without regard to case where people type."""
    for route, *sent in [
        ("form", {"data": {"email": "Ada@example.com"}}, {"data": {"email": " ada@EXAMPLE.com"}}),
        ("json", {"json": {"email": "Ada@example.com"}}, {"json": {"email": "ADA@example.com"}}),
        ("both", {"json": {"email": "Ada@example.com"}}, {"json": {"email": "ADA@example.com"}}),
        ("header", {"x_api_key": "ABC"}, {"x_api_key": "ABC"}),
    ]:
        path = f"/{kind}{route}"
        assert [local.post(path, **one).status_code for one in sent] == [200, 429]
        # Who sends nothing counts by the address.
        assert local.statuses("POST", path, 2, peer="192.0.2.1") == [200, 429]
    assert local.get(f"/{kind}query?q=Ada").status_code == 200
    assert local.get(f"/{kind}query?q=ada").status_code == 429
    assert local.get(f"/{kind}query?q=bob").status_code == 200
    assert not [key for key in local.buckets() if "ada" in key.lower() or "ABC" in key]


@pytest.mark.parametrize(
    "body", ["[1]", "{", '"x"', '{"email": {}}', '{"email": true}', '{"email": ""}', "[" * 9999]
)
def test_a_body_that_says_nothing_counts_by_the_address(local: Site, kind: str, body: str) -> None:
    """Leaving the field out, or junk, opens no new bucket."""
    path = f"/{kind}json"
    assert local.request("POST", path, json=body).status_code == 200
    assert local.post(path).status_code == 429


@pytest.mark.parametrize("route", ["tenant", "async-tenant"])
def test_a_function_says_by_what(local: Site, kind: str, route: str) -> None:
    """None is not counted; two functions share no bucket."""
    path = f"/{kind}{route}"
    assert local.statuses("GET", path, 2) == [200, 200]
    assert local.statuses("GET", path, 2, tenant="a") == [200, 429]
    assert local.statuses("GET", path, 1, tenant="b") == [200]


def test_classes_count_apart(local: Site, kind: str) -> None:
    """Though both inherit ``dispatch``; a method and ``as_view()`` can be decorated as well."""
    for route in ("class-1", "class-2", "method", "as-view"):
        assert local.statuses("GET", f"/{kind}{route}", 3) == [200, 200, 429], route
    assert len(local.buckets()) == 4


def test_rules_of_rustauths_window_count_apart(local: Site, kind: str) -> None:
    """Stacked, each has a hash of its own."""
    assert local.statuses("GET", f"/{kind}stacked-rustauth", 4) == [200, 200, 200, 429]


def test_what_another_limit_refused_is_no_failure(local: Site, kind: str) -> None:
    """Nor a success: it was not tried."""
    assert local.statuses("GET", f"/{kind}around", 9) == [200] + [429] * 8
    (key,) = [key for key in local.buckets() if "failure" in key or "success" in key]
    assert "success" in key


def test_an_exception_is_asked_about_as_its_response(local: Site, kind: str) -> None:
    """By a function that says what counts."""
    assert local.statuses("GET", f"/{kind}errors?status=1", 3) == [404, 404, 429]
    assert local.statuses("GET", f"/{kind}errors?status=2", 1, peer="192.0.2.1") == [500]
    assert local.statuses("GET", f"/{kind}errors?status=200", 3, peer="192.0.2.2") == [200] * 3


def test_a_form_and_a_body_of_any_type_have_the_field(local: Site, kind: str) -> None:
    """Another Content-Type opens no other bucket."""
    path, body = f"/{kind}json", '{"email": "ada@example.com"}'
    assert local.post(path, json=body).status_code == 200
    send = {"data": body, "content_type": "text/plain"}
    assert local.send("POST", path, **send).status_code == 429
    assert local.post(path, {"email": "Ada@example.com"}, peer="192.0.2.1").status_code == 429


def test_a_token_s_user_counts(local: Site, kind: str) -> None:
    """Whom middleware has put on the request, in the place of the session's."""
    with override_settings(MIDDLEWARE=["tests.limited.TokenMiddleware"]):
        local.configure(**SETTINGS)
        path = f"/{kind}user"
        assert local.get(path, who="7").status_code == 200
        assert local.get(path, who="7", peer="192.0.2.9").status_code == 429
        assert local.get(path, who="8").status_code == 200


def test_partials_count_apart(local: Site, kind: str) -> None:
    """By the functions that they are of."""
    for route in ("partial-1", "partial-2"):
        assert local.statuses("GET", f"/{kind}{route}", 2) == [200, 429]


SPELLINGS = [
    *("Jose Ruiz", "jose ruiz", " JOSE\tRUIZ ", "joseruiz\x00\x7f"),
    *(
        "José Ruíz",
        "Jose\u0301 ruiz",
        "ｊｏｓｅ ｒｕｉｚ",
        "jos\u200be ru\u00adiz",
        "jose ru\u0131z",
    ),
    *("\ufeffjose\u3164 ruiz\ufe0f", "jo\ud800se ruiz", "\U000e0041jose ruiz"),
    "j" + "\u0300\u0316" * 1_000 + "oseruiz",
]


@pytest.mark.parametrize("text", SPELLINGS)
def test_one_name_in_many_spellings(text: str) -> None:
    """Case, forms, marks, blanks and what nobody sees."""
    assert fold(text) == "joseruiz"


@pytest.mark.parametrize(("text", "folded"), [("Straße", "strasse"), ("Дмитрий", "дмитрии")])
def test_letters_stay_letters(text: str, folded: str) -> None:
    """Of any script."""
    assert fold(text) == folded


def test_folding_is_done_once(local: Site) -> None:
    """What is folded stays as it is."""
    for text in (*SPELLINGS, "ﷺ", "\u1e9e", "ǅ", "㎏"):
        assert fold(fold(text)) == fold(text)


def test_padding_is_no_way_around_a_limit(local: Site, kind: str) -> None:
    """What nobody types is one thing, however it is made longer."""
    visitors = get_guard().options.visitors
    assert visitors.typed("ada" + "\u200b" * 4_000) == visitors.typed("ada")
    assert visitors.typed("a" * 5_000) == visitors.typed("b" * 6_000) != visitors.typed("a")
    sent = [{"email": "ada@example.com" + " " * length} for length in (0, 400, 4_000)]
    assert [local.post(f"/{kind}json", json=one).status_code for one in sent] == [200, 429, 429]


PREFLIGHT = {"access_control_request_method": "POST", "origin": "https://example.org"}


def test_a_preflight_spends_nothing(local: Site, kind: str) -> None:
    """It is the browser's; a method that is named counts, and so does any other OPTIONS."""
    assert local.statuses("OPTIONS", f"/{kind}two", 5, **PREFLIGHT) == [200] * 5
    assert local.statuses("OPTIONS", f"/{kind}two", 3) == [200, 200, 429]


def test_the_middleware_counts_no_preflight(local: Site, kind: str) -> None:
    """Unless an entry of RULES names the method."""
    path = f"/{kind}two"
    local.configure(ENABLED=True, WINDOW=60, MAX=2)
    assert 429 not in local.statuses("OPTIONS", path, 5, **PREFLIGHT)
    rule = {"path": "/*", "methods": ["OPTIONS"], "window": 60, "max": 1}
    local.configure(ENABLED=True, RULES=[rule])
    assert local.statuses("OPTIONS", path, 2, **PREFLIGHT) == [200, 429]


def test_a_body_that_was_read_counts_by_the_address(local: Site, kind: str) -> None:
    """Whoever read it."""
    with override_settings(MIDDLEWARE=["tests.limited.ReadingMiddleware", *settings.MIDDLEWARE]):
        local.client.handler.load_middleware(is_async=local.runner is not None)
        sent: list[Any] = [{"email": "a@example.org"}, {"email": "b@example.org"}]
        assert [local.post(f"/{kind}json", json=one).status_code for one in sent] == [200, 429]
        assert [local.post(f"/{kind}form", one).status_code for one in sent] == [200, 429]


@pytest.mark.parametrize("wrong", [type("View", (), {}), None, "view"])
def test_what_is_no_view_is_told_at_import(wrong: Any) -> None:
    """In a sentence that says what to write."""
    with pytest.raises(InvalidConfig, match=r"@(method_decorator\()?rate_limit\(\"5/m\"\)"):
        rate_limit("5/m")(wrong)
    if isinstance(wrong, type):
        with pytest.raises(InvalidConfig, match="needs a rate"):
            rate_limit(wrong)


def test_nothing_is_limited_where_limits_are_off(local: Site, kind: str) -> None:
    """By the setting."""
    local.configure(ENABLED=False)
    assert local.statuses("GET", f"/{kind}two", 4) == [200] * 4


def test_a_request_without_an_address_follows_missing_ip(local: Site, kind: str) -> None:
    """MW-23: refused, in one bucket, or let through."""
    for policy, statuses in [
        ("deny", [429, 429, 429]),
        ("shared-bucket", [200, 200, 429]),
        ("allow", [200, 200, 200]),
    ]:
        local.configure(**SETTINGS, MISSING_IP=policy)
        assert local.statuses("GET", f"/{kind}two", 3, peer=None) == statuses
    local.configure(**SETTINGS, TRACK_IP=False)
    assert local.statuses("GET", f"/{kind}two", 3) == [200] * 3


def test_a_policy_stands_in_for_the_setting(
    local: Site, kind: str, dead_url: str, prefix: str
) -> None:
    """While the server is away: 503, through, counted here, or the error itself."""
    local.base["URL"] = dead_url
    local.configure(**SETTINGS, ON_ERROR="raise")
    assert local.statuses("GET", f"/{kind}allow", 3) == [200] * 3
    assert local.statuses("GET", f"/{kind}local", 3) == [200, 429, 429]
    denied = local.get(f"/{kind}deny")
    assert denied.status_code == 503
    assert denied.headers["Retry-After"] == "1"
    assert denied.json()["code"] == "SERVICE_UNAVAILABLE"
    local.client.raise_request_exception = True
    for route in ("raise", "two"):
        with pytest.raises(BackendUnavailable):
            local.get(f"/{kind}{route}")


def test_lists_hold_for_decorated_views(local: Site, kind: str) -> None:
    """Whoever is allowed is not counted, whoever is denied does not come in."""
    with override_settings(MIDDLEWARE=[]):
        local.configure(**SETTINGS, ALLOW=["127.0.0.0/8"], DENY=["192.0.2.0/24"])
        assert local.statuses("GET", f"/{kind}two", 4) == [200] * 4
        assert local.get(f"/{kind}two", peer="192.0.2.5").status_code == 403


@pytest.mark.parametrize("rates", [THREE, lambda request: THREE, "3/m"])
def test_a_limit_means_what_it_says(rates: Any) -> None:
    """A rule as well as text, also one that a function returns: three in any minute, for ever."""
    view = rate_limit(rates)(lambda request: HttpResponse())
    with fresh_rate_limits() as rate_limits:
        for _ in range(10):
            assert view(RequestFactory().get("/")).status_code == 200
            rate_limits.clock.advance(20)
        rate_limits.clock.advance(60)
        statuses = [view(RequestFactory().get("/")).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rate_limit(), "needs a rate"),
        (lambda: rate_limit("5/month"), "'5/month' is not a rate"),
        (lambda: rate_limit(RateLimitRule(0, 1)), "window must be greater than zero"),
        (lambda: rate_limit("5/m", key=""), "'' is no key"),
        (lambda: rate_limit("5/m", key=()), "must not be empty"),
        (lambda: rate_limit("5/m", key="post:"), "'post:' is no key"),
        (lambda: rate_limit("5/m", key="cookie:x"), "'cookie:x' is no key"),
        (lambda: rate_limit("5/m", key="no.such.module"), "ModuleNotFoundError"),
        (lambda: rate_limit("5/m", key=7), "7 is no key"),  # type: ignore[arg-type]
        (lambda: rate_limit("5/m", cost=6), "not greater than any limit"),
        (lambda: rate_limit("5/m", cost=0), "greater than zero"),
        (lambda: rate_limit("5/m", cost=2, on="failure"), 'cost needs on="request"'),
        (lambda: rate_limit(*[RateLimitRule(n, 1, "rustauth") for n in (8, 9)]), "share a counter"),
        (lambda: rate_limit("5/m", on="error"), 'on must be "request"'),  # type: ignore[arg-type]
        (lambda: rate_limit("5/m", on_error="open"), 'on_error must be "local"'),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_work_is_told_as_the_module_loads(make: Any, message: str) -> None:
    """Not when the first request comes."""
    with pytest.raises(InvalidConfig, match=message):
        make()
    for wrong in (lambda: rate_limit(5), lambda: rate_limit("5/m", cost="1")):  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            wrong()


def test_a_decorator_without_parentheses_is_told_as_the_module_loads() -> None:
    """On functions of either kind, on methods, and under another name."""
    limit = rate_limit
    with pytest.raises(InvalidConfig, match=r'write @rate_limit\("5/m"\)'):

        @rate_limit
        def view(request: HttpRequest) -> HttpResponse:
            return HttpResponse()

    with pytest.raises(InvalidConfig, match="needs a rate"):

        class Page(View):
            @limit  # as its author has it
            async def get(self, request: HttpRequest) -> HttpResponse:
                return HttpResponse()

    def plan(request: HttpRequest) -> str:
        return "1/m"

    @rate_limit(plan)
    def by_plan(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    @rate_limit(
        plan,
    )
    def by_plan_too(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    assert callable(by_plan)
    assert callable(by_plan_too)
    assert callable(method_decorator(rate_limit(plan), name="dispatch")(type("Page", (View,), {})))


def test_user_needs_its_middleware() -> None:
    """A site without it is told, not left without a limit."""

    @rate_limit("1/m", key="user")
    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    with (
        override_settings(RUSTAUTH={"RATE_LIMIT": {"ENABLED": True}}),
        pytest.raises(InvalidConfig, match="needs AuthenticationMiddleware"),
    ):
        view(RequestFactory().get("/"))


def test_the_digest_is_rustauths() -> None:
    """KEY-05, MW-28, MW-29: the same HMAC under the same secret."""
    visitors = Visitors(None, True, "deny", "secret-a-at-least-32-chars-long!!")  # type: ignore[arg-type]
    digest = visitors.digest("challenge-a")
    assert digest == "0fce81b76781d1ac83934a618762e657fe07ee07a1939af92879b853d069ab20"


def test_the_clock_of_a_test_moves_limits(memory: Any, runner: Any, clock: Clock) -> None:
    """No test has to wait for a window."""
    limits = Face(memory.rate_limit_store, runner)
    rule = RateLimitRule.parse("1/m")
    assert limits.consume("key", rule).permitted
    assert not limits.consume("key", rule).permitted
    clock.now_ms += 120_000
    assert limits.consume("key", rule).permitted
