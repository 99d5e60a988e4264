"""`autoflow notify`: send a test message."""

import click

from autoflow.cli.options import as_json
from autoflow.cli.session import Session, pass_session
from autoflow.cli.show import print_json
from autoflow.errors import AutoflowError, ExitCode
from autoflow.messages.recipients import Recipients, sample_message
from autoflow.settings import UNNAMED


@click.command
@click.argument("name", metavar="[NAME]", required=False)
@as_json
@pass_session
def notify(session: Session, *, name: str | None, as_json: bool) -> ExitCode:
    """Send a test message to NAME or, without one, to everybody in AUTOFLOW_NOTIFY_URLS.

    NAME is a name in AUTOFLOW_NOTIFY_URLS. It fails if a service does not accept the message.

    \b
    Examples: autoflow notify
              autoflow notify boss
    """
    recipients = Recipients(session.settings)
    results = []
    for recipient in _chosen(recipients, name):
        for number in range(1, recipients.numbers[recipient] + 1):
            is_sent = recipients.send(sample_message(session.settings), recipient, number)
            results.append({"name": recipient or None, "url": number, "sent": is_sent})
            if not as_json:
                to = recipients.shown(recipient, number)
                problem = "not sent: check this URL, and whether its service can be reached from here"
                click.echo(f"{to}: {'sent' if is_sent else problem}")
    is_good = all(each["sent"] for each in results)
    if as_json:
        print_json({"good": is_good, "messages": results})
    return ExitCode.SUCCESS if is_good else ExitCode.FAILURE


def _chosen(recipients: Recipients, name: str | None) -> list[str]:
    """Return the recipients to send to; raise AutoflowError if there are none."""
    names = list(recipients.numbers)
    if not names:
        raise AutoflowError("there is nobody to send a message to: AUTOFLOW_NOTIFY_URLS is not set")
    if name is None:
        return names
    if name not in names or name == UNNAMED:
        known = ", ".join(sorted(set(names) - {UNNAMED})) or "no names"
        raise AutoflowError(f"there is no '{name}' in AUTOFLOW_NOTIFY_URLS, which has {known}")
    return [name]
