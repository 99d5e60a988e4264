"""The page: `index.html` in the outputs folder, where analysts find reports, or the reason why one is missing.

This file imports nothing: `readable` is a separate process, and importing the rest would take longer than its work.
"""
