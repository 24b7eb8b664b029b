"""One suite of cases for whoever copies segments: this process, and the worker process."""
