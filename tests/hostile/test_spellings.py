"""Guesses under every spelling of a name, on databases that compare names as sites' do."""

import json
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address
from typing import Any, ClassVar

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import aauthenticate, authenticate
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import IntegrityError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.http import HttpRequest, HttpResponse
from django.urls import path

from tests.site import Site

from .databases import ALIAS, MARIADB, POSTGRESQL, Database, Kind, disconnect, require

pytestmark = pytest.mark.slow

RIGHT, WRONG = "right", "wrong"
# At random, beside those in which every spelling has its turn.
MIXTURES = 5


@dataclass(frozen=True, slots=True)
class Comparison:
    """A database that compares names in its own way.

    ``names`` are of one account each, as it was created and in other spellings that find it.
    """

    kind: Kind
    names: tuple[tuple[str, ...], ...]
    create: str = "CREATE DATABASE {}"
    statements: tuple[str, ...] = ()


COMPARISONS = {
    "postgresql": Comparison(POSTGRESQL, (("jose{}",), ("José{}",))),
    # No case, no marks, no blanks, no punctuation, no characters that are ignorable.
    "postgresql-loose": Comparison(
        POSTGRESQL,
        (
            (
                *("jose{}", "JOSE{}", "jós\u00e9{}", "jose\u0301{}", "ｊｏｓｅ{}", "jo\u200bse{}"),
                *("jose{}  ", " j o-s.e{}", "jo\u00adse{}", "ⓙose{}"),
            ),
        ),
        statements=(
            "CREATE COLLATION loose"
            " (provider = icu, locale = 'und-u-ks-level1-ka-shifted', deterministic = false)",
            "DROP INDEX auth_user_username_6821ab7c_like",
            "ALTER TABLE auth_user ALTER COLUMN username TYPE varchar(150) COLLATE loose",
        ),
    ),
    # The default of older versions; what is beyond 16 bits is all the same to it.
    "mariadb": Comparison(
        MARIADB,
        (
            (
                *("jose{}", "JOSE{}", "jós\u00e9{}", "JÓSÉ{}", "jose{}   ", "jo\u017fe{}"),
                "Jose{}" + " " * 4_000,
            ),
            ("josé{}", "jose{}", "JOSÉ{} "),
            ("jose😀{}", "jose🎉{}", "JOSÉ😀{}  "),
        ),
        create="CREATE DATABASE {} COLLATE utf8mb4_general_ci",
    ),
    # That of newer ones, which MariaDB has from 10.10 on.
    "mariadb-unicode": Comparison(
        MARIADB,
        (
            (
                *("jose{}", "JOSE{}", "jós\u00e9{}", "jose\u0301{}", "ｊｏｓｅ{}", "jo\u200bse{}"),
                *("jose{}   ", "jo\u00adse{}", "ⓙose{}", "jo\u017fe{}", "jøse{}"),
            ),
            ("strasse{}", "straße{}", "STRASSE{}", "stra\u200bße{} "),
            ("mikael{}", "MIKÆL{}", "mikæl{} "),
        ),
        create="CREATE DATABASE {} COLLATE utf8mb4_uca1400_ai_ci",
    ),
}
# Nobody's, and to ``fold`` all the same.
NOBODYS = (
    *("mikel{}", "MIKEL{}", "m\u0131kel{}", "MİKEL{}", "míkel{}", "mike\u0301l{}", "ｍｉｋｅｌ{}"),
    *("mi\u200bkel{}", "mi\u00adkel{}", "\ufeffmikel{}", " mi kel{}  ", "ⓜikel{}", "𝐦ikel{}"),
    *("mi\u2060ke\u0338l{}", "mi\u3164kel{}", "mikel{}" + " " * 4_000),
)
# Some database or other takes two of these for the same.
LOOKALIKES = (
    *("jose", "JOSE", "José", "jose\u0301", "ｊｏｓｅ", "jo\u200bse", "jose ", "j.ose"),
    *("j\u043ese", "jo\u017fe", "jo\u00dfe", "josse", "jøse", "jose😀", "jose🎉"),
    *("mike", "m\u0131ke", "M\u0130KE", "1", "2", "3", "4", "５", "pk:1", "pk:2"),
)


class Counting(ModelBackend):
    """Django's own, and counts the passwords that it looks at."""

    checked: ClassVar[list[str]] = []

    def authenticate(self, request: Any, **credentials: Any) -> Any:  # type: ignore[override]
        self.checked.append(credentials["username"])
        return super().authenticate(request, **credentials)

    async def aauthenticate(self, request: Any, **credentials: Any) -> Any:  # type: ignore[override]
        self.checked.append(credentials["username"])
        return await super().aauthenticate(request, **credentials)


