"""S3 and compatible services: the store, its settings, its errors with advice."""
