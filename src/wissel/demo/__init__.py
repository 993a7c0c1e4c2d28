"""Everything on one machine: the real parts around wissel, models that are simulated, and a story."""
