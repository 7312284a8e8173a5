"""What degraded a film, estimated from its frames."""
