"""The domain: what a run is, when it is due, and when it is tried again."""
