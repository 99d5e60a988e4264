"""Which days a reference date stands for, and whether enough of them are available. Pure functions of dates."""
