"""Links that work once, for ``django.contrib.auth``: reset a password, confirm, sign in.

A GET shows a form or a button and uses no link up, so that programs that follow the links in a mail
do no harm. The POST uses the link up; of many at once, one succeeds.
"""

import json
import logging
from collections.abc import Iterable
from typing import Any, ClassVar
from unicodedata import normalize
from urllib.parse import urlencode

from django import forms
from django.contrib.auth import get_user_model, load_backend, login, views
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.contrib.auth.views import INTERNAL_RESET_SESSION_TOKEN
from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, resolve_url
from django.template.loader import render_to_string
from django.utils.decorators import method_decorator
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters
from django.views.generic import FormView, TemplateView

from .. import verification
from ..conf import of_django
from ..exceptions import BackendError
from ..verification.records import Verification

logger = logging.getLogger("rustauth_django")


class OneTimeTokenGenerator(PasswordResetTokenGenerator):
    """Django's password reset tokens, which are also stored on the server, so that each works once
    (VER-04).

    Django's own check stays: a new password, address or login ends every link before it.
    """

    purpose = "reset-password"

    def make_token(self, user: Any) -> str:
        token, ttl = super().make_token(user), of_django("PASSWORD_RESET_TIMEOUT")
        return verification.create(self.purpose, str(user.pk), ttl=ttl, identifier=token)

    def check_token(self, user: Any, token: str | None) -> bool:
        """Is the token valid? It stays valid."""
        is_right = super().check_token(user, token)
        return is_right and bool(token and verification.peek(self.purpose, token))

    def consume_token(self, user: Any, token: str | None) -> bool:
        """Is the token valid? It is used up: of many callers, one gets True."""
        is_right = super().check_token(user, token)
        return is_right and bool(token and verification.consume(self.purpose, token))


class PasswordResetView(views.PasswordResetView):
    """Django's, with links that work once."""

    token_generator = OneTimeTokenGenerator()

    def form_valid(self, form: Any) -> HttpResponse:
        ask_for_everybody(self.request)
        try:
            return super().form_valid(form)
        except BackendError as error:
            # Without this step only people who have an account would see an error.
            logger.error("A password reset link could not be stored: %s", error.reason)
            return redirect(self.get_success_url())


class PasswordResetConfirmView(views.PasswordResetConfirmView):
    """Django's, whose POST uses up the link, if the new password will do."""

    #: A check looks for it where links lead to.
    is_one_time = True
    token_generator = OneTimeTokenGenerator()

    def form_valid(self, form: Any) -> HttpResponse:
        token = self.request.session[INTERNAL_RESET_SESSION_TOKEN]
        if not self.token_generator.consume_token(self.user, token):
            self.validlink = False
            return self.render_to_response(self.get_context_data())
        return super().form_valid(form)


@method_decorator(
    [login_not_required, sensitive_post_parameters("token"), csrf_protect, never_cache],
    name="dispatch",
)
class LinkView(TemplateView):
    """What a link in a mail leads to: a page with a button, and what the button does.

    The token is in the query, and so in no path that Django logs. It stands for a user at
    an address: after a change of the address it is not valid.
    """

    purpose: ClassVar[str]
    #: The URL pattern of this view.
    url_name: ClassVar[str]
    #: Seconds.
    ttl: ClassVar[int] = 900
    title: Any
    button: Any
    invitation: Any
    template_name = "rustauth_django/link.html"
    email_template_name = "rustauth_django/link_email.txt"

    @classmethod
    def send(cls, request: HttpRequest, user: Any) -> None:
        """Mail a link to the user. A mail that cannot be sent is logged."""
        address = address_of(user)
        value = json.dumps([str(user.pk), address])
        query = urlencode({"token": verification.create(cls.purpose, value, ttl=cls.ttl)})
        url = request.build_absolute_uri(f"{resolve_url(cls.url_name)}?{query}")
        context = {"user": user, "invitation": cls.invitation, "url": url}
        body = render_to_string(cls.email_template_name, context)
        try:
            EmailMessage(f"{cls.title}: {request.get_host()}", body, None, [address]).send()
        except Exception as error:  # noqa: BLE001  # a visible one would tell of the account
            # Its text may quote the address.
            told = "A link for user %s could not be mailed: %s"
            logger.error(told, user.pk, type(error).__name__)

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        token = request.GET.get("token", "")
        user = self.user_of(verification.peek(self.purpose, token))
        return self.show(token=token, is_valid=user is not None)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        token = request.POST.get("token", "")
        user = self.user_of(verification.consume(self.purpose, token))
        return self.show(is_valid=False) if user is None else self.confirmed(user)

    def confirmed(self, user: Any) -> HttpResponse:
        """The response once the user has confirmed the address."""
        raise NotImplementedError

    def user_of(self, found: Verification | None) -> Any:
        """The user for whom a token was made; None if nobody has that address now."""
        if found is None:
            return None
        try:
            pk, address = json.loads(found.value)
            user = get_user_model()._default_manager.filter(pk=pk).first()
        except (TypeError, ValueError, ValidationError):  # another's token, for the same purpose
            return None
        return user if user and address and address_of(user) == address else None

    def show(self, *, is_valid: bool, **context: Any) -> HttpResponse:
        context = self.get_context_data(is_valid=is_valid, **context)
        response = self.render_to_response(context, status=200 if is_valid else 410)
        response.headers["Referrer-Policy"] = "same-origin"
        return response


