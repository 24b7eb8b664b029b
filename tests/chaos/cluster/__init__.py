"""Three real brokers under real faults and real clients, and a history of what the clients were told."""
