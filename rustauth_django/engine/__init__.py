"""Operations, and the backends that carry them out: memory, one server, or a cluster."""