class ConfirmEmailView(LinkView):
    """The user at the address confirms it; subclasses say in ``confirmed`` what that means."""

    purpose = "confirm-email"
    url_name = "confirm_email"
    ttl = 3 * 86_400
    title = _("Confirm your e-mail address")
    button = _("Confirm")
    invitation = _("Follow this link to confirm your e-mail address:")


class MagicLinkView(LinkView):
    """The user at the address is signed in, if active.

    ``backend`` is the path of the authentication backend to sign in with; None means the first that
    has ``get_user``.
    """

    purpose = "magic-link"
    url_name = "magic_link"
    title = _("Sign in")
    button = _("Sign in")
    invitation = _("Follow this link to sign in:")
    backend: str | None = None
    #: Where to go then; None means LOGIN_REDIRECT_URL.
    success_url: str | None = None

    def user_of(self, found: Verification | None) -> Any:
        user = super().user_of(found)
        return user if user and user.is_active else None

    def confirmed(self, user: Any) -> HttpResponse:
        login(self.request, user, backend=self.backend or backend_with_users())
        return redirect(self.success_url or of_django("LOGIN_REDIRECT_URL"))


class MagicLinkForm(forms.Form):
    """Where to send the link."""

    email = forms.EmailField(
        label=_("E-mail address"),
        max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "email", "autofocus": True}),
    )


@method_decorator([login_not_required, csrf_protect], name="dispatch")
class SendMagicLinkView(FormView):  # type: ignore[type-arg]  # not to be subscribed at run time
    """Asks for an address and mails a link to its user; the response does not tell whether there is
    one.
    """

    form_class = MagicLinkForm
    template_name = "rustauth_django/send_magic_link.html"
    success_url = "?sent"
    link_view = MagicLinkView

    def form_valid(self, form: Any) -> HttpResponse:
        ask_for_everybody(self.request)
        for user in self.get_users(form.cleaned_data["email"]):
            try:
                self.link_view.send(self.request, user)
            except BackendError as error:
                logger.error("A sign-in link could not be stored: %s", error.reason)
        return super().form_valid(form)

    def get_users(self, email: str) -> Iterable[Any]:
        """The active users with an address; the mail goes to the address on file."""
        users = get_user_model()
        named = {f"{users.get_email_field_name()}__iexact": email, "is_active": True}
        # Some databases also find similar addresses.
        found = users._default_manager.filter(**named)
        return [user for user in found if is_same_address(email, address_of(user))]

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(is_sent="sent" in self.request.GET, **kwargs)


def backend_with_users() -> str:
    """The path of the first authentication backend that has ``get_user``."""
    paths: list[str] = of_django("AUTHENTICATION_BACKENDS")
    return next(path for path in paths if hasattr(load_backend(path), "get_user"))


def is_same_address(typed: str, on_file: str) -> bool:
    """Are these the same except for case? Django's reset form compares addresses in this way."""
    one, other = (normalize("NFKC", text).casefold() for text in (typed, on_file))
    return one == other


def address_of(user: Any) -> str:
    """The user's e-mail address, or nothing."""
    return getattr(user, user.get_email_field_name(), "") or ""


def ask_for_everybody(request: HttpRequest) -> None:
    """Raise the errors of an outage or a wrong host for everybody, not only for people who have an
    account.
    """
    request.get_host()
    verification.peek("nothing", "nobody")
