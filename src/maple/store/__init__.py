"""The store: append-only, keyed by content hash. ``write`` is for ``run`` alone."""
