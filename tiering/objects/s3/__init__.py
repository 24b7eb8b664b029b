"""S3, and what speaks like it: the store, its settings, what its errors mean and what to do, a check before the start."""
