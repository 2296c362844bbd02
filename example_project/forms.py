"""Forms for people whose name is their e-mail address."""

from typing import Any

from django import forms
from django.contrib.auth import get_user_model
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import password_validators_help_texts as help_texts
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError

# As long as Django's usernames.
MAX_EMAIL = 150


class SignInForm(AuthenticationForm):
    username = forms.EmailField(
        label="E-mail address",
        widget=forms.EmailInput(attrs={"autocomplete": "username"}),
    )

    def clean_username(self) -> str:
        return str(self.cleaned_data["username"]).lower()

    def get_invalid_login_error(self) -> ValidationError:
        return ValidationError(
            "This e-mail address and this password do not belong together.", code="invalid_login"
        )


class SignUpForm(forms.Form):
    """Whoever signs up. Whether the address has an account is not for this form to say."""

    name = forms.CharField(max_length=150, widget=forms.TextInput(attrs={"autocomplete": "name"}))
    email = forms.EmailField(
        label="E-mail address",
        max_length=MAX_EMAIL,
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
    )
    password = forms.CharField(
        strip=False,
        help_text=" ".join(help_texts()),
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def clean_email(self) -> str:
        return str(self.cleaned_data["email"]).lower()

    def clean_password(self) -> str:
        password = str(self.cleaned_data["password"])
        validate_password(password, self.user())
        return password

    def user(self, password: str | None = None) -> Any:
        """The user that this form describes; it is not saved."""
        email, name = self.cleaned_data.get("email", ""), self.cleaned_data.get("name", "")
        hashed = make_password(password)
        return get_user_model()(username=email, email=email, first_name=name, password=hashed)
