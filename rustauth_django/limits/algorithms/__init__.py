"""Rate limit algorithms: each is one ``.py`` and one ``.lua`` of the same name."""
