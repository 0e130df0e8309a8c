"""`analyse` reads the champion's labelled rows, from the table and from a file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.support.factories import make_id, make_model, make_promotion
from tests.support.logs import fill_table, make_row, open_local, without_outcome, write_log
from tests.support.warm import ml_pipeline


def rows() -> list[dict[str, str]]:
    """Two hundred outcomes: 20 errors in one stretch, and one prediction that waits."""
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start = midnight - timedelta(days=10)
    made = []
    for number in range(1, 201):
        at = (start + timedelta(hours=number)).isoformat()
        wrong = 100 < number <= 120
        made.append(
            make_row(
                number, timestamp=at, evaluated_at=at, model_name="default", match_id=str(number),
                prediction="H" if number % 2 else "A",
                actual_result="D" if wrong else "H" if number % 2 else "A",
            )
        )  # fmt: skip
    return [*made, without_outcome(201, timestamp=at, model_name="default")]


def test_analyse_says_that_the_errors_cluster(tmp_path: Path) -> None:
    store = open_local(tmp_path)
    other = make_row(900, evaluated_at=None, timestamp=datetime.now(UTC).isoformat(),
                     model_id="m-other", model_name="default")  # fmt: skip
    fill_table(store, [*rows(), other])
    store.register(make_model("m-1", model_name="default"))
    store.promote(make_promotion("m-1", None, model_name="default"))
    done = ml_pipeline("analyse", "--local", tmp_path / "store", "--days", "30", cwd=tmp_path)
    assert done.code == 0, done.stderr
    found = done.json
    assert (found["rows"], found["accuracy"]) == (200, 0.9)
    assert found["errors"]["runs_test"]["clustered"] is True
    assert found["errors"]["streaks"]["longest"] == {"right": 100, "wrong": 20}
    assert found["outcomes"]["transitions"]["H"]["counts"]["A"] == 90
    assert [(day["share"] < 0.7) for day in found["strange_days"]] == [True]
    everyone = ml_pipeline("analyse", "--local", tmp_path / "store", "--all_models", cwd=tmp_path)
    assert everyone.json["rows"] == 201


def test_analyse_reads_a_file_alike_and_an_empty_log_too(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.csv", rows())
    local = tmp_path / "store"
    done = ml_pipeline("analyse", "--local", local, cwd=tmp_path, ML_PIPELINE__LOG__SOURCE=str(log))
    assert done.code == 0, done.stderr
    assert (done.json["rows"], done.json["accuracy"]) == (200, 0.9)
    assert done.json["errors"]["runs_test"]["clustered"] is True
    empty = ml_pipeline("analyse", "--local", local, cwd=tmp_path)
    assert empty.code == 0, empty.stderr
    assert (empty.json["rows"], empty.json["accuracy"]) == (0, None)
    refused = ml_pipeline("analyse", "--local", local, "--days", "-1", cwd=tmp_path)
    assert refused.code == 1
    assert make_id(1) not in refused.stderr
