"""The embedded store keeps every promise of the kit, and some of its own."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from ml_pipeline.errors import NotFound, StoreCorrupt, StoreRefused, StoreUnavailable
from ml_pipeline.store.alerts import SystemEvent
from ml_pipeline.store.embedded import log, tables
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.embedded.tables import within
from ml_pipeline.store.records import ArtifactRef, LookbackWindow
from ml_pipeline.store.schema import newest
from tests.contract.kit.base import EVER
from tests.contract.kit.kit import OpenStore, StoreContract
from tests.contract.kit.log import read_all
from tests.support.factories import (
    MODEL_NAME,
    NOW,
    frame_of,
    make_event,
    make_events,
    make_id,
    make_request,
    make_run,
)

ROOT = Path(__file__).parents[2]
NOBODY = 65534


class TestLocalStore(StoreContract):
    """The kit on a folder."""

    @pytest.fixture
    def open_store(self, tmp_path: Path) -> OpenStore:
        return lambda: LocalStore.open(tmp_path / "store")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Another Python process in the repository."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may write anywhere; be somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user may enter."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        yield path
        for item in (path, *path.rglob("*")):
            item.chmod(0o755)


def raw(folder: Path) -> closing[sqlite3.Connection]:
    """A connection that knows nothing of the package."""
    return closing(sqlite3.connect(folder / "store.db", isolation_level=None))


# -------------------------------------------------------------------------------- opening

OPEN = """
import sys
from pathlib import Path
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.embedded.tables import within
print("ready", flush=True)
sys.stdin.readline()
for number in range(5):
    LocalStore.open(Path(sys.argv[1]) / str(number))
