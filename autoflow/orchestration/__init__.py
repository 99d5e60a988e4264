"""Everything about Prefect: its server, deployments, flow runs and history."""
