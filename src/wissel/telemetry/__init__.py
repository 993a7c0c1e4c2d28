"""What is counted, timed and traced, and how it leaves the process."""
