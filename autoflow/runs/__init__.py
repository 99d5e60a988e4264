"""The domain: what a run is, what is due, and what is retried."""
