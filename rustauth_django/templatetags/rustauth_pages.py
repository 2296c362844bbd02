"""The styles of the pages."""

from importlib.resources import files

from django import template
from django.template import Context
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()

FILE = "rustauth_django/pages.css"
STYLES = SafeString(files("rustauth_django").joinpath("static", FILE).read_text(encoding="utf-8"))


@register.simple_tag(takes_context=True)
def page_styles(context: Context) -> str:
    """The styles; nothing if the page has them already.

    ``page.html`` has this tag, and so has ``refused.html``, for the countdown in a site's own
    ``page.html``.
    """
    if context.render_context.get(FILE):
        return ""
    context.render_context[FILE] = True
    return format_html("<style>\n{}</style>", STYLES)
