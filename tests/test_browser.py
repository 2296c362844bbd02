"""The example site in a browser, without JavaScript."""

import importlib.util
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import django
import pytest
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.test import override_settings
from django.test.testcases import LiveServerThread
from django.utils.module_loading import import_string

from .example import ADA, Example

pytestmark = pytest.mark.slow

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGS = [
    *("--no-sandbox", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run"),
]
PHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/17.0 Mobile/15E148 Safari/604.1"
)
# Of a machine that is busy with other things; milliseconds.
PATIENCE = 30_000
NONCE = import_string("django.utils.csp.CSP").NONCE if django.VERSION >= (6, 0) else ""
POLICIES = {
    "none": {},
    "nonce": {"default-src": ["'self'"], "style-src": ["'self'", NONCE]},
    "self": {"style-src": ["'self'"]},
}

needs_csp = pytest.mark.skipif(
    django.VERSION < (6, 0), reason="Django has the setting SECURE_CSP from 6.0 on"
)


def do_without(reason: str) -> NoReturn:
    """Skip, unless whoever runs the tests says that there is a browser."""
    if os.environ.get("RUSTAUTH_REQUIRE_BROWSER"):
        pytest.fail(f"RUSTAUTH_REQUIRE_BROWSER is set, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The machine's Chromium, headless."""
    for module in ("playwright", "uvicorn"):
        if importlib.util.find_spec(module) is None:
            do_without(f"{module} is not installed (pip install --group browser)")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        do_without("there is no Chromium on PATH (apt-get install chromium)")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=ARGS, timeout=2 * PATIENCE)
        yield chromium
        chromium.close()


class Person:
    """Somebody at a device of their own."""

    def __init__(self, browser: Any, url: str, **device: Any) -> None:
        self.context = browser.new_context(base_url=url, java_script_enabled=False, **device)
        self.context.set_default_timeout(PATIENCE)
        self.page = self.context.new_page()
        self.main = self.page.get_by_role("main")

    def fill_in(self, button: str, **fields: str) -> None:
        """Send the form of this page."""
        for label, text in fields.items():
            self.main.get_by_label(label.replace("_", " "), exact=False).first.fill(text)
        self.main.get_by_role("button", name=button, exact=True).click()

    def sign_in(self, email: str, password: str) -> None:
        self.page.goto("/sign-in/")
        self.fill_in("Sign in", mail_address=email, Password=password)

    def follow(self, name: str) -> None:
        self.page.get_by_role("link", name=name, exact=True).first.click()

    def open_mail(self) -> str:
        """Follow the link in the latest mail; its address."""
        self.page.goto("/mail/")
        link = self.main.get_by_role("listitem").first.get_by_role("link")
        address = str(link.get_attribute("href"))
        link.click()
        return address

    def sees(self, heading: str) -> None:
        """Wait for the page of this heading."""
        from playwright.sync_api import expect

        expect(self.page.get_by_role("heading", level=1)).to_have_text(heading)


@pytest.fixture(params=["runserver", "uvicorn"])
def url(request: pytest.FixtureRequest, browser: Any, example: Example) -> Iterator[str]:
    """The site under WSGI and under ASGI."""
    if request.param == "runserver":
        yield example.url
    else:
        with example.under_uvicorn() as url:
            yield url


def test_one_device_signs_out_another(browser: Any, url: str) -> None:
    """Whose next click lands on the sign-in page."""
    desk = Person(browser, url, viewport={"width": 1280, "height": 800})
    phone = Person(browser, url, viewport={"width": 390, "height": 844}, user_agent=PHONE)
    for person in (desk, phone):
        person.sign_in(**ADA)
        person.sees("Hello, ada@example.com")
    desk.follow("Your devices")
    desk.sees("Your devices")
    devices = desk.main.get_by_role("listitem")
    assert devices.count() == 2
    assert "This device" in devices.first.inner_text()
    other = devices.filter(has_text="Mobile Safari on iOS")
    other.get_by_role("button", name="Sign out").click()
    desk.page.get_by_role("status").get_by_text("That device is signed out.").wait_for()
    assert devices.count() == 1

    phone.follow("Your devices")
    phone.sees("Sign in")
    assert phone.page.url == f"{url}/sign-in/?next=/devices/"
    too_wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert phone.page.evaluate(too_wide) is False
    phone.fill_in("Sign in", mail_address=ADA["email"], Password=ADA["password"])
    phone.sees("Your devices")
    phone.fill_in("Sign out all other devices")
    phone.page.get_by_role("status").get_by_text("Signed out of 1 other device.").wait_for()
    desk.follow("Your devices")
    desk.sees("Sign in")


