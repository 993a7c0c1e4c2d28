"""What a replica does for rollouts and experiments: measure, judge, move, tell."""
