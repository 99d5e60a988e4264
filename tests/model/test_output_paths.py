"""Paths of outputs in the run store: relative in the database, absolute for everything that reads a run."""

import datetime
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import alembic.command
import pytest
import sqlalchemy as sa

from autoflow.model.database import alembic_config
from autoflow.model.output_paths import OutputFolders
from autoflow.model.store import RunStore
from autoflow.runs.records import RunKey, RunState

KEY = RunKey.of("flows", {}, datetime.date(2016, 1, 1))


def folders(root: Path, *, notebooks: Path | str = "notebooks", reports: Path | str = "reports") -> OutputFolders:
    """Return an outputs folder with folders in it or, where their paths are absolute, outside of it."""
    return OutputFolders(outputs=root, notebooks=root / notebooks, reports=root / reports)


def make_files(place: OutputFolders) -> Mapping[str, Any]:
    """Write a notebook and a report as a run does; return the outputs of the run."""
    notebook, report = place.notebooks / "n 100% #é.ipynb", place.reports / "n 100% #é.pdf"
    for file in (notebook, report):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return {"n": {"notebook": str(notebook), "reports": [str(report)]}}


def record(uri: str, place: OutputFolders, outputs: Mapping[str, Any]) -> None:
    """Record a run whose AutoFlow has the folders `place`."""
    with closing(RunStore(uri, folders=place)) as store:
        store.migrate()
        claim = store.claim(KEY)
        assert claim
        assert store.finish(claim, RunState.SUCCEEDED, outputs=outputs)


def found(uri: str, place: OutputFolders | None) -> Mapping[str, Any]:
    """Return the outputs of the run for an AutoFlow with the folders `place`."""
    with closing(RunStore(uri, folders=place)) as store:
        (run,) = store.runs()
        assert store.run(run.id) == run
        return run.outputs


