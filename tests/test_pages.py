"""The styles of the pages, under each Content-Security-Policy; test_browser.py looks at them."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings as site_settings
from django.core.management import call_command
from django.template.loader import render_to_string
from django.test import override_settings
from django.urls import path
from django.utils.module_loading import import_string

from rustauth_django.contrib.auth import MagicLinkView, SendMagicLinkView
from rustauth_django.limits import responses

from .site import Site
from .test_login_blocks import BACKENDS, sign_in, wrong
from .urls import ok

pytestmark = pytest.mark.django_db(transaction=True)
needs_csp = pytest.mark.skipif(
    django.VERSION < (6, 0), reason="Django has the setting SECURE_CSP from 6.0 on"
)
needs_django_csp = pytest.mark.skipif(
    find_spec("csp") is None, reason="django-csp is not installed (pip install --group test)"
)

PACKAGE = Path(responses.__file__).parent.parent
STYLES = (PACKAGE / "static/rustauth_django/pages.css").read_text()
INLINE = f"<style>\n{STYLES}</style>"
LINK = '<link rel="stylesheet" href="/static/rustauth_django/pages.css">'

NONCE = import_string("django.utils.csp.CSP").NONCE if django.VERSION >= (6, 0) else ""
SELF, UNSAFE, HASH = "'self'", "'unsafe-inline'", "'sha256-47DEQpj8HBSa'"
WITHOUT_NONCE = {"style-src": [SELF]}

CSP = "django.middleware.csp.ContentSecurityPolicyMiddleware"
DJANGO_CSP = "csp.middleware.CSPMiddleware"
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


@needs_csp
@pytest.mark.parametrize("page", EACH_PAGE)
@pytest.mark.parametrize(
    "policy",
    [
        {},
        {"img-src": [SELF]},
        {"default-src": [SELF], "style-src": [SELF, UNSAFE]},
        {"default-src": f"{SELF} {UNSAFE}"},
    ],
    ids=["empty", "of images", "unsafe", "unsafe by default"],
)
def test_a_policy_that_permits_inline_styles(memory_site: Site, page: str, policy: Any) -> None:
    """Is answered without a nonce, which would forbid a site's own inline styles."""
    response, text = page_of(memory_site, page, CSP, LIMITS, SECURE_CSP=policy)
    assert styles_in(text) == [INLINE]
    assert "nonce" not in response.headers.get("Content-Security-Policy", "")


@needs_csp
@pytest.mark.parametrize("page", EACH_PAGE)
@pytest.mark.parametrize(
    "policy",
    [
        {"default-src": [SELF], "style-src": [SELF, NONCE]},
        {"default-src": {NONCE}, "style-src": None},
        {"style-src": [SELF], "style-src-elem": NONCE},
        {"style-src": (SELF, UNSAFE, NONCE)},
    ],
    ids=["of styles", "by default", "of elements", "beside unsafe"],
)
def test_a_policy_with_a_nonce(memory_site: Site, page: str, policy: Any) -> None:
    """The page has the nonce of the header, without a context processor."""
    templates = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
    settings = {"SECURE_CSP": policy, "TEMPLATES": templates}
    response, text = page_of(memory_site, page, CSP, LIMITS, **settings)
    (style,) = styles_in(text)
    (nonce,) = re.findall(r"'nonce-([\w-]+)'", response.headers["Content-Security-Policy"])
    assert style == f'<style nonce="{nonce}">\n{STYLES}</style>'


@needs_csp
@pytest.mark.parametrize("page", EACH_PAGE)
@pytest.mark.parametrize(
    "policy",
    [
        WITHOUT_NONCE,
        {"default-src": SELF, "style-src": False},
        {"default-src": [NONCE], "style-src": [SELF]},
        {"style-src": [NONCE, UNSAFE], "style-src-elem": {SELF}},
        {"style-src": [SELF, UNSAFE, HASH]},
        {"style-src": True},
    ],
    ids=["of styles", "by default", "nonce elsewhere", "of elements", "a hash", "nothing"],
)
def test_a_policy_that_forbids_inline_styles(memory_site: Site, page: str, policy: Any) -> None:
    """The page links to the file, and has no nonce."""
    response, text = page_of(memory_site, page, CSP, LIMITS, SECURE_CSP=policy)
    assert styles_in(text) == [LINK]
    assert "nonce" not in response.headers["Content-Security-Policy"]


