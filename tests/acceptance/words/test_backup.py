"""A store is saved while it is in use, and what is restored serves, learns and reconciles."""

from __future__ import annotations

import json
import shutil
import sqlite3
import stat
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ml_pipeline.ml_logging import get_logger
from ml_pipeline.store import schema
from tests.conftest import FirstModel
from tests.support import league, warm
from tests.support.places import EMBEDDED, FAR_IS_LONG, SUPABASE, Place
from tests.support.served import FEATURES, ROW
from tests.support.shell import Finished
from tests.support.supabase.project import SupabaseProject

SCHEMA = "\n".join(script.text for script in schema.scripts())
FEATURES_OF_ROW = dict(zip(FEATURES, map(float, ROW), strict=True))
RUN = {"ML_PIPELINE__RUN__TRIGGER": "any"}


def url_of(place: Place) -> tuple[str, ...]:
    return () if place.project is None else ("--database_url", place.project.dsn)


def lived(place: Place, model: FirstModel, folder: Path) -> None:
    """A store with a champion, nights that it has learned, and some that it has not."""
    now = datetime.now(UTC)
    nights = league.nights_before(now, 4)
    place.fill(model, nights[:3])
    done = warm.ml_pipeline("run", cwd=folder, **place.variables, **RUN)
    assert done.json["outcome"] == "promoted", done.stderr
    with place.opened() as store:
        store.append_events(league.events_of(model.model, nights[3]))


def answer(place: Place, folder: Path) -> Mapping[str, Any]:
    done = warm.ml_pipeline("predict", "--no_log", "--predict", *ROW, cwd=folder, **place.variables)
    assert done.code == 0, done.stderr
    return {name: done.json[name] for name in ("model_id", "probabilities")}


def ask(word: str, place: Place, folder: Path, *flags: str) -> Finished:
    return warm.ml_pipeline(word, *flags, cwd=folder, **place.variables)


def fresh(place: Place, folder: Path) -> Place:
    """An empty store of the same kind."""
    if place.project is None:
        return Place(kind=EMBEDDED, variables={"ML_PIPELINE_LOCAL": str(folder / "new")})
    place.project.blank()
    place.project.apply(SCHEMA)
    return place


@FAR_IS_LONG
def test_o5_what_was_saved_in_use_serves_learns_and_reconciles(
    place: Place, first_model: FirstModel, tmp_path: Path
) -> None:
    lived(place, first_model, tmp_path)
    before, over = answer(place, tmp_path), threading.Event()
    logged: list[str] = []

    def keep_logging() -> None:
        with get_logger(local_dir=place.variables["ML_PIPELINE_LOCAL"]) as logger:
            while not over.is_set():
                logged.append(
                    logger.log_prediction(
                        match_id=f"busy-{len(logged)}", features=FEATURES_OF_ROW,
                        prediction="H", confidence=0.5, model_id=before["model_id"],
                    )
                )  # fmt: skip

    writer = threading.Thread(target=keep_logging)
    if place.kind == EMBEDDED:
        writer.start()
    try:
        done = ask("backup", place, tmp_path, "saved", *url_of(place))
    finally:
        over.set()
        if place.kind == EMBEDDED:
            writer.join()
    assert done.code == 0, done.stderr
    assert done.json["status"] == "completed"
    assert done.json["missing"] == []
    saved = tmp_path / "saved"
    assert {stat.S_IMODE(item.stat().st_mode) for item in saved.rglob("*") if item.is_file()} == {
        0o600
    }
    assert stat.S_IMODE(saved.stat().st_mode) == 0o700
    assert ask("backup", place, tmp_path, "saved", *url_of(place)).code == 1

    new = fresh(place, tmp_path)
    restored = ask("restore", new, tmp_path, "saved", *url_of(place))
    assert restored.code == 0, restored.stderr
    assert restored.json["rows"] == done.json["rows"]
    assert answer(new, tmp_path) == before
    again = ask("restore", new, tmp_path, "saved", *url_of(place))
    assert again.code == 1, again.stderr
    night = warm.ml_pipeline("run", cwd=tmp_path, **new.variables, **RUN)
    assert night.json["outcome"] in {"promoted", "rejected", "awaiting_approval"}, night.stderr
    assert night.json["training_rows"] > 0
    compared = ask("reconcile", new, tmp_path, "--repair")
    assert compared.json["differing"] == 0
    assert ask("reconcile", new, tmp_path).json["consistent"] is True


def test_o5_a_damaged_or_foreign_backup_restores_nothing(
    first_model: FirstModel, tmp_path: Path
) -> None:
    place = Place(kind=EMBEDDED, variables={"ML_PIPELINE_LOCAL": str(tmp_path / "store")})
    place.fill(first_model, league.nights_before(datetime.now(UTC), 1))
    assert ask("backup", place, tmp_path, "saved").code == 0
    manifest = json.loads((tmp_path / "saved" / "backup.json").read_text())
    artifact = next(file["path"] for file in manifest["files"] if "artifacts/" in file["path"])
    odd: dict[str, tuple[str, bytes | None]] = {
        "artifact": (artifact, b"other bytes"),
        "database": ("store.db", b"SQLite format 3\0 but no more"),
        "no manifest": ("backup.json", None),
        "torn manifest": ("backup.json", b'{"format": 1, "kind"'),
        "odd manifest": ("backup.json", b'{"format": 1, "files": 7}'),
        "newer": ("backup.json", json.dumps(manifest | {"format": 2}).encode()),
        "outside": ("backup.json", json.dumps(
            manifest | {"files": [{"path": "../x", "size": 0, "digest": ""}]}).encode()),
        "another kind": ("backup.json", json.dumps(manifest | {"kind": "supabase"}).encode()),
        "gone": (artifact, None),
    }  # fmt: skip
    for name, (path, content) in odd.items():
        folder = tmp_path / name
        shutil.copytree(tmp_path / "saved", folder)
        if content is None:
            (folder / path).unlink()
        else:
            (folder / path).write_bytes(content)
        new = Place(kind=EMBEDDED, variables={"ML_PIPELINE_LOCAL": str(tmp_path / f"{name} new")})
        done = ask("restore", new, tmp_path, str(folder))
        assert done.code == 1, name
        assert "Traceback" not in done.stderr
        assert not (tmp_path / f"{name} new").exists(), name
    assert not [item for item in tmp_path.iterdir() if item.name.endswith(".tmp")]


