"""A small real site on rustauth_django, to try it and to copy from."""
