"""What is read and written of each provider's format: requests, answers, streams, encodings and forms."""
