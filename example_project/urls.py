from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path

from . import views

api = [
    path("sign-in/email", views.sign_in_email),
    path("sign-in/magic-link", views.send_magic_link),
    path("get-session", views.get_session),
    path("sign-out", views.sign_out),
]

urlpatterns = [
    path("", views.home, name="home"),
    path("about/", views.about, name="about"),
    path("sign-in/link/<str:token>/", views.sign_in_link, name="sign-in-link"),
    path("sign-in/", LoginView.as_view(), name="login"),
    path("sign-out/", LogoutView.as_view(), name="logout"),
    path("api/auth/", include(api)),
]
