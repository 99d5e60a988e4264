"""Messages about successes and deadlines, as people and programs get them from a daemon."""

import subprocess
from collections.abc import Mapping
from email.message import EmailMessage
from pathlib import Path

import pytest

from autoflow.cli import main
from examples.flowapi import ExampleFlowApi
from tests.conftest import Deployed, write_notebook
from tests.mail_server import mail_server
from tests.receiver import Receiver
from tests.test_acceptance import environment

pytestmark = [
    # Apprise's own, as its plugins are imported.
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),
    pytest.mark.usefixtures("log_as_before"),
]

PROSE = """# Mobility

**Draft**

Fewer people than *usual* left the [capital](https://example.org)
during the week.

More text, in a second paragraph."""


def text_of_pdf(mail: EmailMessage, folder: Path) -> str:
    (attached,) = mail.iter_attachments()
    assert attached.get_content_type() == "application/pdf"
    (folder / "attached.pdf").write_bytes(attached.get_payload(decode=True))  # type: ignore[arg-type]
    command = ["pdftotext", str(folder / "attached.pdf"), "-"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def body_of(mail: EmailMessage) -> str:
    body = mail.get_body(("plain",))
    assert body
    return str(body.get_content())


def test_a_backlog_ends_with_one_mail_for_each_entry_which_has_the_newest_report(
    deployed: Deployed,
    receiver: Receiver,
    example_flowapi: ExampleFlowApi,
    prefect_running: Mapping[str, str],
    tmp_path: Path,
) -> None:
    write_notebook(deployed.inputs / "n.ipynb", "print(region)", parameters="region = ''", markdown=PROSE)
    deployed.write_workflows("""
        workflows:
          - name: mobility
            title: Mobility of people
            notebooks: {report: {filename: n.ipynb, parameters: {region: region}, output: {format: [pdf, html]}}}
        available_dates_sensor:
          schedule: null
          workflows:
            - workflow_name: mobility
              for_each: {region: [north, south]}
              title: Mobility in the {region}
              earliest_date: 2016-01-10
              deadline: {days: 2, at: "09:00"}
              notify: {success: [boss, hook], failure: boss, attach: pdf}
    """)
    with mail_server() as server:
        urls = f"boss={server.url('boss@example.org')}, hook={receiver.url}"
        environ = environment(deployed, example_flowapi, AUTOFLOW_NOTIFY_URLS=urls, **prefect_running)
        assert main([], environ) == 0
        assert main([], environ) == 0  # nothing is due, and nothing is sent again
        mails = sorted(server.taken(), key=lambda mail: str(mail["Subject"]))

    subjects = [f"Mobility in the {region}, 2016-01-12" for region in ("north", "south")]
    assert [mail["Subject"] for mail in mails] == subjects
    for mail, region in zip(mails, ("north", "south"), strict=True):
        body = body_of(mail)
        assert "Fewer people than usual left the capital during the week." in body
        assert "Also done: 2016-01-10 to 2016-01-11." in body
        assert "second paragraph" not in body
        assert region in text_of_pdf(mail, tmp_path)

    fields = {message["label"]: message for message in receiver.taken()}
    assert set(fields) == {"north", "south"}
    north = fields["north"]
    assert (north["workflow"], north["state"], north["reference_date"]) == ("mobility", "succeeded", "2016-01-12")
    assert north["dates"] == ["2016-01-10", "2016-01-11", "2016-01-12"]
    reports = north["outputs"]["report"]["reports"]
    assert north["links"] == reports
    assert [Path(report).suffix for report in reports] == [".pdf", ".html"]
    assert all(Path(report).is_file() for report in reports)
    (attachment,) = north["attachments"]
    assert attachment["filename"] == "mobility--north__report__2016-01-12.pdf"
