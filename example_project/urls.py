from django.conf import settings
from django.contrib.auth import views
from django.urls import include, path

from rustauth_django.contrib.auth import MagicLinkView, PasswordResetConfirmView

from . import api, pages

json_api = [
    path("sign-up/email", api.sign_up_email),
    path("sign-in/email", api.sign_in_email),
    path("sign-in/magic-link", api.send_magic_link),
    path("get-session", api.get_session),
    path("list-sessions", api.list_sessions),
    path("revoke-session", api.revoke_session),
    path("revoke-sessions", api.revoke_sessions),
    path("revoke-other-sessions", api.revoke_other_sessions),
    path("sign-out", api.sign_out),
    path("request-password-reset", api.request_password_reset),
    path("reset-password", api.reset_password),
]

urlpatterns = [
    path("", pages.home, name="home"),
    path("about/", pages.about, name="about"),
    path("sign-up/", pages.SignUpView.as_view(), name="sign_up"),
    path("sign-up/confirm/", pages.ConfirmSignUpView.as_view(), name="confirm_sign_up"),
    path("sign-in/", pages.SignInView.as_view(), name="login"),
    path("sign-in/link/", pages.SendMagicLinkView.as_view(), name="send_magic_link"),
    path("sign-in/link/open/", MagicLinkView.as_view(), name="magic_link"),
    path("sign-out/", views.LogoutView.as_view(), name="logout"),
    path("devices/", pages.devices, name="devices"),
    path("devices/sign-out/", pages.sign_out_device, name="sign_out_device"),
    path("devices/sign-out-others/", pages.sign_out_others, name="sign_out_others"),
    path("reset/", pages.PasswordResetView.as_view(), name="password_reset"),
    path("reset/sent/", views.PasswordResetDoneView.as_view(), name="password_reset_done"),
    path("reset/done/", views.PasswordResetCompleteView.as_view(), name="password_reset_complete"),
    path(
        "reset/<uidb64>/<token>/", PasswordResetConfirmView.as_view(), name="password_reset_confirm"
    ),
    path("api/auth/", include(json_api)),
]
if settings.DEBUG:
    urlpatterns.append(path("mail/", pages.mailbox, name="mail"))
