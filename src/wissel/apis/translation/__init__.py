"""One format's calls, answers and streams in another's words, by way of one canonical form."""