class Router:
    """Everything is in the database under attack."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return ALIAS

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return ALIAS


def sign_in(request: HttpRequest) -> HttpResponse:
    found = authenticate(request, **json.loads(request.body))
    return HttpResponse(status=200 if found else 401)


async def asign_in(request: HttpRequest) -> HttpResponse:
    found = await aauthenticate(request, **json.loads(request.body))
    return HttpResponse(status=200 if found else 401)


urlpatterns = [path("sync/", sign_in), path("async/", asign_in)]


@pytest.fixture
def urlconf() -> str:
    return __name__


@pytest.fixture(scope="module", params=COMPARISONS)
def case(request: pytest.FixtureRequest) -> str:
    """Each way to compare names in turn."""
    return str(request.param)


@pytest.fixture
def comparison(case: str) -> Comparison:
    return COMPARISONS[case]


@pytest.fixture(scope="module")
def started(django_db_blocker: Any) -> Iterator[Callable[[Kind], Database]]:
    """Starts each database once."""
    with django_db_blocker.unblock(), ExitStack() as stack:
        yield cache(lambda kind: stack.enter_context(Database(kind)))


@pytest.fixture(scope="module")
def prepared() -> set[str]:
    """The cases whose databases are there; the order of the tests may come back to one."""
    return set()


@pytest.fixture(scope="module")
def database(case: str, started: Callable[[Kind], Database], prepared: set[str]) -> Database:
    """One that compares like this, with Django's tables."""
    comparison = COMPARISONS[case]
    require(comparison.kind)
    database = started(comparison.kind)
    if case in prepared:
        return database
    prepared.add(case)
    with database.connected() as connection, connection.cursor() as cursor:
        cursor.execute(comparison.create.format(connection.ops.quote_name(case)))
    with database.connected(NAME=case) as connection:
        call_command("migrate", database=ALIAS, verbosity=0)
        with connection.cursor() as cursor:
            for statement in comparison.statements:
                cursor.execute(statement)
    return database


