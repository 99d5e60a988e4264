"""A cluster of machines that execute notebooks: what only it needs, so that nothing here is imported without one."""