"""


def test_processes_may_open_a_new_folder_at_once(folder: Path) -> None:
    openers = [start(OPEN, folder) for _ in range(3)]
    for opener in openers:
        assert opener.stdout is not None
        assert opener.stdout.readline() == "ready\n"
    for opener in openers:
        assert opener.stdin is not None
        opener.stdin.write("go\n")
        opener.stdin.flush()
    for opener in openers:
        _, stderr = opener.communicate(timeout=60)
        assert (opener.returncode, stderr) == (0, "")
    for number in range(5):
        assert LocalStore.open(folder / str(number)).append_events(make_events(1)) == 1


def test_opening_a_store_loads_no_pandas(folder: Path) -> None:
    opener = start(
        "import sys\n"
        "from pathlib import Path\n"
        "from ml_pipeline.store.embedded.store import LocalStore\n"
        "LocalStore.open(Path(sys.argv[1])).list_requests(model_name='default')\n"
        "print('pandas' in sys.modules)",
        folder,
    )
    stdout, stderr = opener.communicate(timeout=60)
    assert (stdout, stderr) == ("False\n", "")


def test_the_schema_is_applied_once(folder: Path) -> None:
    LocalStore.open(folder).append_events(make_events(1))
    with raw(folder) as db:
        before = db.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name").fetchall()
        version = db.execute("PRAGMA user_version").fetchone()
        mode = db.execute("PRAGMA journal_mode").fetchone()
    assert (version, mode) == ((newest("local"),), ("wal",))
    store = LocalStore.open(folder)
    with raw(folder) as db:
        after = db.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name").fetchall()
    assert after == before
    assert len(read_all(store)) == 1


def test_a_half_applied_schema_leaves_nothing(folder: Path) -> None:
    folder.mkdir()
    with raw(folder) as db:
        db.execute("CREATE TABLE model_metadata (theirs TEXT)")
    with pytest.raises(StoreCorrupt, match=r"store\.db"):
        LocalStore.open(folder)
    with raw(folder) as db:
        assert db.execute("SELECT name FROM sqlite_schema").fetchall() == [("model_metadata",)]
        assert db.execute("PRAGMA user_version").fetchone() == (0,)


def test_a_store_of_a_newer_version_is_refused(folder: Path) -> None:
    LocalStore.open(folder)
    with raw(folder) as db:
        db.execute("PRAGMA user_version = 999")
    with pytest.raises(StoreRefused, match="newer"):
        LocalStore.open(folder)


def test_a_relative_folder_stays_where_it_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = LocalStore.open(Path("store"))
    monkeypatch.chdir("/")
    assert store.append_events(make_events(1)) == 1
    assert store.describe()["directory"] == str(tmp_path / "store")


def test_a_folder_with_an_awkward_name_is_opened(tmp_path: Path) -> None:
    store = LocalStore.open(tmp_path / "ü 100% #1?mode=memory&x")
    store.append_events(make_events(1))
    assert (tmp_path / "ü 100% #1?mode=memory&x" / "store.db").stat().st_size > 0
    assert len(read_all(store)) == 1


# ---------------------------------------------------------------------------------- faults


def test_a_store_that_was_removed_does_not_come_back_empty(folder: Path) -> None:
    store = LocalStore.open(folder)
    (folder / "store.db").unlink()
    with pytest.raises(StoreRefused, match=r"store\.db"):
        store.list_runs(model_name=MODEL_NAME, limit=1)
    assert not (folder / "store.db").exists()


def test_a_folder_that_is_a_file_is_refused(folder: Path) -> None:
    folder.write_text("a file")
    with pytest.raises(StoreRefused, match="store"):
        LocalStore.open(folder)


def test_a_folder_that_cannot_be_made_is_refused(public_folder: Path) -> None:
    with unprivileged(), pytest.raises(StoreRefused, match="permissions") as caught:
        LocalStore.open(public_folder / "store")
    assert str(public_folder) in str(caught.value)


def test_a_read_only_store_is_refused_with_its_path(public_folder: Path) -> None:
    store = LocalStore.open(public_folder)
    for path in (*public_folder.iterdir(), public_folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    with unprivileged(), pytest.raises(StoreRefused, match=r"store\.db.*write") as caught:
        store.append_events(make_events(1))
    assert str(public_folder) in str(caught.value)
    assert read_all(store, labelled_only=False).empty


def test_a_read_only_artifact_store_is_refused_with_its_path(public_folder: Path) -> None:
    store = LocalStore.open(public_folder)
    source = public_folder / "source"
    source.write_bytes(b"bytes")
    with unprivileged(), pytest.raises(StoreRefused, match="permissions") as caught:
        store.put("ml-models", "a/b", source)
    assert str(public_folder / "artifacts") in str(caught.value)


def test_a_locked_store_is_unavailable_and_free_afterwards(folder: Path) -> None:
    store = LocalStore.open(folder, lock_timeout=timedelta(milliseconds=100))
    with raw(folder) as db:
        db.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"store\.db.*locked"):
            store.append_events(make_events(1))
        assert 0.1 <= time.monotonic() - began < 5
        assert read_all(store).empty
        db.execute("ROLLBACK")
    assert store.append_events(make_events(1)) == 1


def test_a_full_disk_is_unavailable_and_writes_nothing(folder: Path) -> None:
    store = LocalStore.open(folder)
    code = """
import resource, sys
from pathlib import Path
from ml_pipeline.errors import StoreUnavailable
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.embedded.tables import within
from tests.support.factories import make_events
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    LocalStore.open(Path(sys.argv[1])).append_events(make_events(*range(5000)))
except StoreUnavailable as error:
    print(error)
