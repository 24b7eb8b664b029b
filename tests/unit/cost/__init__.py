"""Price books, bills and forecasts: pure, on rows made by hand."""
