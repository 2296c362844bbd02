"""Paths: contract PATH and the wildcard of MW-11."""

from urllib.parse import unquote, urlsplit

import pytest

from rustauth_django.limits.paths import is_literal, matches, normalize_path


@pytest.mark.parametrize(
    ("url", "base", "path"),
    [
        ("http://h/api/auth/sign-in/email?x=1", "/api/auth", "/sign-in/email"),
        ("/api/auth/sign-in/email?x=1", "/api/auth", "/sign-in/email"),
        ("http://h/api/auth/sign-in/email///", "/api/auth", "/sign-in/email"),
        ("http://h/api/auth", "/api/auth", "/"),
        ("http://h/api/auth/", "/api/auth", "/"),
        ("http://h/api/auth", "/api/auth/", "/"),
        ("http://h/api/auth/", "/api/auth/", "/"),
        ("http://h/api/auth//sign-in/email", "/api/auth", "//sign-in/email"),
        ("http://h/api/authevil/x", "/api/auth", "/api/authevil/x"),
        ("http://h/api/auth/a/../sign-in", "/api/auth", "/a/../sign-in"),
        ("http://h/api/auth/%73ign-in", "/api/auth", "/sign-in"),
        ("http://h/API/auth/sign-in", "/api/auth", "/API/auth/sign-in"),
        ("http://h", "/api/auth", "/"),
        ("", "/api/auth", "/"),
        ("http://h?n=/sign-in", "/api/auth", "/"),
        ("http://h/x#f?q", "/", "/x"),
        ("http://h/x?a#/b", "/", "/x"),
        ("/api/auth/x#frag", "api/auth", "/x"),
        ("http://h/sign-in/", "", "/sign-in"),
        ("http://h/sign-in/", "/", "/sign-in"),
    ],
)
def test_normal_paths(url: str, base: str, path: str) -> None:
    """PATH-01, PATH-02, PATH-03 and PORT-09: on the decoded path, as Django routes it."""
    assert normalize_path(unquote(urlsplit(url).path), base) == path


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/sign-in/*", "/sign-in/email", True),
        ("/sign-in/*", "/sign-in", False),
        ("/sign-in/*", "/sign-in/a/b", True),
        ("/sign-in*", "/sign-in/email", True),
        ("/sign-in/**", "/sign-in/a/b", False),
        ("/**", "/a/b/c", False),
        ("*", "/a", True),
        ("/a/*/c", "/a/b/d/c", True),
        ("/x/?/*", "/x/1/2", False),
        ("/a*a", "/a", True),
        ("/a", "/a", True),
        ("/a", "/ab", False),
        ("/a", "/A", False),
    ],
)
def test_wildcards(pattern: str, path: str, expected: bool) -> None:
    """MW-11, MW-12: RustAuth's column."""
    assert matches(pattern, path) is expected


@pytest.mark.parametrize(
    ("route", "path", "expected"),
    [
        ("items/", "/items/", True),
        ("", "/", True),
        ("robots.txt", "/robots.txt", True),
        ("grüße/", "/grüße/", True),
        (r"^static/page\.html$", "/static/page.html", True),
        (r"^api/^x/\Z", "/api/x/", True),
        ("items/<int:pk>/", "/items/1/", False),
        (r"^page.html$", "/page.html", False),
        (r"^old", "/old", False),
        (r"^everything-else/.*$", "/everything-else/", False),
        (r"^a|b$", "/a|b", False),
    ],
)
def test_literal_routes_stand_for_one_path(route: str, path: str, expected: bool) -> None:
    """QUIRK-21: whatever can match a second path counts as its route."""
    assert is_literal(route, path) is expected
