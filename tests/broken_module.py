"""A module that cannot be imported."""

raise RuntimeError("as modules are")
