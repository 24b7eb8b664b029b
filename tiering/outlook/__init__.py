"""What becomes of remote segments, told before it is done: classes and costs (``forecast``), retention (``fates``). Pure."""
