"""Long ranges of topics, straight from the bucket, as Arrow or into a sink; what is local only comes from the brokers."""
