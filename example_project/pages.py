"""The pages: Django's own views and rustauth_django's, and plain functions beside them."""

import json
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth import get_user_model, login, views
from django.contrib.auth.decorators import login_required
from django.core.mail import send_mail
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render, resolve_url
from django.template.loader import render_to_string
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST
from django.views.generic import FormView

from rustauth_django import rate_limit, verification
from rustauth_django.contrib import auth
from rustauth_django.sessions import list_sessions, revoke_other_sessions, revoke_session
from rustauth_django.verification import Verification

from .forms import SignInForm, SignUpForm
from .mail import outbox

# Whatever mails to an address that somebody types, here or in the API: so many to each.
limit_mails = rate_limit("5/15m", key="json:email", scope="mail", methods="POST")


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    return render(request, "home.html")


@require_GET
def about(request: HttpRequest) -> HttpResponse:
    return render(request, "about.html")


@require_GET
def mailbox(request: HttpRequest) -> HttpResponse:
    """What was mailed, to whomever; only with DEBUG."""
    return render(request, "mail.html", {"mails": list(outbox)})


class SignInView(views.LoginView):
    authentication_form = SignInForm


@method_decorator(limit_mails, name="dispatch")
class SignUpView(FormView):  # type: ignore[type-arg]
    """Takes a name, an address and a password; the account is made by a link in a mail."""

    form_class = SignUpForm
    template_name = "sign_up.html"
    success_url = "?sent"

    def form_valid(self, form: Any) -> HttpResponse:
        ConfirmSignUpView.send(self.request, form.user(form.cleaned_data["password"]))
        return super().form_valid(form)


class ConfirmSignUpView(auth.LinkView):
    """Makes the account and signs in, for whoever reads mail at the address.

    Until then there is no account: what it will be is in the token's value, so that nobody
    can take an address by being the first to type it.
    """

    purpose = "sign-up"
    url_name = "confirm_sign_up"
    ttl = 86_400
    title = "Finish signing up"
    button = "Create my account"

    @classmethod
    def send(cls, request: HttpRequest, user: Any) -> None:
        """Mail the link; or, to an address with an account, that there is one."""
        auth.ask_for_everybody(request)  # an outage tells nobody which of the two it is
        if has_account(user.username):
            url, template = resolve_url("login"), "mails/has_account.txt"
        else:
            value = json.dumps([user.email, user.first_name, user.password])
            token = verification.create(cls.purpose, value, ttl=cls.ttl)
            url = f"{resolve_url(cls.url_name)}?{urlencode({'token': token})}"
            template = "mails/sign_up.txt"
        body = render_to_string(template, {"user": user, "url": request.build_absolute_uri(url)})
        send_mail(cls.title, body, None, [user.email])

    def user_of(self, found: Verification | None) -> Any:
        if found is None:
            return None
        email, name, hashed = json.loads(found.value)
        if has_account(email):
            return None
        return get_user_model()(username=email, email=email, first_name=name, password=hashed)

    def confirmed(self, user: Any) -> HttpResponse:
        try:
            with transaction.atomic():
                user.save()
        except IntegrityError:  # by another link, at the same moment
            return self.show(is_valid=False)
        login(self.request, user)
        return redirect("home")


@method_decorator(limit_mails, name="dispatch")
class PasswordResetView(auth.PasswordResetView):
    """Mails a link that works once."""


@method_decorator(limit_mails, name="dispatch")
class SendMagicLinkView(auth.SendMagicLinkView):
    """Mails a link that signs in, once."""


@require_GET
@never_cache
@login_required
def devices(request: HttpRequest) -> HttpResponse:
    sessions = list_sessions(request.user, request)
    sessions.sort(key=lambda session: (session.is_current, session.created_at), reverse=True)
    return render(request, "devices.html", {"sessions": sessions})


@require_POST
@login_required
def sign_out_device(request: HttpRequest) -> HttpResponse:
    """By the session's id: its token never leaves the server."""
    if revoke_session(request.user, request.POST.get("id", "")):
        messages.success(request, "That device is signed out.")
    else:
        messages.info(request, "That device was signed out already.")
    return redirect("devices")


@require_POST
@login_required
def sign_out_others(request: HttpRequest) -> HttpResponse:
    count = revoke_other_sessions(request)
    messages.success(request, f"Signed out of {count} other device{'' if count == 1 else 's'}.")
    return redirect("devices")


def has_account(email: str) -> bool:
    return get_user_model().objects.filter(username=email).exists()
