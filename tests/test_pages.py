"""The styles of the pages, which are in one file."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.template.loader import render_to_string
from django.urls import path

from rustauth_django.contrib.auth import MagicLinkView, SendMagicLinkView
from rustauth_django.limits import responses

from .site import Site
from .test_login_blocks import BACKENDS, sign_in, wrong
from .urls import ok

pytestmark = pytest.mark.django_db(transaction=True)

PACKAGE = Path(responses.__file__).parent.parent
STYLES = (PACKAGE / "static/rustauth_django/pages.css").read_text()
INLINE = f"<style>\n{STYLES}</style>"

LIMITS = "rustauth_django.middleware.RateLimitMiddleware"
EACH_PAGE = ["403", "429", "503", "locked", "link", "send_magic_link"]
STATUSES = {"403": 403, "429": 429, "503": 503, "locked": 429, "link": 410, "send_magic_link": 200}

urlpatterns = [
    path("items/", ok),
    path("sign-in/", sign_in),
    path("link/", SendMagicLinkView.as_view()),
    path("magic/", MagicLinkView.as_view()),
]


@pytest.fixture
def urlconf() -> str:
    return __name__


def page_of(site: Site, page: str, *middleware: str, **settings: Any) -> tuple[Any, str]:
    """The response that has this page, and its text."""
    site.settings |= {"MIDDLEWARE": middleware or [LIMITS], **settings}
    site.client = type(site.client)()
    before, method, address = 0, "GET", "/items/"
    if page == "403":
        site.configure(DENY=["127.0.0.1"])
    elif page == "429":
        before = 1
        site.configure(WINDOW=60, MAX=1)
    elif page == "503":
        site.base["URL"] = "redis://127.0.0.1:1/0"
        site.configure(ON_ERROR="deny")
    elif page == "locked":
        before, method, address = 1, "POST", "/sign-in/"
        site.settings["AUTHENTICATION_BACKENDS"] = BACKENDS
        site.configure(LOGIN={"ACCOUNT": "1/m"})
    else:
        address = {"link": "/magic/", "send_magic_link": "/link/"}[page]
        site.configure()
    data = wrong() if method == "POST" else None
    for _ in range(before):
        site.request(method, address, data)
    response = site.request(method, address, data, Accept="text/html")
    assert response.status_code == STATUSES[page]
    text = response.content.decode()
    assert " style=" not in text
    return response, text


def styles_in(text: str) -> list[str]:
    """All that brings styles into a page."""
    return re.findall(r"<style[^>]*>.*?</style>|<link[^>]*>", text, re.DOTALL)


def with_page(text: str) -> list[dict[str, Any]]:
    """TEMPLATES of a site that has a page.html of its own."""
    own = ("django.template.loaders.locmem.Loader", {"rustauth_django/page.html": text})
    loaders = [own, "django.template.loaders.app_directories.Loader"]
    backend = "django.template.backends.django.DjangoTemplates"
    return [{"BACKEND": backend, "OPTIONS": {"loaders": loaders}}]


@pytest.mark.parametrize("page", EACH_PAGE)
def test_without_a_policy_the_styles_are_in_the_page(memory_site: Site, page: str) -> None:
    """No file has to be served."""
    assert styles_in(page_of(memory_site, page)[1]) == [INLINE]


def test_a_page_without_a_request() -> None:
    """Has its styles in it."""
    assert styles_in(render_to_string("rustauth_django/link.html")) == [INLINE]


@pytest.mark.parametrize("page", ["403", "429"])
def test_a_page_of_the_sites_own(memory_site: Site, page: str) -> None:
    """Keeps its look, and gets the countdown in the block that it has always had."""
    own = "<style>h1 {}</style>{% block head %}{% endblock %}{% block content %}{% endblock %}"
    text = page_of(memory_site, page, TEMPLATES=with_page(own))[1]
    assert styles_in(text) == ["<style>h1 {}</style>", *([INLINE] if page == "429" else [])]
    assert 'class="rustauth"' not in text


@pytest.mark.parametrize("page", EACH_PAGE)
def test_a_page_of_the_sites_own_may_ask_for_the_styles(memory_site: Site, page: str) -> None:
    """They are there once, even if its block comes first."""
    own = (
        "{% load rustauth_pages %}{% block head %}{% endblock %}{% page_styles %}"
        "{% block content %}{% endblock %}"
    )
    assert styles_in(page_of(memory_site, page, TEMPLATES=with_page(own))[1]) == [INLINE]


def test_the_file_counts_each_wait_down() -> None:
    """It has a rule for each number of seconds that a page can show, and nothing for a request."""
    rules = [f".wait-{n}{{--wait:{n}}}" for n in range(1, responses.MAX_SECONDS + 1)]
    assert re.findall(r"\.wait-.*?}", STYLES) == rules
    assert len(STYLES) < 4000


def test_the_look_is_for_pages_of_the_app() -> None:
    """A site's own page gets nothing from the file but the countdown."""
    known = (":where(.rustauth)", ".countdown", ".wait-", "@", "}")
    rules = re.sub(r"/\*.*?\*/", "", STYLES, flags=re.DOTALL).splitlines()
    assert [rule for rule in rules if rule and not rule.lstrip().startswith(known)] == []


def test_the_page_names_its_wait(memory_site: Site) -> None:
    """By a class, and not in figures of the visitor's language."""
    settings = {"USE_THOUSAND_SEPARATOR": True, "NUMBER_GROUPING": 1}
    text = page_of(memory_site, "429", **settings)[1]
    assert re.search(r'<p class="countdown wait-(60|59)" aria-hidden="true"></p>', text)
