"""Google Cloud Storage: the store, its settings, its errors with advice, and a check before the start."""