"""
    writer = start(code, folder)
    stdout, stderr = writer.communicate(timeout=60)
    assert stderr == ""
    assert "store.db" in stdout
    assert read_all(store).empty
    assert store.append_events(make_events(1)) == 1


@pytest.mark.parametrize("damage", ["header", "middle"])
def test_a_damaged_store_is_corrupt(folder: Path, damage: str) -> None:
    store = LocalStore.open(folder)
    store.append_events(make_events(*range(500)))
    path = folder / "store.db"
    content = bytearray(path.read_bytes())
    if damage == "header":
        content[:64] = b"not a database".ljust(64)
    else:
        content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(StoreCorrupt, match=r"store\.db"):
        read_all(store)


def test_a_row_that_no_record_can_hold_is_corrupt(folder: Path) -> None:
    store = LocalStore.open(folder)
    store.start_run(make_run())
    with raw(folder) as db:
        db.execute("UPDATE model_retraining_runs SET started_at = printf('%032d', 0)")
    with pytest.raises(StoreCorrupt, match="model_retraining_runs"):
        store.get_run(make_id(1))


def test_text_that_is_not_unicode_is_refused(folder: Path) -> None:
    store = LocalStore.open(folder)
    with pytest.raises(StoreRefused):
        store.submit(make_request(reason="\ud800"))
    assert store.list_requests(model_name=MODEL_NAME) == []


# ------------------------------------------------------------------------------ crashes

APPEND = """
import sys
from pathlib import Path
from ml_pipeline.store import event_frames
from ml_pipeline.store.embedded import log as written
from ml_pipeline.store.alerts import SystemEvent
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.embedded.tables import within
from tests.support.factories import make_events
written.EVENT_CHUNK = 200
store = LocalStore.open(Path(sys.argv[1]))
frame = make_events(*range(20_000))
settle = event_frames.event_rows
def slowly(frame, size):
    for number, some in enumerate(settle(frame, size)):
        if number == 50:
            print("half", flush=True)
            sys.stdin.readline()
        yield some
