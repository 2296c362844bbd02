from django.core.wsgi import get_wsgi_application

from . import site as site

application = get_wsgi_application()
