"""The demo of ``make run``: 336,776 flights go through a broker into an object store, and all of them come back."""
