"""The steps, oldest first; each file is one, and is never changed once it has been released."""
