"""Read notebooks, execute them, and write them without secrets."""