def stored(uri: str) -> list[tuple[Any, str | None]]:
    """Return what the database itself has: outputs and the outputs folder at that time."""
    engine = sa.create_engine(uri.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT outputs, outputs_dir FROM runs ORDER BY id")).all()
    engine.dispose()
    return [(json.loads(outputs) if outputs else outputs, folder) for outputs, folder in rows]


def test_paths_are_stored_relative_to_the_outputs_folder_and_read_as_absolute(uri: str, tmp_path: Path) -> None:
    place = folders(tmp_path / "out")
    outputs = make_files(place)
    record(uri, place, outputs)
    relative = {"n": {"notebook": "notebooks/n 100% #é.ipynb", "reports": ["reports/n 100% #é.pdf"]}}
    assert stored(uri) == [(relative, str(tmp_path / "out"))]
    assert found(uri, place) == outputs
    assert found(uri, None) == outputs


@pytest.mark.parametrize(
    "inside",
    [
        {},
        {"notebooks": "executed/by autoflow", "reports": "pdf"},
        {"notebooks": "", "reports": ""},
    ],
    ids=["default", "deeper", "the folder itself"],
)
def test_paths_follow_an_outputs_folder_that_was_moved(uri: str, tmp_path: Path, inside: Mapping[str, str]) -> None:
    old, new = folders(tmp_path / "old", **inside), folders(tmp_path / "new" / "place", **inside)
    record(uri, old, make_files(old))
    new.outputs.parent.mkdir()
    old.outputs.rename(new.outputs)
    outputs = make_files(new)
    assert found(uri, new) == outputs
    shutil.rmtree(new.outputs)
    assert found(uri, new) == outputs


def test_paths_lead_into_the_copy_of_an_outputs_folder_although_the_original_is_left(uri: str, tmp_path: Path) -> None:
    old, new = folders(tmp_path / "old"), folders(tmp_path / "new")
    record(uri, old, make_files(old))
    shutil.copytree(old.outputs, new.outputs)
    assert found(uri, new) == make_files(new)


def test_each_of_two_autoflows_with_a_folder_of_its_own_finds_the_outputs_of_the_other(
    uri: str, tmp_path: Path
) -> None:
    one, other = folders(tmp_path / "one"), folders(tmp_path / "other")
    other.notebooks.mkdir(parents=True)
    outputs = make_files(one)
    record(uri, one, outputs)
    assert found(uri, other) == outputs


def test_folders_outside_of_the_outputs_folder_keep_their_paths(uri: str, tmp_path: Path) -> None:
    place = folders(tmp_path / "out", notebooks=tmp_path / "nb", reports=tmp_path / "pdf")
    outputs = make_files(place)
    record(uri, place, outputs)
    assert stored(uri) == [(outputs, str(tmp_path / "out"))]
    elsewhere = folders(tmp_path / "new", notebooks=tmp_path / "nb", reports=tmp_path / "pdf")
    assert found(uri, elsewhere) == outputs


def test_folders_outside_of_the_outputs_folder_can_be_moved_too(uri: str, tmp_path: Path) -> None:
    old = folders(tmp_path / "out", notebooks=tmp_path / "nb")
    new = folders(tmp_path / "new", notebooks=tmp_path / "elsewhere" / "executed")
    record(uri, old, make_files(old))
    new.notebooks.parent.mkdir()
    old.outputs.rename(new.outputs)
    old.notebooks.rename(new.notebooks)
    assert found(uri, new) == make_files(new)


def test_outputs_are_found_where_they_were_left_when_the_folder_for_their_kind_is_set_anew(
    uri: str, tmp_path: Path
) -> None:
    old = folders(tmp_path / "out")
    new = folders(tmp_path / "out", notebooks="executed", reports=tmp_path / "pdf")
    outputs = make_files(old)
    record(uri, old, outputs)
    assert found(uri, new) == outputs
    old.notebooks.rename(new.notebooks)
    old.reports.rename(new.reports)
    assert found(uri, new) == make_files(new)


def test_an_outputs_folder_that_is_named_by_a_symbolic_link_is_moved_like_any_other(uri: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    old = folders(tmp_path / "link", notebooks=tmp_path / "real" / "notebooks")
    record(uri, old, make_files(old))
    new = folders(tmp_path / "new")
    (tmp_path / "real").rename(new.outputs)
    assert found(uri, new) == make_files(new)


def old_database(uri: str, *rows: Mapping[str, Any] | str | None) -> None:
    """Make a database as the previous version left it, with runs that have the outputs `rows`."""
    engine = sa.create_engine(uri.replace("postgresql://", "postgresql+psycopg://"))
    insert = sa.text(
        "INSERT INTO runs (workflow, parameters_hash, parameters, reference_date, attempt, state, holder, started_at,"
        " heartbeat_at, outputs) VALUES ('flows', :hash, '{}', '2016-01-01', 1, 'failed', 'me',"
        " '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000', :outputs)"
    )
    with engine.begin() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "0002")
        for row in rows:
            text = row if row is None or isinstance(row, str) else json.dumps(row, ensure_ascii=False)
            connection.execute(insert, {"hash": KEY.parameters_hash, "outputs": text})
    engine.dispose()


def old_row(notebook: str, *reports: str) -> Mapping[str, Any]:
    return {"n": {"notebook": notebook, "reports": list(reports)}}


OUT = Path("/nowhere/out")


@pytest.mark.parametrize(
    ("old", "now", "expected"),
    [
        (
            old_row("/mounts/outputs/notebooks/x.ipynb", "/mounts/outputs/reports/x.pdf"),
            folders(OUT),
            old_row("/nowhere/out/notebooks/x.ipynb", "/nowhere/out/reports/x.pdf"),
        ),
        (
            old_row("/nowhere/out/notebooks/x.ipynb"),
            folders(OUT),
            old_row("/nowhere/out/notebooks/x.ipynb"),
        ),
        (
            old_row("/srv/notebooks/notebooks/é 100%.ipynb", "/srv/notebooks/reports/é.html"),
            folders(OUT),
            old_row("/nowhere/out/notebooks/é 100%.ipynb", "/nowhere/out/reports/é.html"),
        ),
        (
            old_row("/a/executed/nb/x.ipynb", "/a/pdf/x.pdf"),
            folders(OUT, notebooks="executed/nb", reports="pdf"),
            old_row("/nowhere/out/executed/nb/x.ipynb", "/nowhere/out/pdf/x.pdf"),
        ),
        (
            old_row("/a/x.ipynb", "/a/x.pdf"),
            folders(OUT, notebooks="", reports=""),
            old_row("/nowhere/out/x.ipynb", "/nowhere/out/x.pdf"),
        ),
        (
            old_row("/nowhere/out/old/x.ipynb"),
            folders(OUT),
            old_row("/nowhere/out/old/x.ipynb"),
        ),
        (
            old_row("/data/nb/x.ipynb", "/mounts/outputs/reports/x.pdf"),
            folders(OUT, notebooks=Path("/data/nb")),
            old_row("/data/nb/x.ipynb", "/nowhere/out/reports/x.pdf"),
        ),
        (
            old_row("/data/notebooks/x.ipynb", "/data/reports/x.pdf"),
            folders(OUT, notebooks=Path("/data/notebooks"), reports=Path("/data/reports")),
            old_row("/data/notebooks/x.ipynb", "/data/reports/x.pdf"),
        ),
        (
            old_row("/anywhere/x.ipynb", "/elsewhere/x.pdf"),
            folders(OUT),
            old_row("/anywhere/x.ipynb", "/elsewhere/x.pdf"),
        ),
        (
            old_row("/mounts/outputs/notebooks/x.ipynb", "/elsewhere/x.pdf"),
            folders(OUT),
            old_row("/nowhere/out/notebooks/x.ipynb", "/elsewhere/x.pdf"),
        ),
        (
            old_row("/nowhere/out/notebooks/x.ipynb", "/nowhere/out/reports/x.pdf"),
            folders(OUT.parent),
            old_row("/nowhere/notebooks/x.ipynb", "/nowhere/reports/x.pdf"),
        ),
        (
            old_row("/nowhere/notebooks/x.ipynb", "/nowhere/reports/x.pdf"),
            folders(OUT),
            old_row("/nowhere/out/notebooks/x.ipynb", "/nowhere/out/reports/x.pdf"),
        ),
        ({}, folders(OUT), {}),
        ({"n": {"reports": []}}, folders(OUT), {"n": {"reports": []}}),
        (None, folders(OUT), {}),
    ],
)
def test_migration_finds_the_outputs_folder_in_old_paths(
    uri: str, old: Mapping[str, Any] | None, now: OutputFolders, expected: Mapping[str, Any]
) -> None:
    old_database(uri, old)
    with closing(RunStore(uri, folders=now)) as store:
        store.migrate()
    assert found(uri, now) == expected
    assert found(uri, None) == (old or {})


def test_migration_leaves_files_that_are_still_at_their_old_place(uri: str, tmp_path: Path) -> None:
    old = folders(tmp_path / "data")
    outputs = make_files(old)
    old_database(uri, outputs)
    now = folders(tmp_path / "out")
    with closing(RunStore(uri, folders=now)) as store:
        store.migrate()
    assert found(uri, now) == outputs


def test_migration_takes_each_run_for_itself(uri: str) -> None:
    """The folder may have been moved before, and not all daemons need to see it at the same place."""
    old_database(uri, *(old_row(f"{root}/notebooks/x.ipynb") for root in ("/mounts/outputs", "/srv/out", str(OUT))))
    with closing(RunStore(uri, folders=folders(OUT))) as store:
        store.migrate()
        assert [run.outputs for run in store.runs()] == [old_row(f"{OUT}/notebooks/x.ipynb")] * 3
    assert [folder for _, folder in stored(uri)] == ["/mounts/outputs", "/srv/out", str(OUT)]


def test_migration_keeps_what_somebody_else_has_written(uri: str) -> None:
    rows = ['["/a/notebooks/x.ipynb"]', '{"n": "/a/notebooks/x.ipynb"}', '{"n": {"notebook": 3}}', "not JSON"]
    old_database(uri, *rows)
    with closing(RunStore(uri, folders=folders(OUT))) as store:
        store.migrate()
    engine = sa.create_engine(uri.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT outputs FROM runs ORDER BY id")).scalars().all() == rows
    engine.dispose()


def test_migration_without_folders_takes_the_default_ones(uri: str) -> None:
    outputs = old_row("/mounts/outputs/notebooks/x.ipynb", "/mounts/outputs/reports/x.pdf")
    old_database(uri, outputs)
    with closing(RunStore(uri)) as store:
        store.migrate()
    assert stored(uri) == [(old_row("notebooks/x.ipynb", "reports/x.pdf"), "/mounts/outputs")]
    assert found(uri, None) == outputs


def test_outputs_that_are_forgotten_leave_no_path(uri: str, tmp_path: Path) -> None:
    place = folders(tmp_path / "out")
    outputs = make_files(place)
    record(uri, place, outputs)
    with closing(RunStore(uri, folders=place)) as store:
        (run,) = store.runs()
        store.forget_outputs(run.id, left=outputs, with_flow_run=False)
        assert store.runs()[0].outputs == outputs
        store.forget_outputs(run.id, left={}, with_flow_run=True)
        assert store.runs()[0].outputs == {}
    assert stored(uri) == [(None, None)]


def test_reading_many_runs_after_a_move_asks_the_disk_for_no_single_file(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = folders(tmp_path / "old"), folders(tmp_path / "new")
    record(uri, old, make_files(old))
    old.outputs.rename(new.outputs)
    outputs = make_files(new)

    def refused(_: object) -> bool:
        raise AssertionError("a file was looked for")

    monkeypatch.setattr(os.path, "isfile", refused)
    assert found(uri, new) == outputs
