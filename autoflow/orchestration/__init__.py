"""All of Prefect: its server, deployments, flow runs, and history."""
