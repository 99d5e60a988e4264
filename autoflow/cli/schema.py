"""`autoflow schema`: print a JSON Schema of workflows.yml."""

import click

from autoflow.cli.show import print_json
from autoflow.parser.json_schema import json_schema


@click.command
def schema() -> None:
    """Print a JSON Schema of workflows.yml, for editors.

    Editors with a YAML language server, such as VS Code, use it if the first line of workflows.yml names it:
    # yaml-language-server: $schema=workflows.schema.json

    \b
    Example: autoflow schema > workflows.schema.json
    """
    print_json(json_schema())
