"""Links that work once, through Django's views: a new password, a confirmation, a sign-in."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.contrib import admin
from django.contrib.auth import views as auth_views
from django.contrib.auth.forms import SetPasswordForm
from django.contrib.auth.models import User
from django.core.checks import run_checks
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory, override_settings
from django.urls import include, path
from django.utils import translation

from example_project.pages import ConfirmSignUpView
from rustauth_django import BackendUnavailable, secondary_storage, verification
from rustauth_django.contrib.auth import (
    ConfirmEmailView,
    MagicLinkView,
    OneTimeTokenGenerator,
    PasswordResetConfirmView,
    PasswordResetView,
    SendMagicLinkView,
)

from .servers import BINARIES, Server

ADDRESS = "ada@example.com"


class RacingForm(SetPasswordForm):
    """While it is checked, the link is used elsewhere."""

    def clean(self) -> Any:
        OneTimeTokenGenerator().consume_token(self.user, RACED[0])
        return super().clean()


RACED: list[str] = []


class Confirm(ConfirmEmailView):
    def confirmed(self, user: Any) -> HttpResponse:
        User.objects.filter(pk=user.pk).update(is_active=True)
        return HttpResponse("Thank you")


def who(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.user.get_username() or "nobody")


urlpatterns = [
    path("admin/", admin.site.urls),  # whose templates the pages of django.contrib.auth extend
    path("reset/", PasswordResetView.as_view(), name="password_reset"),
    path("reset/done/", auth_views.PasswordResetDoneView.as_view(), name="password_reset_done"),
    path(
        "reset/<uidb64>/<token>/",
        PasswordResetConfirmView.as_view(),
        name="password_reset_confirm",
    ),
    path("raced/<uidb64>/<token>/", PasswordResetConfirmView.as_view(form_class=RacingForm)),
    path("reset/complete/", who, name="password_reset_complete"),
    path("login/", who, name="login"),
    path("confirm/", Confirm.as_view(), name="confirm_email"),
    path("link/", SendMagicLinkView.as_view(), name="send_magic_link"),
    path("magic/", MagicLinkView.as_view(success_url="/who/"), name="magic_link"),
    path("magic/default/", MagicLinkView.as_view()),
    path("who/", who),
]

PASSWORDS = {"new_password1": "Tr0ub4dor&3x", "new_password2": "Tr0ub4dor&3x"}


def ada_on(url: str, prefix: str) -> Iterator[User]:
    with override_settings(
        RUSTAUTH={"URL": url, "KEY_PREFIX": prefix, "RATE_LIMIT": {"ENABLED": False}},
        ROOT_URLCONF=__name__,
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    ):
        yield User.objects.create_user("ada", ADDRESS, "correct horse")


@pytest.fixture
def ada(db: None, backend_url: str, prefix: str) -> Iterator[User]:
    """Somebody who has an account, on each backend."""
    yield from ada_on(backend_url, prefix)


@pytest.fixture
def local_ada(db: None, prefix: str) -> Iterator[User]:
    """The same, where the backend makes no difference."""
    yield from ada_on("memory://", prefix)


def link_in(mail: Any) -> str:
    """Path and query of the link in a mail."""
    found = re.search(r"http://testserver(\S+)", mail.body)
    assert found
    return found[1]


def token_in(link: str) -> str:
    return link.partition("?token=")[2]


def ask_for_reset(mailoutbox: list[Any], client: Client | None = None) -> str:
    (client or Client()).post("/reset/", {"email": ADDRESS})
    return link_in(mailoutbox[-1])


def test_a_reset_link_works_once(ada: User, mailoutbox: list[Any]) -> None:
    """VER-04: the key is there after the request, and gone after the reset."""
    link = ask_for_reset(mailoutbox)
    assert len(secondary_storage.list_keys()) == 1
    # A scanner follows the link, with and without keeping cookies.
    for scanner in (Client(), Client()):
        assert scanner.get(link, follow=True).context["validlink"]
        assert scanner.head(link).status_code == 302
    client = Client()
    form = client.get(link).headers["Location"]
    weak = client.post(form, {"new_password1": "a", "new_password2": "b"})
    assert weak.context["form"].errors
    assert client.post(form, PASSWORDS).headers["Location"] == "/reset/complete/"
    assert secondary_storage.list_keys() == []
    ada.refresh_from_db()
    assert ada.check_password(PASSWORDS["new_password1"])
    for late in (scanner, client, Client()):
        for gone in (link, form):
            assert not late.get(gone).context["validlink"]
        assert not late.post(form, PASSWORDS).context["validlink"]


def test_of_two_resets_at_once_one_wins(local_ada: User, mailoutbox: list[Any]) -> None:
    """The other is told that the link is not valid, and changes nothing."""
    link = ask_for_reset(mailoutbox).replace("/reset/", "/raced/")
    RACED[:] = [link.split("/")[-2]]
    client = Client()
    form = client.get(link).headers["Location"]
    lost = client.post(form, PASSWORDS)
    assert (lost.status_code, lost.context["validlink"]) == (200, False)
    local_ada.refresh_from_db()
    assert local_ada.check_password("correct horse")


def test_a_reset_link_ends_with_what_django_ends_it_by(
    local_ada: User, mailoutbox: list[Any]
) -> None:
    """A new password or address ends all of them; a token that Django alone made is none."""
    tokens, plain = OneTimeTokenGenerator(), auth_views.PasswordResetView.token_generator
    assert not tokens.check_token(local_ada, plain.make_token(local_ada))
    for field in ("email", "password"):
        token = tokens.make_token(local_ada)
        assert tokens.check_token(local_ada, token)
        setattr(local_ada, field, "changed")
        assert not tokens.check_token(local_ada, token)
        assert not tokens.consume_token(local_ada, token)
    for nothing in (None, "", "x", "x-y", "\ud800"):
        assert not tokens.check_token(local_ada, nothing)
        assert not tokens.consume_token(local_ada, nothing)
    assert not tokens.check_token(None, tokens.make_token(local_ada))


@pytest.mark.parametrize("path", ["/reset/", "/link/"])
def test_nothing_tells_who_has_an_account(
    local_ada: User, mailoutbox: list[Any], path: str, dead_url: str
) -> None:
    """The same answers to the byte; a mail to her, none to nobody; the same without a server."""
    User.objects.create_user("grace", "grace@example.com", "x", is_active=False)
    answers = []
    for address in (ADDRESS, ADDRESS.upper(), "grace@example.com", "nobody@example.com"):
        client = Client()
        first = client.post(path, {"email": address})
        page = client.get(f"{path}{first.headers['Location']}" if path == "/link/" else path)
        headers = {k: v for k, v in first.headers.items() if k != "Expires"}
        answers.append((first.status_code, headers, first.content, page.status_code))
        if path == "/link/":
            answers[-1] += (page.content,)
    assert all(answer == answers[0] for answer in answers)
    assert [mail.to for mail in mailoutbox] == [[ADDRESS]] * 2
    with override_settings(RUSTAUTH={"URL": dead_url, "RATE_LIMIT": {"ENABLED": False}}):
        client.raise_request_exception = False
        for address in (ADDRESS, "nobody@example.com"):
            assert client.post(path, {"email": address}).status_code == 500


def test_a_magic_link_signs_in_once(ada: User, mailoutbox: list[Any]) -> None:
    """A GET shows a button, and only the POST signs in."""
    client = Client()
    page = client.post("/link/", {"email": ADDRESS}, follow=True)
    assert b"on its way" in page.content
    link = link_in(mailoutbox[-1])
    assert mailoutbox[-1].subject == "Sign in: testserver"
    assert ADDRESS not in mailoutbox[-1].body
    for method in ("get", "head", "get"):
        page = getattr(Client(), method)(link)
        assert page.status_code == 200
        assert page.headers["Referrer-Policy"] == "same-origin"
        assert "no-store" in page.headers["Cache-Control"]
    assert 'action="/magic/"' in page.content.decode()
    posted = {"token": token_in(link)}
    assert client.post("/magic/", posted).headers["Location"] == "/who/"
    assert client.get("/who/").content == b"ada"
    assert secondary_storage.list_keys() == []
    other = Client()
    for late in (
        other.post("/magic/", posted),
        other.get(link),
        other.post(link),
        other.get("/magic/"),
    ):
        assert late.status_code == 410
        assert b"<button" not in late.content
    assert other.get("/who/").content == b"nobody"


@pytest.mark.parametrize("first", ["LoginProtection", "ModelBackend"])
def test_a_magic_link_signs_in_by_a_backend_of_the_site(
    local_ada: User, mailoutbox: list[Any], first: str
) -> None:
    """By one that knows users."""
    backends = [f"rustauth_django.login.{first}", "django.contrib.auth.backends.ModelBackend"]
    with override_settings(AUTHENTICATION_BACKENDS=backends[: 2 if "Login" in first else 1]):
        client = Client()
        client.post("/link/", {"email": ADDRESS})
        client.post("/magic/", {"token": token_in(link_in(mailoutbox[-1]))})
        assert client.get("/who/").content == b"ada"


def test_a_magic_link_leads_where_django_says(local_ada: User, mailoutbox: list[Any]) -> None:
    """LOGIN_REDIRECT_URL, if the view has no place of its own."""
    Client().post("/link/", {"email": ADDRESS})
    with override_settings(LOGIN_REDIRECT_URL="confirm_email"):
        posted = {"token": token_in(link_in(mailoutbox[-1]))}
        assert Client().post("/magic/default/", posted).headers["Location"] == "/confirm/"


@pytest.mark.parametrize(
    "change", [{"email": "new@example.com"}, {"is_active": False}, {"pk": None}]
)
def test_a_magic_link_is_for_the_user_as_it_was(
    local_ada: User, mailoutbox: list[Any], change: dict[str, Any]
) -> None:
    """Who has moved to another address, was thrown out or is gone is not signed in by it."""
    Client().post("/link/", {"email": ADDRESS})
    users = User.objects.filter(pk=local_ada.pk)
    users.update(**change) if "pk" not in change else users.delete()
    link = link_in(mailoutbox[-1])
    client = Client()
    assert client.get(link).status_code == 410
    assert client.post("/magic/", {"token": token_in(link)}).status_code == 410
    assert client.get("/who/").content == b"nobody"


@pytest.mark.parametrize("content", ["", "1", "[]", '["x", "y"]', "{}", "[null, null]", '"ab"'])
def test_a_token_of_another_make_signs_nobody_in(local_ada: User, content: str) -> None:
    """What somebody else keeps under the purpose is no user."""
    token = verification.create("magic-link", content, ttl=60)
    assert Client().get("/magic/", {"token": token}).status_code == 410
    assert Client().post("/magic/", {"token": token}).status_code == 410


def test_links_of_one_kind_do_not_do_for_another(local_ada: User, rf: Any) -> None:
    """A confirmation signs nobody in."""
    Confirm.send(rf.get("/"), local_ada)
    token = verification.create("confirm-email", f'["{local_ada.pk}", "{ADDRESS}"]', ttl=60)
    assert Client().post("/magic/", {"token": token}).status_code == 410
    assert Client().post("/confirm/", {"token": token}).status_code == 200


def test_an_address_is_confirmed_by_a_button(
    local_ada: User, mailoutbox: list[Any], rf: Any
) -> None:
    """The GET changes nothing; the POST does, once, also for one who is not active yet."""
    User.objects.update(is_active=False)
    Confirm.send(rf.get("/"), local_ada)
    link = link_in(mailoutbox[-1])
    assert b"<button>Confirm</button>" in Client().get(link).content
    assert not User.objects.get().is_active
    posted = {"token": token_in(link)}
    assert Client().post("/confirm/", posted).content == b"Thank you"
    assert User.objects.get().is_active
    assert Client().post("/confirm/", posted).status_code == 410


def test_the_buttons_are_safe_from_other_sites(local_ada: User, mailoutbox: list[Any]) -> None:
    """Nobody is signed in as somebody else by a form elsewhere, and no login is asked for."""
    middleware = "django.contrib.auth.middleware.LoginRequiredMiddleware"
    with override_settings(MIDDLEWARE=[*settings.MIDDLEWARE, middleware]):
        client = Client(enforce_csrf_checks=True)
        for path in ("/magic/", "/confirm/", "/link/"):
            assert client.post(path, {"token": "x"}).status_code == 403
            assert client.get(path).status_code in (200, 410)
        page = client.get("/link/")
        csrf = page.context["csrf_token"]
        sent = client.post("/link/", {"email": ADDRESS, "csrfmiddlewaretoken": str(csrf)})
        assert sent.status_code == 302
        assert len(mailoutbox) == 1


def test_logs_have_no_token_and_no_address(
    local_ada: User, mailoutbox: list[Any], caplog: pytest.LogCaptureFixture, rf: Any
) -> None:
    """Neither when a mail cannot be sent, which is not seen, nor when a link is used up."""
    Client().post("/link/", {"email": ADDRESS})
    link = link_in(mailoutbox[-1])
    for _ in range(2):
        Client().post("/magic/", {"token": token_in(link)})
        Client().get(link)
    local_ada.email = f"{ADDRESS}\n, which the error quotes"
    MagicLinkView.send(rf.get("/"), local_ada)
    assert re.search(r"A link for user \d+ could not be mailed: \w*Error", caplog.text)
    assert token_in(link) not in caplog.text
    assert ADDRESS not in caplog.text


@pytest.mark.parametrize(
    ("language", "word"), [("de", "Anmelden"), ("fr", "Se connecter"), ("es", "Iniciar sesión")]
)
def test_the_pages_and_the_mail_speak_the_visitors_language(
    local_ada: User, mailoutbox: list[Any], language: str, word: str
) -> None:
    """German, French and Spanish."""
    locale = "django.middleware.locale.LocaleMiddleware"
    middleware = override_settings(MIDDLEWARE=[locale, *settings.MIDDLEWARE])
    with middleware, translation.override(None):
        client = Client(headers={"Accept-Language": language})
        assert word in client.get("/link/").content.decode()
        client.post("/link/", {"email": ADDRESS})
        assert mailoutbox[-1].subject.startswith(word)
        assert "The link" not in mailoutbox[-1].body
        assert word in client.get(link_in(mailoutbox[-1])).content.decode()
        gone = client.get("/magic/").content.decode()
        assert "This link" not in gone
        assert f'lang="{language}"' in gone


def test_a_server_that_reads_and_does_not_write_tells_nothing(
    db: None, prefix: str, mailoutbox: list[Any]
) -> None:
    """Only for those with an account there is something to write."""
    with Server(next(iter(BINARIES))) as server, server.client() as raw:
        for _ in ada_on(server.url, prefix):
            raw.config_set("min-replicas-to-write", "1")
            for path in ("/reset/", "/link/"):
                answers = [
                    Client().post(path, {"email": email})
                    for email in (ADDRESS, "nobody@example.com")
                ]
                assert {answer.status_code for answer in answers} == {302}
                assert len({answer.headers["Location"] for answer in answers}) == 1
    assert mailoutbox == []


class Resets:
    """URLs of a site, as a URLconf."""

    def __init__(self, *patterns: Any) -> None:
        self.urlpatterns = list(patterns)


OURS = PasswordResetConfirmView.as_view()
DJANGOS = include("django.contrib.auth.urls")


@pytest.mark.parametrize(
    ("urlconf", "is_told"),
    [
        (Resets(path("accounts/", DJANGOS)), False),
        (Resets(path("a/<uidb64>/<token>/", OURS, name="password_reset_confirm")), False),
        (
            Resets(
                path("a/<uidb64>/<token>/", OURS, name="password_reset_confirm"),
                path("accounts/", DJANGOS),
            ),
            True,
        ),
        (
            Resets(
                path("accounts/", DJANGOS),
                path("accounts/reset/<uidb64>/<token>/", OURS, name="password_reset_confirm"),
            ),
            True,
        ),
        (
            Resets(
                path("accounts/reset/<uidb64>/<token>/", OURS, name="password_reset_confirm"),
                path("accounts/", DJANGOS),
            ),
            False,
        ),
    ],
)
def test_a_reset_that_links_do_not_lead_to_is_found(urlconf: Resets, is_told: bool) -> None:
    """Where Django's own view stands in the way."""
    with override_settings(ROOT_URLCONF=urlconf):
        found = [one for one in run_checks() if one.id == "rustauth_django.W010"]
    assert len(found) == is_told
    if is_told:
        assert "/accounts/reset/MQ/a-b/" in found[0].msg


@pytest.mark.django_db
@pytest.mark.parametrize("address", ["ada@example.com", "nobody@example.com"])
def test_an_outage_does_not_tell_who_has_an_account(address: str, dead_url: str) -> None:
    """The example's sign-up fails for both, before it does anything that differs."""
    User.objects.create_user("ada@example.com", "ada@example.com")
    user = User(username=address, email=address)
    with override_settings(RUSTAUTH={"URL": dead_url}), pytest.raises(BackendUnavailable):
        ConfirmSignUpView.send(RequestFactory().post("/sign-up/"), user)
