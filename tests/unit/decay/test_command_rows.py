"""The rows that a command gets: there while it works, gone afterwards."""

from __future__ import annotations

from pathlib import Path

from ml_pipeline.config.settings import Settings
from ml_pipeline.decay.context import CheckContext
from ml_pipeline.decay.refresh.command import filled_command
from ml_pipeline.store.embedded.store import LocalStore
from tests.support.factories import MODEL_NAME, NOW, frame_of, make_event, make_id

OTHER = f"{MODEL_NAME}-2"


def context(model_name: str, work_dir: Path) -> CheckContext:
    settings = Settings().changed({
        "model_name": model_name, "decay.action": "command", "decay.command": ["cat", "{dataset}"],
    })  # fmt: skip
    return CheckContext(settings=settings, now=NOW, new_id=lambda: make_id(1), work_dir=work_dir)


def test_the_rows_of_a_command_at_work_stay_whatever_other_models_commands_do(
    tmp_path: Path,
) -> None:
    store, work = LocalStore.open(tmp_path / "store"), tmp_path / "work"
    rows = [make_event(number, model_name=name) for number, name in enumerate((MODEL_NAME, OTHER))]
    store.append_events(frame_of(rows))
    with filled_command(store, context(OTHER, work), make_id(2)) as (_, theirs):
        with filled_command(store, context(MODEL_NAME, work), make_id(3)) as (_, own):
            assert Path(theirs).is_file()
            left = Path(own).parent
        assert Path(theirs).is_file()
        left.mkdir()  # as a watchdog leaves it that is killed
        with filled_command(store, context(MODEL_NAME, work), make_id(3)):
            assert not left.exists()
    assert list(work.iterdir()) == []
