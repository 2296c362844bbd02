"""Rate limit algorithms: one idea is one ``.py`` and one ``.lua`` of the same name."""