event_frames.event_rows = slowly
store.append_events(frame)
"""


def test_a_writer_killed_in_the_middle_leaves_nothing_half_written(folder: Path) -> None:
    store = LocalStore.open(folder, lock_timeout=timedelta(seconds=5))
    store.append_events(make_events(99_999))
    writer = start(APPEND, folder)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "half\n"
    writer.send_signal(signal.SIGKILL)
    writer.communicate(timeout=30)
    assert writer.returncode == -signal.SIGKILL
    assert read_all(store)["event_id"].tolist() == [make_id(99_999)]
    with raw(folder) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert store.append_events(make_events(1, 2)) == 2


def test_an_interrupted_put_leaves_no_artifact(folder: Path, tmp_path: Path) -> None:
    store = LocalStore.open(folder)
    (folder / "artifacts" / "ml-models" / "a").mkdir(parents=True)
    leftover = folder / "artifacts" / "ml-models" / "a" / ".0123.tmp"
    leftover.write_bytes(b"half of the by")
    (tmp_path / "source").write_bytes(b"all of the bytes")
    ref = store.put("ml-models", "a/b", tmp_path / "source")
    assert store.fetch(ref, tmp_path / "copy").read_bytes() == b"all of the bytes"


# --------------------------------------------------------------------------- artifacts


def test_put_leaves_no_temporary_files(folder: Path, tmp_path: Path) -> None:
    store = LocalStore.open(folder)
    (tmp_path / "source").write_bytes(b"bytes")
    (tmp_path / "other").write_bytes(b"other")
    ref = store.put("ml-models", "a/b", tmp_path / "source")
    with pytest.raises(StoreRefused):
        store.put("ml-models", "a/b", tmp_path / "other")
    store.fetch(ref, tmp_path / "copies" / "copy")
    names = [path.name for path in (folder / "artifacts").rglob("*") if path.is_file()]
    assert names == ["b"]
    assert [path.name for path in (tmp_path / "copies").iterdir()] == ["copy"]


def test_links_out_of_the_artifact_store_are_refused(folder: Path, tmp_path: Path) -> None:
    store = LocalStore.open(folder)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    bucket = folder / "artifacts" / "ml-models"
    bucket.mkdir()
    (bucket / "linked").symlink_to(outside)
    (bucket / "file").symlink_to(outside / "secret")
    (folder / "artifacts" / "other").symlink_to(outside)
    for name, path in (("ml-models", "linked/new"), ("ml-models", "file"), ("other", "new")):
        with pytest.raises(StoreRefused, match="link"):
            store.put(name, path, outside / "secret")
        ref = ArtifactRef(bucket=name, path=path, digest="sha256:" + "0" * 64, size=6)
        with pytest.raises(StoreRefused, match="link"):
            store.fetch(ref, tmp_path / "copy")
    assert [path.name for path in outside.iterdir()] == ["secret"]


def test_a_path_below_an_artifact_is_refused(folder: Path, tmp_path: Path) -> None:
    store = LocalStore.open(folder)
    (tmp_path / "source").write_bytes(b"bytes")
    store.put("ml-models", "a", tmp_path / "source")
    with pytest.raises(StoreRefused):
        store.put("ml-models", "a/b", tmp_path / "source")
    ref = ArtifactRef(bucket="ml-models", path="a/b", digest="sha256:" + "0" * 64, size=6)
    with pytest.raises(NotFound):
        store.fetch(ref, tmp_path / "copy")


def test_a_source_that_is_not_there_is_refused_with_its_path(folder: Path, tmp_path: Path) -> None:
    store = LocalStore.open(folder)
    with pytest.raises(StoreRefused, match="missing"):
        store.put("ml-models", "a/b", tmp_path / "missing")
    assert list((folder / "artifacts").rglob("*")) == []


def test_the_url_of_an_artifact_opens_it(folder: Path, tmp_path: Path) -> None:
    store = LocalStore.open(folder)
    (tmp_path / "source").write_bytes(b"bytes")
    url = store.url(store.put("ml-models", "a/b", tmp_path / "source"))
    assert url == (folder / "artifacts" / "ml-models" / "a" / "b").as_uri()


# --------------------------------------------------------------------------------- reading


def test_rows_changed_between_chunks_neither_vanish_nor_come_twice(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "EVENT_CHUNK", 10)
    store = LocalStore.open(folder)
    store.append_events(make_events(*range(40), actual_result=None))
    chunks = store.read_events(EVER, model_name=MODEL_NAME, labelled_only=False)
    read = next(chunks)["event_id"].tolist()
    later = NOW + timedelta(days=1)
    labels = {make_id(number): "A" for number in (0, 5, 25, 39)}
    assert store.record_outcomes(labels, evaluated_at=later) == 4
    store.append_events(frame_of([make_event(30_000, actual_result=None)]))
    for chunk in chunks:
        read += chunk["event_id"].tolist()
    assert read == [make_id(number) for number in range(40)]


def test_an_abandoned_read_blocks_nobody(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "EVENT_CHUNK", 10)
    store = LocalStore.open(folder, lock_timeout=timedelta(milliseconds=200))
    store.append_events(make_events(*range(40)))
    chunks = store.read_events(EVER, model_name=MODEL_NAME)
    next(chunks)
    assert store.append_events(make_events(41)) == 1
    del chunks
    with raw(folder) as db:
        assert db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)


def plan(folder: Path, query: str, **values: object) -> str:
    """How SQLite would answer."""
    window = LookbackWindow(start=NOW, end=NOW + timedelta(days=7))
    everything = {**within(window, MODEL_NAME), **values}
    with raw(folder) as db:
        rows = db.execute(f"EXPLAIN QUERY PLAN {query}", everything).fetchall()
    return json.dumps([row[-1] for row in rows])


def test_error_samples_are_found_by_their_own_index(folder: Path) -> None:
    LocalStore.open(folder)
    how = plan(folder, log.ERROR_SAMPLES, threshold=0.7, models='["m-1"]')
    assert "evaluation_log_errors (model_name=? AND known_at>? AND known_at<?)" in how
    assert "TEMP B-TREE" not in how


def test_events_are_read_in_order_without_sorting(folder: Path) -> None:
    LocalStore.open(folder)
    for labelled_only in (True, False):
        how = plan(folder, log.events_query(labelled_only=labelled_only))
        assert "evaluation_log_labelled (model_name=? AND known_at>? AND known_at<?)" in how
        assert "TEMP B-TREE" not in how
        assert "SCAN evaluation_log" not in how


# -------------------------------------------------------------------------------- watching


def test_without_system_events_an_event_goes_to_learning_events(folder: Path) -> None:
    store = LocalStore.open(folder)
    event = SystemEvent(event_id=make_id(1), model_name=MODEL_NAME, event_type="model_retrain",
                        at=NOW, message="triggered")  # fmt: skip
    with raw(folder) as db:
        db.execute("DROP TABLE system_events")
        assert [store.record_event(event) for _ in range(2)] == ["learning_events"] * 2
        assert db.execute("SELECT id, message FROM learning_events").fetchall() == [
            (make_id(1), "triggered")
        ]


def test_learning_cycles_come_newest_first_and_a_broken_one_is_refused(folder: Path) -> None:
    store = LocalStore.open(folder)
    row = (
        "INSERT INTO learning_stats (timestamp, accept_rate, total, model_name) VALUES (?, ?, ?, ?)"
    )
    with raw(folder) as db:
        db.execute(row, ("2026-03-01T10:00:00.000000+00:00", 0.5, 40, MODEL_NAME))
        db.execute(row, ("2026-03-02T10:00:00.000000+00:00", 0.75, None, MODEL_NAME))
        db.execute(row, ("2026-03-03T10:00:00.000000+00:00", None, 9, MODEL_NAME))
        found = store.learning_cycles(model_name=MODEL_NAME, limit=5)
        assert [(cycle.accept_rate, cycle.total) for cycle in found] == [(0.75, None), (0.5, 40)]
        db.execute(row, ("2026-03-04T10:00:00.000000+00:00", 75.0, None, MODEL_NAME))
    with pytest.raises(StoreCorrupt, match="learning_stats"):
        store.learning_cycles(model_name=MODEL_NAME, limit=5)


def test_learning_cycles_of_a_version_are_not_crowded_out_by_another(folder: Path) -> None:
    store = LocalStore.open(folder)
    row = (
        "INSERT INTO learning_stats (timestamp, accept_rate, model_name, model_id, metadata) "
        "VALUES (?, ?, ?, ?, ?)"
    )
    with raw(folder) as db:
        for day, rate, model_id, metadata in (
            (1, 0.1, None, '{"model_id": "llm-1"}'), (2, 0.2, "llm-1", "{}"), (3, 0.3, None, "{}"),
            (4, 0.4, "llm-2", "{}"), (5, 0.5, "llm-2", '{"model_id": "llm-1"}'),
        ):  # fmt: skip
            at = f"2026-03-0{day}T10:00:00.000000+00:00"
            db.execute(row, (at, rate, MODEL_NAME, model_id, metadata))

    def rates(*model_ids: str, limit: int = 3) -> list[float]:
        found = store.learning_cycles(model_name=MODEL_NAME, limit=limit, model_ids=model_ids)
        return [cycle.accept_rate for cycle in found]

    assert rates("llm-1") == [0.3, 0.2, 0.1]
    assert rates("llm-2") == [0.5, 0.4, 0.3]
    assert rates("it's", limit=9) == [0.3]
    assert len(store.learning_cycles(model_name=MODEL_NAME, limit=9)) == 5


@pytest.mark.parametrize("key", ["'same'", "NULL"])
def test_a_table_of_labels_whose_key_is_none_loses_no_row_in_silence(
    folder: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "TRUTH_CHUNK", 10)
    store = LocalStore.open(folder)
    with raw(folder) as db:
        db.execute("CREATE TABLE labels (id TEXT, label TEXT)")
        db.executemany("INSERT INTO labels VALUES (?, 'H')", [(f"a{n}",) for n in range(8)])
        for _ in range(12):
            db.execute(f"INSERT INTO labels VALUES ({key}, 'H')")  # noqa: S608 - constants
    with pytest.raises(StoreCorrupt, match=r"labels|id_column"):
        list(store.read_table("labels", key="id"))