@needs_csp
@pytest.mark.parametrize("page", EACH_PAGE)
def test_a_policy_without_its_middleware(memory_site: Site, page: str) -> None:
    """Is no policy."""
    text = page_of(memory_site, page, SECURE_CSP=WITHOUT_NONCE)[1]
    assert styles_in(text) == [INLINE]


@needs_csp
@pytest.mark.parametrize("page", EACH_PAGE)
def test_a_middleware_after_ours(memory_site: Site, page: str) -> None:
    """The page is styled there too."""
    settings = {"SECURE_CSP": {"style-src": [NONCE]}}
    response, text = page_of(memory_site, page, LIMITS, CSP, **settings)
    (style,) = styles_in(text)
    header = response.headers.get("Content-Security-Policy", "")
    assert style.startswith('<style nonce="')
    assert not header or style.split('"')[1] in header


@needs_csp
@pytest.mark.parametrize("is_collected", [False, True], ids=["missing", "collected"])
@pytest.mark.parametrize("page", EACH_PAGE)
def test_a_manifest_of_static_files(
    memory_site: Site, page: str, is_collected: bool, tmp_path: Path
) -> None:
    """Names the file; without an entry for it the page goes without styles, and is no 500."""
    storage = "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"
    settings = {
        "INSTALLED_APPS": ["django.contrib.staticfiles", *site_settings.INSTALLED_APPS],
        "STORAGES": {"staticfiles": {"BACKEND": storage}},
        "STATIC_ROOT": tmp_path,
        "SECURE_CSP": WITHOUT_NONCE,
    }
    if is_collected:
        with override_settings(**settings):
            call_command("collectstatic", interactive=False, verbosity=0, ignore=["admin"])
    styles = styles_in(page_of(memory_site, page, CSP, LIMITS, **settings)[1])
    names = [file.name for file in tmp_path.glob("rustauth_django/pages.*.css")]
    assert len(names) == is_collected
    assert styles == [LINK.replace("pages.css", name) for name in names]


@needs_django_csp
@pytest.mark.parametrize("page", EACH_PAGE)
@pytest.mark.parametrize(
    "order", [(DJANGO_CSP, LIMITS), (LIMITS, DJANGO_CSP)], ids=["before", "after"]
)
def test_a_nonce_of_django_csp(memory_site: Site, page: str, order: tuple[str, ...]) -> None:
    """Is the page's as well, and no page is a 500 where the middleware comes after ours."""
    directives = {"style-src": [SELF, import_string("csp.constants.NONCE")]}
    settings = {"CONTENT_SECURITY_POLICY": {"DIRECTIVES": directives}}
    response, text = page_of(memory_site, page, *order, **settings)
    (style,) = styles_in(text)
    nonces = re.findall(r"'nonce-([^']+)'", response.headers.get("Content-Security-Policy", ""))
    assert nonces or order[0] == LIMITS
    for nonce in nonces:
        assert style == f'<style nonce="{nonce}">\n{STYLES}</style>'


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


@needs_csp
def test_a_page_of_the_sites_own_under_a_policy(memory_site: Site) -> None:
    """Gets the countdown in the same way as the app's own page."""
    own = "{% block head %}{% endblock %}{% block content %}{% endblock %}"
    settings = {"TEMPLATES": with_page(own), "SECURE_CSP": WITHOUT_NONCE}
    assert styles_in(page_of(memory_site, "429", CSP, LIMITS, **settings)[1]) == [LINK]


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
