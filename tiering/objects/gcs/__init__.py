"""Google Cloud Storage: the store, its settings, its errors with advice."""
