"""What runs were made from, in SQLite and PostgreSQL."""

import datetime
import threading

from sqlalchemy.exc import IntegrityError

from autoflow.model.provenance import Provenance
from autoflow.model.store import RunStore
from autoflow.runs.records import RunKey

AT_ONCE = 8


def test_runs_that_end_together_record_their_list_of_packages_once(store: RunStore) -> None:
    claims = [store.claim(RunKey.of("flows", {}, datetime.date(2016, 1, day))) for day in range(1, AT_ONCE + 1)]
    together, failed = threading.Barrier(AT_ONCE), list[Exception]()

    def record(run_id: int) -> None:
        # Each knows of no list yet, like a process of its own.
        provenance = Provenance(store.database)
        together.wait()
        try:
            provenance.record(run_id, {"packages": "digest", "notebooks": {}}, ["pandas==2"])
        except IntegrityError as error:
            failed.append(error)

    threads = [threading.Thread(target=record, args=[claim.id]) for claim in claims if claim]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert Provenance(store.database).packages("digest") == ["pandas==2"]
