"""An HTTP/2 and gRPC server on asyncio; it knows nothing of wissel."""
