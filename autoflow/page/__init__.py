"""The page: `index.html` in the outputs folder, on which analysts find reports, and why there is none.

Nothing is imported here: `readable` is a process of its own, for which the rest would take longer than its work.
"""
