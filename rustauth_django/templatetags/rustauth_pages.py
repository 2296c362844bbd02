"""The styles of the pages, in the form that the site's Content-Security-Policy allows."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import django
from django import template
from django.template import Context
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.module_loading import import_string
from django.utils.safestring import SafeString

from ..conf import of_django

register = template.Library()

FILE = "rustauth_django/pages.css"
STYLES = SafeString(files("rustauth_django").joinpath("static", FILE).read_text(encoding="utf-8"))
# By their paths: Django has them from 6.0 on.
HAS_CSP = django.VERSION >= (6, 0)
CSP: Any = import_string("django.utils.csp.CSP") if HAS_CSP else None
LAZY_NONCE: Any = import_string("django.utils.csp.LazyNonce") if HAS_CSP else ()
GET_NONCE: Any = import_string("django.middleware.csp.get_nonce") if HAS_CSP else lambda _: None
# The first of these that a policy has is about <style> and stylesheets.
DIRECTIVES = ("style-src-elem", "style-src", "default-src")


@register.simple_tag(takes_context=True)
def page_styles(context: Context) -> str:
    """The styles, or a link to them; nothing if the page has them already.

    ``page.html`` has this tag, and so has ``refused.html``, for the countdown in a site's own
    ``page.html``.
    """
    if context.render_context.get(FILE):
        return ""
    context.render_context[FILE] = True
    # A RequestContext has it without any context processor.
    request = getattr(context, "request", None)
    nonce = GET_NONCE(request)
    if not isinstance(nonce, LAZY_NONCE):
        # Django's middleware is not there; that of django-csp may be.
        return inline(getattr(request, "csp_nonce", None))
    sources = style_sources(of_django("SECURE_CSP") or {})
    if sources is None or permits_inline(sources):
        return inline(None)
    return inline(nonce) if CSP.NONCE in sources else link()


def inline(nonce: Any) -> str:
    """The styles themselves, with the nonce if there is one."""
    try:
        # It may be lazy, and then it is false until somebody has read it.
        text = None if nonce is None else str(nonce)
    except Exception:  # noqa: BLE001  # django-csp's own, where the page comes after its header
        text = None
    if text is None:
        return format_html("<style>\n{}</style>", STYLES)
    return format_html('<style nonce="{}">\n{}</style>', text, STYLES)


def link() -> str:
    """A link to the static file, if the site has it: a refusal is never a 500."""
    try:
        return format_html('<link rel="stylesheet" href="{}">', static(FILE))
    except Exception:  # noqa: BLE001  # of any storage, such as a manifest without the file
        return ""


def style_sources(policy: Mapping[str, Any]) -> list[str] | None:
    """Where styles may come from; None if the policy does not say."""
    for directive in DIRECTIVES:
        # Django leaves a directive out if it has no value, and takes True for an empty one.
        if values := policy.get(directive):
            if values is True:
                return []
            listed = values if isinstance(values, list | tuple | set) else [values]
            return " ".join(listed).split()
    return None


def permits_inline(sources: list[str]) -> bool:
    """Is a plain <style> applied? Browsers ignore 'unsafe-inline' beside a nonce or a hash."""
    is_strict = any(source.startswith((CSP.NONCE, "'sha", "'nonce-")) for source in sources)
    return CSP.UNSAFE_INLINE in sources and not is_strict
