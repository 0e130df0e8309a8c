"""The commands as processes: exit codes, JSON on stdout, messages on stderr."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.records import RunStatus
from tests.conftest import FirstModel
from tests.support import league, warm
from tests.support.shell import ROOT, Finished, environment, python
from tests.support.warm import ml_pipeline

SAMPLE = ROOT / "ml_pipeline" / "data" / "training_dataset.csv"
RUN_KEYS = {
    "run_id", "status", "outcome", "outcome_reason", "source", "request_ids", "dataset_size",
    "metrics", "champion", "challenger", "champion_metrics", "challenger_metrics", "decision",
    "log_url", "report_path", "duration_s", "training_rows",
}  # fmt: skip
TRAIN_KEYS = {
    "status", "model_id", "model_path", "algorithm", "fine_tune", "metrics", "dataset_size",
    "training_digest", "timestamp",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, first_model: FirstModel) -> Path:
    """A store whose champion was wrong on the last three nights."""
    nights = league.nights_before(datetime.now(UTC), 3)
    folder = tmp_path / "store"
    league.open_league(folder, first_model.path, first_model.model, nights).close()
    return folder


def test_run_prints_one_json_object_with_the_keys_of_the_contract(
    folder: Path, tmp_path: Path
) -> None:
    done = python("-m", "ml_pipeline", "run", "--local", folder, cwd=tmp_path)

    assert done.code == 0, done.stderr
    assert set(done.json) >= RUN_KEYS
    assert done.json["outcome"] == "promoted"
    assert len(done.stdout.strip().splitlines()) == 1
    assert " - auto_reinforcement - INFO - " in done.stderr


def test_flags_take_dashes_or_underscores_and_the_store_comes_from_the_environment_too(
    folder: Path, tmp_path: Path
) -> None:
    flags = ["--lookback-days", "2", "--min_errors=1000", "--dry-run"]
    done = warm.python(
        "-m", "ml_pipeline.auto_reinforcement", *flags,
        cwd=tmp_path, ML_PIPELINE_LOCAL=str(folder),
    )  # fmt: skip
    assert done.code == 0, done.stderr
    assert done.json["outcome"] == "skipped_insufficient_errors"
    assert "1000 are needed" in done.json["outcome_reason"]


def test_without_a_store_the_message_names_the_variables_and_the_way_out(tmp_path: Path) -> None:
    done = ml_pipeline("run", cwd=tmp_path)
    assert done.code == 1
    for words in ("SUPABASE_URL", "SUPABASE_SERVICE_KEY", "--local"):
        assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_half_a_pair_of_credentials_is_refused(tmp_path: Path) -> None:
    done = ml_pipeline("run", cwd=tmp_path, SUPABASE_URL="https://example.invalid")
    assert done.code == 1
    assert "SUPABASE_SERVICE_KEY is not set" in done.stderr


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["run", "--nonsense"], ["train", "--epochs", "x"], []]
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], tmp_path: Path) -> None:
    assert ml_pipeline(*arguments, cwd=tmp_path).code == 2


def test_bad_settings_are_listed_all_at_once(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model_config.yaml").write_text("run:\n  lookback_days: '7'\nnope: 1\n")
    done = ml_pipeline("run", "--local", folder, "--confidence_threshold", "1.5", cwd=tmp_path)
    assert done.code == 1
    for words in ("run.lookback_days = '7'", "nope = 1", "run.confidence_threshold = 1.5"):
        assert words in done.stderr


def test_a_log_that_cannot_be_read_is_a_failed_run_with_exit_code_1(
    folder: Path, tmp_path: Path
) -> None:
    done = ml_pipeline(
        "run", "--local", folder, cwd=tmp_path, ML_PIPELINE__LOG__SOURCE=str(tmp_path / "no.csv")
    )
    assert done.code == 1
    assert done.json["status"] == "failed"
    assert "no.csv" in done.json["error"]
    store = LocalStore.open(folder)
    assert store.get_run(done.json["run_id"]).status is RunStatus.FAILED


def test_two_runs_started_together_do_not_both_train(folder: Path, tmp_path: Path) -> None:
    command = [str(warm.interpreter()), "-m", "ml_pipeline", "run", "--local", str(folder)]
    both = [
        subprocess.Popen(
            command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]  # fmt: skip
    answers = [json.loads(process.communicate(timeout=120)[0]) for process in both]

    assert [process.returncode for process in both] == [0, 0]
    outcomes = sorted(str(answer["outcome"]) for answer in answers)
    assert outcomes in (["None", "promoted"], ["promoted", "skipped_no_new_data"])
    store = LocalStore.open(folder)
    assert len(store.list_models(model_name="default")) == 2


@pytest.mark.long
def test_defect_2_the_trainer_runs_as_a_module_and_as_a_file(tmp_path: Path) -> None:
    as_module = python("-m", "ml_pipeline.train_model", "--output_dir", "a", cwd=tmp_path)
    as_file = python(ROOT / "ml_pipeline" / "train_model.py", "--output_dir", "b", cwd=tmp_path)

    for done in (as_module, as_file):
        assert done.code == 0, done.stderr
        assert set(done.json) >= TRAIN_KEYS
        assert done.json["fine_tune"] is False
        assert (tmp_path / done.json["model_path"]).is_file()
    assert as_module.json["training_digest"] == as_file.json["training_digest"]
    assert as_module.json["metrics"] == as_file.json["metrics"]


def test_the_seeds_example_command_runs_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("training:\n  random_seed: 7\n")
    done = python(
        ROOT / "ml_pipeline" / "train_model.py",
        "--dataset", SAMPLE, "--config", "config.yaml", "--output_dir", "./models/retrained",
        "--fine_tune", "true", "--learning_rate", "0.001", "--epochs", "5",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.stderr
    assert done.json["fine_tune"] is True
    assert done.json["base"] == {"kind": "training_data", "dataset": "builtin"}
    assert done.json["ignored"] == ["learning_rate"]
    assert "training a base on builtin" in done.stderr


def test_training_on_thirty_rows_works_and_is_quick(tmp_path: Path) -> None:
    pd.read_csv(SAMPLE).tail(30).to_csv(tmp_path / "thirty.csv", index=False)
    started = time.monotonic()
    done = python("-m", "ml_pipeline", "train", "--dataset", "thirty.csv", cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert done.json["dataset_size"] == 30
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no file"),
        ("", "is empty"),
        ("match_id,result\n", "has a header and no rows"),
        ("match_id,result\n1,H\n2,A\n", "home_team_form"),
    ],
)
def test_a_dataset_that_cannot_be_used_is_said_in_words(
    tmp_path: Path, content: str | None, words: str
) -> None:
    if content is not None:
        (tmp_path / "d.csv").write_text(content)
    done = ml_pipeline("train", "--dataset", "d.csv", cwd=tmp_path)
    assert done.code == 1
    assert done.json["status"] == "failed"
    assert words in done.json["error"]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "models").exists()


def test_models_are_listed_promoted_and_rolled_back(folder: Path, tmp_path: Path) -> None:
    promoted = ml_pipeline("run", "--local", folder, cwd=tmp_path).json["champion"]
    store = ["--local", str(folder)]
    listed = ml_pipeline("models", *store, "list", cwd=tmp_path).json["models"]
    assert [model["state"] for model in listed] == ["champion", "retired"]
    elsewhere = ml_pipeline("models", *store, "list", cwd=tmp_path, ML_PIPELINE__MODEL_NAME="other")
    assert elsewhere.json == {"models": [], "other_names": ["default"]}
    assert "set model_name" in elsewhere.stderr

    no_reason = ml_pipeline("models", *store, "rollback", cwd=tmp_path)
    assert no_reason.code == 2
    back = ml_pipeline("models", *store, "rollback", "--reason", "looked odd", cwd=tmp_path)
    assert back.json["model_id"] == league.FIRST_MODEL

    refused = ml_pipeline("models", *store, "promote", promoted, cwd=tmp_path)
    assert refused.code == 1
    forced = ml_pipeline(
        "models", *store, "promote", promoted, "--force", "--reason", "it was fine", cwd=tmp_path
    )
    assert forced.json["state"] == "champion"
    shown = ml_pipeline("models", *store, "show", promoted, cwd=tmp_path).json
    assert [event["kind"] for event in shown["history"]] == ["promotion", "promotion"]


def test_backtest_replays_the_bundled_sample(tmp_path: Path) -> None:
    done = ml_pipeline(
        "backtest", "--csv", SAMPLE, "--target", "result", "--time", "match_date",
        "--drop", "match_id,league", "--init", "3000", "--policies", "frozen,seed,adaptive",
        "--output_dir", "out", cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.stderr
    policies = done.json["policies"]
    assert list(policies) == ["frozen", "seed", "adaptive"]
    assert set(policies["adaptive"]) == {
        "accuracy", "log_loss", "worst_block_points", "worst_block_nats", "train_cpu_s",
        "promotions", "nights", "rows",
    }  # fmt: skip
    assert policies["frozen"]["worst_block_points"] == 0
    assert policies["adaptive"]["log_loss"] < policies["seed"]["log_loss"]
    assert policies["adaptive"]["log_loss"] < policies["frozen"]["log_loss"] + 0.003
    assert (tmp_path / "out" / "nights.csv").is_file()


def test_backtest_reads_the_stores_own_log(folder: Path, tmp_path: Path) -> None:
    done = ml_pipeline(
        "backtest", "--local", folder, "--init", "40", "--policies", "adaptive", cwd=tmp_path
    )
    assert done.code == 0, done.stderr
    assert done.json["policies"]["adaptive"]["rows"] == 80


def test_importing_the_package_costs_nothing() -> None:
    heavy = "('numpy', 'pandas', 'sklearn', 'duckdb', 'pydantic')"
    code = f"import sys, ml_pipeline; print([m for m in {heavy} if m in sys.modules])"
    assert python("-c", code, cwd=ROOT).stdout.strip() == "[]"


def test_a_run_that_trains_nothing_needs_no_scikit_learn() -> None:
    """The trainer is a process of its own; who waits for it holds none of its libraries."""
    code = (
        "import sys, ml_pipeline.runs.recording;"
        "print('sklearn' in sys.modules, 'scipy' in sys.modules)"
    )
    assert python("-c", code, cwd=ROOT).stdout.strip() == "False False"


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        ("status", set()),
        ("models list", set()),
        ("requests list", set()),
        ("doctor --quick", set()),
        ("reconcile", {"duckdb"}),
    ],
)
def test_a_command_that_looks_loads_only_what_it_uses(
    folder: Path, tmp_path: Path, command: str, needed: set[str]
) -> None:
    heavy = ("numpy", "pandas", "scipy", "sklearn", "duckdb", "supabase")
    code = (
        "import sys; from ml_pipeline.cli import main; "
        f"main({[*command.split(), '--local', str(folder)]}); "
        f"print(*(name for name in {heavy} if name in sys.modules))"
    )
    done = python("-c", code, cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert set(done.stdout.splitlines()[-1].split()) == needed


def assert_is_in_the_manual(shown: str) -> None:
    """The demo's tables and sentences stand there as they are shown, but for the run's id.

    Other processors round the last digits otherwise.
    """
    start = shown.index("Where the model was confidently wrong")
    middle, end = shown.index("Did it rain?"), shown.index("Both, night by night")
    assert_stands_in("docs/quickstart.md", "demo output", shown[start:middle])
    assert_stands_in("README.md", "drift output", shown[middle:end])


def assert_stands_in(page: str, marker: str, shown: str) -> None:
    """What was shown stands in the page, numbers to their last digit but one."""
    text = (ROOT / page).read_text(encoding="utf-8")
    told = text.partition(f"<!-- {marker} -->\n```text\n")[2].partition("\n```")[0]
    pieces = [
        re.split(r"(\d+\.\d+)", re.sub(r"-[0-9a-f]{8}\.", ".", text))
        for text in (told, "\n".join(line.rstrip() for line in shown.rstrip().split("\n")))
    ]
    assert pieces[0][::2] == pieces[1][::2]
    for one, other in zip(pieces[0][1::2], pieces[1][1::2], strict=True):
        assert float(one) == pytest.approx(float(other), abs=0.0011 if float(other) < 2 else 0.11)


@pytest.mark.parametrize(
    "starts", [[warm.python], pytest.param([python, warm.python], marks=pytest.mark.long)], ids=len
)
def test_the_demo_runs_in_under_a_minute_also_twice_and_spares_foreign_folders(
    starts: list[Callable[..., Finished]], tmp_path: Path
) -> None:
    for start in starts:
        started = time.monotonic()
        done = start("-m", "ml_pipeline.auto_reinforcement", "--demo", cwd=tmp_path)
        assert done.code == 0, done.stderr
        assert time.monotonic() - started < 60
        assert done.json["outcome"] in {"promoted", "rejected"}
        assert done.json["dataset_size"] >= 10
        assert_is_in_the_manual(done.stderr)
        first, *_, last = done.json["drift"]
        assert last["left_alone"] < first["left_alone"] - 5
        assert last["in_the_loop"] > last["left_alone"] + 8
    assert (tmp_path / "demo_store" / "store.db").is_file()
    assert "<svg" in (tmp_path / "demo_store" / "comparison.html").read_text(encoding="utf-8")

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious.txt").write_text("mine")
    refused = warm.python(
        "-m", "ml_pipeline.auto_reinforcement", "--demo", "--local", "mine", cwd=tmp_path
    )
    assert refused.code == 1
    assert (tmp_path / "mine" / "precious.txt").read_text() == "mine"
