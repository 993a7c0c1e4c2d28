"""What any process of ours needs of its machine: children, background tasks, TLS."""