@dataclass
class Attacker:
    """Sends guesses, each from an address of its own."""

    site: Site
    queries: list[str] = field(default_factory=list)
    sent: int = 0

    def guess(self, name: str, password: str = WRONG) -> int:
        """The status of the answer."""
        self.sent += 1
        status: int = self.site.post(
            "/async/" if self.site.runner else "/sync/",
            json={"username": name, "password": password},
            peer=str(ip_address("10.0.0.0") + self.sent),
        ).status_code
        return status

    def guesses(self, names: list[str]) -> list[int]:
        return [self.guess(name) for name in names]

    def watch(self, connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
        """A receiver of ``connection_created``, in whatever thread."""
        if connection.alias == ALIAS and self.note not in connection.execute_wrappers:
            connection.execute_wrappers.append(self.note)

    def note(self, execute: Any, sql: str, *args: Any) -> Any:
        """A wrapper around each query."""
        self.queries.append(sql)
        return execute(sql, *args)


@pytest.fixture
def attacker(case: str, database: Database, memory_site: Site) -> Iterator[Attacker]:
    """A site on this database, without users; sync and async."""
    attacker = Attacker(memory_site)
    memory_site.settings |= {
        "AUTHENTICATION_BACKENDS": [
            "rustauth_django.login.LoginProtection",
            f"{__name__}.Counting",
        ],
        "DATABASE_ROUTERS": [f"{__name__}.Router"],
    }
    memory_site.configure(ENABLED=True, RULES=[{"path": "*", "disabled": True}])
    connection_created.connect(attacker.watch)
    with database.connected(NAME=case):
        User.objects.all().delete()
        Counting.checked.clear()
        try:
            yield attacker
        finally:
            if memory_site.runner:
                # Its views and queries had a thread of their own.
                memory_site.runner.run(sync_to_async(disconnect)())
            connection_created.disconnect(attacker.watch)


def mixtures(spellings: list[str]) -> Iterator[list[str]]:
    """Six spellings each, the same ones in every run."""
    chance = random.Random(6)
    for start in range(0, len(spellings), 6):
        chosen = spellings[start : start + 6]
        yield chosen + chance.choices(spellings, k=6 - len(chosen))
    for _ in range(MIXTURES):
        yield chance.choices(spellings, k=6)


def test_five_passwords_of_an_account_are_checked(
    attacker: Attacker, comparison: Comparison
) -> None:
    """In any mixture of the spellings that find it; then the right one is refused, too."""
    for names in comparison.names:
        for number, mixture in enumerate(mixtures(list(names))):
            user = User.objects.create_user(names[0].format(number), password=RIGHT)
            *five, last = (name.format(number) for name in mixture)
            for name in (*five, last):
                assert User.objects.get_by_natural_key(name) == user
            assert attacker.guesses(five) == [401] * 5
            assert attacker.guess(last, RIGHT) == 429
            assert Counting.checked == five
            Counting.checked.clear()
            user.delete()


def test_five_passwords_of_nobody_are_checked(attacker: Attacker) -> None:
    """Under any mixture of the spellings that are one to ``fold``."""
    User.objects.create_user("mike")
    for number, mixture in enumerate(mixtures(list(NOBODYS))):
        names = [name.format(number) for name in mixture]
        assert not User.objects.filter(username__in=names).exists()
        assert attacker.guesses(names) == [401] * 5 + [429]
        assert Counting.checked == names[:5]
        Counting.checked.clear()


def test_accounts_that_the_database_tells_apart_count_apart(attacker: Attacker) -> None:
    """However much alike their names look."""
    users = {}
    for name in LOOKALIKES:
        try:
            with transaction.atomic(using=ALIAS):
                users[name] = User.objects.create(username=name)
        except IntegrityError:
            # It takes this name for one of those before.
            assert User.objects.get_by_natural_key(name) in users.values()
    assert {name: User.objects.get_by_natural_key(name) for name in users} == users
    assert len(users) >= 10
    for _ in range(5):
        assert attacker.guesses(list(users)) == [401] * len(users)
    assert attacker.guesses(list(users)) == [429] * len(users)
    assert Counting.checked == list(users) * 5


def test_queries_do_not_tell_of_an_account(attacker: Attacker, comparison: Comparison) -> None:
    """For each password one is the protection's and one Django's; a refusal takes the first."""
    User.objects.create_user("ada")
    User.objects.create_user(comparison.names[0][0].format(1))
    for name in ("ada", comparison.names[0][-1].format(1), "nobody", "Somebódy else  "):
        asked = []
        for _ in range(6):
            attacker.queries.clear()
            attacker.guess(name)
            asked.append(len(attacker.queries))
        assert asked == [2] * 5 + [1]


# Names that were a way around the limit of an account, or a way to block one.

LONG = 5_000


class ByMail(Counting):
    """Finds users as backends for e-mail addresses do."""

    def authenticate(self, request: Any, **credentials: Any) -> Any:  # type: ignore[override]
        self.checked.append(credentials["username"])
        user = User.objects.filter(email__iexact=credentials["username"]).first()
        return user if user and user.check_password(credentials["password"]) else None

    async def aauthenticate(self, request: Any, **credentials: Any) -> Any:  # type: ignore[override]
        self.checked.append(credentials["username"])
        user = await User.objects.filter(email__iexact=credentials["username"]).afirst()
        return user if user and await user.acheck_password(credentials["password"]) else None


@pytest.fixture
def padding(attacker: Attacker) -> str:
    """So much of what this database passes over that a name is longer than MAX_TYPED."""
    User.objects.create_user("ada", password=RIGHT)
    User.objects.create_user("eve", password=RIGHT)
    padding = " " * LONG
    if not User.objects.filter(username="ada" + padding).exists():
        pytest.skip("this database passes over nothing")
    return padding


def test_a_long_spelling_counts_for_its_account(attacker: Attacker, padding: str) -> None:
    """No more passwords are checked under it."""
    attacker.guesses(["ada"] * 6 + ["ada" + padding] * 6)
    assert len(Counting.checked) == 5


def test_a_success_under_a_long_spelling_forgives_nobody_else(
    attacker: Attacker, padding: str
) -> None:
    """All of them count as one, which the attacker's own account then frees."""
    for _ in range(10):
        attacker.guesses(["ada" + padding] * 4)
        attacker.guess("eve" + padding, RIGHT)
    assert len([name for name in Counting.checked if name.startswith("ada")]) <= 5


def test_a_long_name_takes_as_many_queries(attacker: Attacker) -> None:
    """As any other: one is the protection's and one Django's."""
    attacker.guess("warm")
    attacker.queries.clear()
    attacker.guess("a" * LONG)
    assert len(attacker.queries) == 2


def test_no_name_counts_for_the_user_of_a_primary_key(attacker: Attacker) -> None:
    """A stranger blocks a user of whom nothing is known but a small number."""
    user = User.objects.create_user("ada", password=RIGHT)
    attacker.guesses([f"pk:{user.pk}"] * 5)
    assert attacker.guess("ada", RIGHT) == 200


def test_no_name_tells_the_primary_key_of_a_user(attacker: Attacker) -> None:
    """Block the name, try the numbers: the one that is refused is the account's."""
    user = User.objects.create_user("ada", password=RIGHT)
    attacker.guesses(["ada"] * 5)
    assert attacker.guesses([f"pk:{user.pk}", f"pk:{user.pk + 1}"]) == [401] * 2


def test_no_name_forgives_the_user_of_a_primary_key(attacker: Attacker) -> None:
    """On a site whose names may have a colon."""
    user = User.objects.create_user("ada", password=RIGHT)
    own = User.objects.create_user(f"pk:{user.pk}", password=RIGHT)
    for _ in range(10):
        attacker.guesses(["ada"] * 4)
        attacker.guess(own.username, RIGHT)
    assert Counting.checked.count("ada") <= 5


def test_an_address_that_looks_alike_forgives_nobody_else(attacker: Attacker) -> None:
    """With a backend for e-mail addresses, and a domain of the attacker's own."""
    attacker.site.settings["AUTHENTICATION_BACKENDS"] = [
        "rustauth_django.login.LoginProtection",
        f"{__name__}.ByMail",
    ]
    attacker.site.configure(ENABLED=True, RULES=[{"path": "*", "disabled": True}])
    User.objects.create_user("ada", "ada@example.com", RIGHT)
    User.objects.create_user("eve", "ada@exámple.com", RIGHT)
    for _ in range(10):
        attacker.guesses(["ada@example.com"] * 4)
        attacker.guess("ada@exámple.com", RIGHT)
    assert Counting.checked.count("ada@example.com") <= 5