def test_a_backup_among_the_artifacts_that_it_copies_is_refused(
    tmp_path: Path, first_model: FirstModel
) -> None:
    place = Place(kind=EMBEDDED, variables={"ML_PIPELINE_LOCAL": str(tmp_path / "store")})
    place.fill(first_model, [])
    inside, link = tmp_path / "store" / "artifacts" / "saved" / "today", tmp_path / "link"
    link.symlink_to(tmp_path / "store" / "artifacts")
    before = sorted(tmp_path.rglob("*"))
    for target in (inside, link / "today", inside.parent.parent):
        done = ask("backup", place, tmp_path, str(target))
        assert done.code == 1
        assert "is inside" in done.stderr
        assert "Name a folder outside of the store" in done.stderr
    assert sorted(tmp_path.rglob("*")) == before
    assert ask("backup", place, tmp_path, str(tmp_path / "store" / "saved")).code == 0


def test_o5_what_stands_in_the_write_ahead_log_alone_is_saved(
    first_model: FirstModel, tmp_path: Path
) -> None:
    place = Place(kind=EMBEDDED, variables={"ML_PIPELINE_LOCAL": str(tmp_path / "store")})
    place.fill(first_model, league.nights_before(datetime.now(UTC), 1))
    path = tmp_path / "store" / "store.db"
    with sqlite3.connect(path) as reader:
        reader.execute("begin")
        reader.execute("select count(*) from evaluation_log").fetchone()
        with place.opened() as store:
            store.append_events(
                league.events_of(
                    first_model.model,
                    league.nights_before(datetime.now(UTC) - timedelta(days=9), 1)[0],
                )
            )
        done = ask("backup", place, tmp_path, "saved")
    reader.close()
    assert done.code == 0, done.stderr
    with sqlite3.connect(tmp_path / "saved" / "store.db") as copy:
        (rows,) = copy.execute("select count(*) from evaluation_log").fetchone()
    copy.close()
    assert rows == done.json["rows"]["evaluation_log"]
    with sqlite3.connect(path) as db:
        assert db.execute("select count(*) from evaluation_log").fetchone() == (rows,)
    db.close()


def test_o5_an_old_file_beside_a_newer_log_of_writes_has_a_way_out(
    first_model: FirstModel, tmp_path: Path
) -> None:
    place = Place(kind=EMBEDDED, variables={"ML_PIPELINE_LOCAL": str(tmp_path / "store")})
    place.fill(first_model, league.nights_before(datetime.now(UTC), 1))
    path = tmp_path / "store" / "store.db"
    shutil.copy(path, tmp_path / "old.db")
    with sqlite3.connect(path) as writer:
        writer.execute(
            "create table filler as with recursive n(i) as (select 1 union all "
            "select i + 1 from n where i < 20000) select i, hex(randomblob(40)) from n"
        )
        writer.execute("update evaluation_log set confidence = confidence")
        writer.commit()
        log = path.with_name("store.db-wal").read_bytes()
    writer.close()
    shutil.copy(tmp_path / "old.db", path)
    path.with_name("store.db-wal").write_bytes(log)
    with path.open("rb+") as file:
        file.truncate(file.seek(0, 2) // 2)
    done = ask("status", place, tmp_path)
    assert done.code == 1, done.stdout
    assert "store.db-wal" in done.stderr
    assert "ml-pipeline restore" in done.stderr
    shutil.copy(tmp_path / "old.db", path)
    for suffix in ("-wal", "-shm"):
        path.with_name(f"store.db{suffix}").unlink(missing_ok=True)
    assert ask("status", place, tmp_path).code == 0


def test_o5_bytes_that_are_gone_make_a_backup_incomplete(
    project: SupabaseProject, first_model: FirstModel, tmp_path: Path
) -> None:
    project.blank()
    project.apply(SCHEMA)
    place = Place(
        kind=SUPABASE,
        project=project,
        variables={"SUPABASE_URL": project.url, "SUPABASE_SERVICE_KEY": project.service_key},
    )
    place.fill(first_model, league.nights_before(datetime.now(UTC), 1))
    project.sql("set storage.allow_delete_query = 'true'; delete from storage.objects")
    done = ask("backup", place, tmp_path, "saved", *url_of(place))
    assert (done.code, done.json["status"]) == (1, "incomplete"), done.stderr
    assert any(league.FIRST_MODEL in name for name in done.json["missing"])
    without = ask("backup", place, tmp_path, "other")
    assert without.code == 1
    assert "--database-url" in without.stderr
