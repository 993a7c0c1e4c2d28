"""The processes that serve: the composition root, the supervisor of workers, the gate to the store."""
