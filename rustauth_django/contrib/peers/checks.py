"""What can be wrong with peers: a part of ``manage.py check`` where there are any."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from django.contrib.auth import get_user_model
from django.contrib.auth.middleware import AuthenticationMiddleware, LoginRequiredMiddleware
from django.core import checks
from django.core.checks import CheckMessage, Error
from django.core.exceptions import FieldDoesNotExist
from django.utils.module_loading import import_string

from ...conf import Settings, of_django
from ...conf.peers import JwtPeer, Peer
from ...conf.sections import did_you_mean, quote
from ...connections import build_wiring
from ...engine.backends import MemoryBackend
from ...exceptions import InvalidConfig
from .authentication import Peers
from .middleware import PeerSessionMiddleware

# By its path, as settings name it.
LIMITER = "rustauth_django.middleware.RateLimitMiddleware"
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def find_problems(settings: Settings) -> Iterator[CheckMessage]:
    """What cannot work, and likely mistakes."""
    try:
        Peers(settings, build_wiring(settings, MemoryBackend()).stores).close()
    except InvalidConfig as error:
        yield Error(f"{error}.", hint="docs/peers.md has examples.", id="rustauth_django.E009")
    for peer in settings.peers:
        yield from find_problems_of_user(peer)
    yield from find_problems_of_middleware()


def find_problems_of_user(peer: Peer) -> Iterator[CheckMessage]:
    if callable(peer.user) or peer.user == "pk":
        return
    meta, name = get_user_model()._meta, peer.user.removeprefix("field:")
    where = f'RUSTAUTH["PEERS"][{quote(peer.name)}]["USER"]'
    try:
        field = meta.get_field(name)
        if field.is_relation:
            raise FieldDoesNotExist
    except FieldDoesNotExist:
        yield Error(
            f"{where} names {quote(name)}, which is no field of the user model, or a relation.",
            hint=did_you_mean(name, [one.name for one in meta.get_fields() if not one.is_relation]),
            id="rustauth_django.E010",
        )
        return
    if not getattr(field, "unique", False):
        yield checks.Warning(
            f"{where} names {quote(name)}, which two users may have alike: both are nobody then.",
            hint="Give the field unique=True.",
            id="rustauth_django.W015",
        )


def find_problems_of_middleware() -> Iterator[CheckMessage]:
    limiter: type = import_string(LIMITER)
    places: dict[type, int] = {}
    for place, path in enumerate(of_django("MIDDLEWARE")):
        try:
            found = import_string(path)
        except ImportError:
            continue  # Django itself says so as it starts.
        for kind in (
            *(PeerSessionMiddleware, AuthenticationMiddleware),
            *(LoginRequiredMiddleware, limiter),
        ):
            if isinstance(found, type) and issubclass(found, kind):
                places[kind] = place
    ours = places.get(PeerSessionMiddleware)
    if ours is None:
        return  # it may be for REST framework or ninja alone
    signs_in = places.get(AuthenticationMiddleware)
    if signs_in is None or signs_in > ours:
        yield Error(
            "MIDDLEWARE has PeerSessionMiddleware, but not AuthenticationMiddleware before it:"
            " nobody would stay signed in.",
            hint="Move PeerSessionMiddleware behind AuthenticationMiddleware.",
            id="rustauth_django.E011",
        )
    for kind, why in (
        (LoginRequiredMiddleware, "whoever is signed in at a peer has to sign in here"),
        (limiter, "limits by user take them for visitors"),
    ):
        if places.get(kind, ours) < ours:
            yield checks.Warning(
                f"MIDDLEWARE has {kind.__name__} before PeerSessionMiddleware: {why}.",
                hint=f"Move PeerSessionMiddleware before {kind.__name__}.",
                id="rustauth_django.W016",
            )


def find_dangers(settings: Settings) -> Iterator[CheckMessage]:
    """What works, but is wrong for production."""
    for peer in settings.peers:
        if not isinstance(peer, JwtPeer):
            continue
        url = urlsplit(peer.jwks_url)
        if url.scheme == "http" and url.hostname not in LOOPBACK:
            yield checks.Warning(
                f'RUSTAUTH["PEERS"][{quote(peer.name)}] has its keys fetched by http: whoever is on'
                " the way can sign in as anybody.",
                hint='Set "ISSUER" or "JWKS_URL" to a URL of https.',
                id="rustauth_django.W017",
            )
