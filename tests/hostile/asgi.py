from django.core.asgi import get_asgi_application

from . import site as site

application = get_asgi_application()