def test_a_reset_link_works_once(browser: Any, example: Example) -> None:
    """From sign-up to a new password; opening the link uses nothing up, sending the form does."""
    zoe, other = Person(browser, example.url), Person(browser, example.url)
    zoe.page.goto("/")
    zoe.follow("Sign up")
    email = "zoe.reset@example.com"
    zoe.fill_in("Sign up", Name="Zoe", mail_address=email, Password="short")
    alert = zoe.page.get_by_role("alert")
    alert.get_by_role("link", name="Password").click()
    assert zoe.page.evaluate("document.activeElement.name") == "password"
    zoe.fill_in("Sign up", Password="a long enough one")
    zoe.sees("Check your mail")
    zoe.open_mail()
    zoe.fill_in("Create my account")
    zoe.sees("Hello, Zoe")

    other.page.goto("/sign-in/")
    other.follow("I forgot my password")
    other.fill_in("Mail me a link", mail=email)
    other.sees("Check your mail")
    address = other.open_mail()
    other.sees("Choose a new password")
    later = other.context.new_page()
    later.goto(address)
    passwords = dict.fromkeys(("New_password", "New_password_confirmation"), "another long one")
    other.fill_in("Change my password", **passwords)
    other.sees("Your password is changed")
    later.get_by_label("New password:").fill("the thief's password")
    later.get_by_label("New password confirmation:").fill("the thief's password")
    later.get_by_role("button", name="Change my password").click()
    later.get_by_role("heading", name="This link is not valid").wait_for()
    other.page.goto(address)
    other.sees("This link is not valid")

    zoe.follow("Your devices")
    zoe.sees("Sign in")
    zoe.fill_in("Sign in", mail_address=email, Password="another long one")
    zoe.sees("Your devices")


def test_the_fourth_wrong_password_waits(browser: Any, example: Example) -> None:
    """The page says for how long, counts down, and leads back; the keyboard is enough."""
    ada = Person(browser, example.url, viewport={"width": 390, "height": 844})
    ada.page.goto("/sign-in/")
    for _ in range(4):
        ada.page.get_by_label("E-mail address").focus()
        ada.page.keyboard.type(ADA["email"])
        ada.page.keyboard.press("Tab")
        ada.page.keyboard.type("wrong")
        with ada.page.expect_navigation():
            ada.page.keyboard.press("Enter")
        if ada.page.get_by_role("alert").count() == 0:
            break
        ada.page.get_by_label("E-mail address").fill("")
    ada.sees("Too many requests")
    told = re.search(r"Please wait (\d+) seconds?, then try again\.", ada.main.inner_text())
    assert told
    assert 1 <= int(told[1]) <= 10
    counter = "getComputedStyle(document.querySelector('.countdown'), '::after')"
    left = f"+{counter}.getPropertyValue('--left')"
    first = ada.page.evaluate(left)
    assert 1 < first <= int(told[1])
    while ada.page.evaluate(left) >= first:
        ada.page.wait_for_timeout(50)
    # Where it leads by itself, when the time is over.
    refresh = ada.page.locator("meta[http-equiv=refresh]").get_attribute("content")
    assert refresh == f"{told[1]};url={example.url}/sign-in/"
    ada.follow("Go back now")
    ada.sees("Sign in")


@contextmanager
def plain_site(**settings: Any) -> Iterator[str]:
    """A site with the app's own pages and a limit of one in a minute."""
    limits = {"URL": "memory://", "RATE_LIMIT": {"WINDOW": 60, "MAX": 1}}
    with override_settings(RUSTAUTH=limits, **settings):
        thread = LiveServerThread("127.0.0.1", StaticFilesHandler)
        thread.start()
        try:
            assert thread.is_ready.wait(PATIENCE / 1000)
            assert thread.error is None
            yield f"http://127.0.0.1:{thread.port}"
        finally:
            thread.terminate()


@pytest.mark.parametrize(
    "name", ["none", *(pytest.param(name, marks=needs_csp) for name in ("nonce", "self"))]
)
def test_a_strict_policy_changes_no_page(browser: Any, name: str) -> None:
    """It looks as it should and counts down, and the console tells of no violation."""
    policy = POLICIES[name]
    middleware = ["rustauth_django.middleware.RateLimitMiddleware"]
    if policy:
        middleware.insert(0, "django.middleware.csp.ContentSecurityPolicyMiddleware")
    with plain_site(MIDDLEWARE=middleware, SECURE_CSP=policy) as url:
        person, told = Person(browser, url), []
        person.page.on("console", lambda message: told.append(message.text))
        person.page.goto("/items/")
        response = person.page.goto("/items/")
        sent = response.headers.get("content-security-policy")
        assert "style-src 'self'" in sent if policy else sent is None
        person.sees("Too many requests")

        def look(element: str, name: str, pseudo: str = "") -> str:
            of = f"document.querySelector('{element}'), '{pseudo}'"
            return str(person.page.evaluate(f"getComputedStyle({of}).getPropertyValue('{name}')"))

        assert look("body", "font-size") == "18px"
        assert look("h1", "font-size") == "28px"
        assert look(".countdown", "font-size") == "64px"
        first = int(look(".countdown", "--left", "::after"))
        assert 1 < first <= 60
        assert look(".countdown", "content", "::after") == "counter(left)"
        deadline = time.monotonic() + PATIENCE / 1000
        while int(look(".countdown", "--left", "::after")) >= first:
            assert time.monotonic() < deadline
            person.page.wait_for_timeout(50)
        assert [line for line in told if "Content Security Policy" in line] == []
