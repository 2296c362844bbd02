"""Which suites there are, how each is run, and what differs with the app, for which reason."""

from dataclasses import dataclass

SQL = "counts SQL queries: sessions take none, and a login takes one more to find the account"
TABLE = "reads the table of django.contrib.sessions, which is not used"
NO_APP = "takes the app out of INSTALLED_APPS and leaves its middleware: that stops the site"
APPENDED = "puts Django's backend behind the app's, which looks at the password as well"
ONE_BACKEND = "is about sites whose only backend is Django's"


@dataclass(frozen=True)
class Suite:
    """Tests of a project's, from its source distribution.

    ``differences`` are patterns of names of tests, and why these fail.
    """

    name: str
    project: str
    folder: str
    command: tuple[str, ...]
    differences: dict[str, str]


DJANGO = Suite(
    name="Django",
    project="django",
    folder="tests",
    command=(
        "-c",
        "import adopters.plugin, runpy, sys; sys.argv[0] = 'runtests.py';"
        " runpy.run_path('runtests.py', run_name='__main__')",
        *("--parallel=1", "--verbosity=2"),
        *("auth_tests", "sessions_tests", "test_client", "test_client_regress"),
        *("messages_tests", "csrf_tests", "asgi"),
    ),
    differences={
        "auth_tests.test_auth_backends.*authentication_timing*": APPENDED,
        "auth_tests.*.test_authentication_without_credentials": SQL,
        "auth_tests.*.test_protected_view_logged_in_performance": SQL,
        "auth_tests.*.UserModelChecksTests.test_username_*": ONE_BACKEND,
        "sessions_tests.*.test_empty_session_saved": TABLE,
        "test_client.*_when_sessions_app_is_not_installed": NO_APP,
        "test_client.*.test_sessions_app_is_not_installed": NO_APP,
    },
)
MIXIN = Suite(
    name="Django's session mixin, in each mode",
    project="django",
    folder="tests",
    command=("-m", "adopters.mixin"),
    differences={},
)
ALLAUTH = Suite(
    name="django-allauth",
    project="django-allauth",
    folder=".",
    command=(
        *("-m", "pytest", "-p", "adopters.plugin", "-p", "no:cacheprovider", "-rA", "-q"),
        *(f"tests/apps/{app}" for app in ("account", "usersessions", "mfa", "headless")),
    ),
    differences={"*query_counts*": SQL},
)
REST_FRAMEWORK = Suite(
    name="Django REST framework",
    project="djangorestframework",
    folder=".",
    command=(
        *("-m", "pytest", "-p", "adopters.plugin", "-p", "no:cacheprovider", "-rA", "-q"),
        "tests",
    ),
    differences={},
)
SUITES = [DJANGO, MIXIN, ALLAUTH, REST_FRAMEWORK]
