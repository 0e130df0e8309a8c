"""A run's report: what stands in it, that it needs nothing else, and that no run fails for it."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ml_pipeline.config.data import DEFAULT_FEATURES
from ml_pipeline.printable import plain_markdown
from ml_pipeline.reports import report, review
from ml_pipeline.reports.run_view import run_view
from ml_pipeline.runs import recording
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.json_values import run_json
from ml_pipeline.store.records import ModelState, RetrainingRun
from tests.conftest import FirstModel
from tests.support import crashing, league
from tests.support.factories import make_finished_run, make_promotion, make_run
from tests.support.warm import ml_pipeline

# What nobody has to know who reads a headline.
INSIDE_WORDS = re.compile(r"\b(nats?|anchors?|lines?|heads?|bounds?|nights?)\b", re.IGNORECASE)
HOSTILE = "<script>alert('x')</script>"


class EndedRun:
    """A run over four nights, and the same store afterwards."""

    def __init__(self, folder: Path, model: FirstModel) -> None:
        self.folder = folder
        nights = league.nights_before(crashing.NOW, 4)
        self.store = league.open_league(
            folder / "store", model.path, model.model, nights, reference=league.first_reference()
        )
        self.result = recording.run(self.store, crashing.order(folder / "work")).result
        self.run: RetrainingRun = self.store.get_run(self.result["run_id"])
        self.kept: dict[str, Any] = self.run.details["review"]
        self.page = Path(self.result["report_path"]).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, first_model: FirstModel) -> EndedRun:
    return EndedRun(tmp_path_factory.mktemp("ended"), first_model)


def test_the_report_is_an_artifact_that_the_run_row_names(ended: EndedRun) -> None:
    assert ended.run.details["report_path"] == ended.result["report_path"]
    names = ended.store.names("model-artifacts", "reports")
    assert names == [f"{ended.run.run_id}.html"]
    assert ended.run.details["report_url"].endswith(f"/reports/{ended.run.run_id}.html")
    assert "review" not in ended.result


def test_the_page_needs_no_network_and_no_script(ended: EndedRun) -> None:
    assert not re.findall(r"<(?:script|link|img|iframe)|src=|url\(|@import|https?://", ended.page)
    for sentence in (ended.run.outcome_reason, ended.kept["runs_test"]["sentence"]):
        assert sentence is not None
        assert sentence in ended.page.replace("&#39;", "'")
    for check in ended.run.details["decision"]["checks"]:
        assert check["sentence"].replace("'", "&#39;") in ended.page
    charts = re.findall(r"<svg class=\"chart\".*?</svg>", ended.page, re.DOTALL)
    assert len(charts) == 5
    for chart in charts:
        title, text = re.findall(r"<(?:title|desc) id[^>]*>([^<]+)</", chart)
        assert len(title) > 10
        assert len(text) > 40


def test_headlines_are_plain_english(ended: EndedRun) -> None:
    elements = r"<(h1|h2|h3|figcaption)[^>]*>(.*?)</\1>|<p class=\"(lead)\">(.*?)</p>"
    found = re.findall(elements, ended.page, re.DOTALL)
    headlines = [first or second for _, first, _, second in found]
    assert {"Checks", "Champion against challenger", "Lineage"} <= set(headlines)
    assert ended.run.outcome_reason in headlines
    assert not [headline for headline in headlines if INSIDE_WORDS.search(headline)]


def test_what_is_kept_adds_up_to_what_the_run_says(ended: EndedRun) -> None:
    for side in ("champion", "challenger"):
        model, metrics = ended.kept[side], ended.run.details[f"{side}_metrics"]
        counts = model["confusion"]
        rows = sum(map(sum, counts))
        assert rows == ended.run.details["holdout_rows"] == 160
        right = sum(counts[place][place] for place in range(3))
        assert right / rows == pytest.approx(metrics["accuracy"])
        assert sum(part["rows"] for part in model["reliability"]) == rows
        for name, (low, high) in model["intervals"].items():
            assert low <= metrics[name] <= high, name
    mean = ended.kept["gain"]["log_loss"]["mean"]
    losses = [ended.run.details[f"{side}_metrics"]["log_loss"] for side in review_sides()]
    assert mean == pytest.approx(losses[0] - losses[1])
    assert ended.kept["errors"]["total"] == ended.run.dataset_size
    assert sum(part["rows"] for part in ended.kept["errors"]["by_class"]) == ended.run.dataset_size
    by_confidence = ended.kept["errors"]["by_confidence"]
    assert sum(part["rows"] for part in by_confidence) == ended.run.dataset_size
    assert len(json.dumps(ended.kept)) < 20_000


def review_sides() -> tuple[str, str]:
    return "champion", "challenger"


def test_the_twenty_most_confident_errors_stand_there_with_their_features(ended: EndedRun) -> None:
    with Path(ended.result["dataset_path"]).open(encoding="utf-8", newline="") as file:
        logged = sorted((float(row["confidence"]) for row in csv.DictReader(file)), reverse=True)
    shown = ended.kept["errors"]["most_confident"]
    assert [error["confidence"] for error in shown] == logged[:20]
    assert all(len(error["features"]) == 5 for error in shown)
    assert all(error["said"] != error["was"] for error in shown)


def test_the_vote_of_every_night_is_kept_and_the_next_run_goes_on_from_it(ended: EndedRun) -> None:
    nights = ended.kept["nights"]
    assert [night["rows"] for night in nights] == [40] * 4
    # The approved model answered, not its updates.
    assert [night["answered"] for night in nights] == [0] * 4
    page = Path(ended.result["report_path"]).read_text(encoding="utf-8")
    assert "Of 0 of them the log has what the updated model answered; of the other 160" in page
    assert all(sum(night["vote"]) == pytest.approx(1, abs=1e-4) for night in nights)
    assert len(ended.kept["experts"]) == len(nights[-1]["vote"]) == 13
    # The truth has turned: who remembers least wins.
    assert nights[-1]["vote"][0] < nights[0]["vote"][0]


def test_report_and_models_show_say_in_words_which_memory_is_winning(ended: EndedRun) -> None:
    shown = run_view(ended.run, ())["memories"]
    assert re.match(r"(The base, as it was trained,|Of its memories, the one of about) ", shown)
    assert " By what its memories see: lines " in shown
    assert shown in ended.page
    assert plain_markdown(shown) in report.as_markdown(ended.run)

    folder, model_id = ended.folder / "store", ended.run.challenger_id
    assert model_id is not None
    done = ml_pipeline("models", "show", model_id, "--local", folder, cwd=ended.folder)
    assert done.code == 0, done.stderr
    found = done.json["memories"]
    assert found["sentence"] == shown
    parts = [found["base"], *found["by_half_life_days"].values()]
    assert sum(parts) == pytest.approx(1)
    assert list(found["by_half_life_days"]) == ["5", "15", "60", "200"]
    assert sum(found["by_family"].values()) == pytest.approx(1 - found["base"])
    base = ml_pipeline("models", "show", league.FIRST_MODEL, "--local", folder, cwd=ended.folder)
    assert base.json["memories"] is None  # an earlier version registered it


def counted(run: RetrainingRun) -> dict[str, int]:
    """Results by day, as the run counted them by class."""
    days = run.details["class_days"]["days"]
    return {day: sum(results for _, results, *_ in rows) for day, rows in days.items()}


def test_what_was_answered_of_each_class_is_kept_by_day_shown_and_printed_nowhere_else(
    ended: EndedRun,
) -> None:
    assert list(counted(ended.run).values()) == [40] * 4
    kept = ended.run.details["class_days"]
    right = sum(row[4] for rows in kept["days"].values() for row in rows)
    wrong = sum(ended.run.details["load_report"][name] for name in ("labelled", "unusable")) - right
    assert 0 < ended.run.dataset_size < wrong  # confident errors are some of the errors
    assert kept["labels"] == list(league.CLASSES)
    assert "Class by class" in ended.page
    assert "| class, since 2026-" in report.as_markdown(ended.run)
    assert "class_days" not in ended.result
    assert "class_days" not in run_json(ended.run)["details"]


def test_a_run_goes_on_from_the_last_one_that_counted(
    tmp_path: Path, first_model: FirstModel
) -> None:
    nights = league.nights_before(crashing.NOW, 3)
    store = league.open_league(tmp_path / "store", first_model.path, first_model.model, nights)
    first = recording.run(store, crashing.order(tmp_path / "work")).result
    died = replace(
        make_finished_run(2, started_at=crashing.NOW + timedelta(hours=1)), model_name="default"
    )
    store.start_run(make_run(2, model_name="default", started_at=died.started_at))
    store.finish_run(died)
    store.append_events(
        league.events_of(first_model.model, league.Night(day=crashing.NOW.date(), hour=1))
    )
    later = crashing.NOW + timedelta(days=1)
    order = replace(crashing.order(tmp_path / "work", name="again"), clock=lambda: later)
    second = recording.run(store, order).result

    days = [counted(store.get_run(result["run_id"])) for result in (first, second)]
    assert list(days[0].values()) == [40] * 3
    assert days[1] == days[0] | {str(crashing.NOW.date()): 40}


def test_the_inputs_are_compared_with_what_the_base_was_trained_on(ended: EndedRun) -> None:
    inputs = ended.run.details["drift"]["inputs"]
    assert {it["column"] for it in inputs} == set(DEFAULT_FEATURES)
    assert {(it["rows"], it["reference_rows"]) for it in inputs} == {(160, 600)}
    assert "No input has shifted from what the model was trained on (on 160 results" in ended.page


def test_a_skip_has_its_report_and_says_which_settings_changed(
    ended: EndedRun, tmp_path: Path
) -> None:
    changed = league.settings_for(run__lookback_days=3.0)
    order = crashing.order(tmp_path / "work", name="skip", settings=changed)
    result = recording.run(ended.store, order).result
    page = Path(result["report_path"]).read_text(encoding="utf-8")
    assert result["outcome"] == "skipped_no_new_data"
    assert result["outcome_reason"] in page
    details = ended.store.get_run(result["run_id"]).details
    assert details["review"]["config_changes"] == {"run.lookback_days": [7.0, 3.0]}
    # It read nothing to compare: what the run before found stands there, with its day.
    assert details["drift"] == ended.run.details["drift"]
    assert "that were read on 2026-03-14" in page


def test_what_was_compared_with_another_base_is_not_shown_of_the_new_one(
    tmp_path: Path, first_model: FirstModel
) -> None:
    nights = league.nights_before(crashing.NOW, 2)
    store = league.open_league(
        tmp_path / "store", first_model.path, first_model.model, nights,
        reference=league.first_reference(),
    )  # fmt: skip
    first = recording.run(store, crashing.order(tmp_path / "work")).result
    assert store.get_run(first["run_id"]).details["drift"]["inputs"]
    base = store.get_model("default", league.FIRST_MODEL)
    lineage = replace(base.lineage, reference=None)
    brought = replace(base, model_id="brought", anchor_id="brought", lineage=lineage)
    store.register(replace(brought, state=ModelState.CANDIDATE))
    champion = store.champion(model_name="default")
    assert champion is not None
    store.promote(replace(make_promotion("brought", champion.model_id), model_name="default"))
    second = recording.run(store, crashing.order(tmp_path / "work", name="again")).result
    assert "drift" not in store.get_run(second["run_id"]).details


def test_a_run_whose_report_cannot_be_stored_did_its_job_and_says_so(
    tmp_path: Path, first_model: FirstModel
) -> None:
    nights = league.nights_before(crashing.NOW, 2)
    store = league.open_league(tmp_path / "store", first_model.path, first_model.model, nights)
    in_the_way = tmp_path / "store" / "artifacts" / "model-artifacts" / "reports"
    in_the_way.parent.mkdir(parents=True, exist_ok=True)
    in_the_way.write_text("no folder")

    result = recording.run(store, crashing.order(tmp_path / "work")).result

    assert (result["status"], result["outcome"]) == ("completed", "promoted")
    assert result["report_path"] is None
    row = store.get_run(result["run_id"])
    assert "reports" in row.details["report_error"] == result["report_error"]
    log = Path((row.log_url or "").removeprefix("file://")).read_text(encoding="utf-8")
    assert "The run's report could not be made" in log
    assert "could not be made in full" in report.as_html(row)


def test_rejected_rows_are_shown_with_their_reason(tmp_path: Path) -> None:
    path = tmp_path / "rejected.csv"
    path.write_text('row,reason,text\n7,a bad time,"x,""<b>"",y"\n', encoding="utf-8")
    rows = review._rejected(str(path))
    assert rows == [{"row": "7", "reason": "a bad time", "text": 'x,"<b>",y'}]
    run = make_finished_run(details={"review": {"rejected": rows}, "load_report": {"rows": 9}})
    page = report.as_html(run)
    assert "a bad time" in page
    assert "&lt;b&gt;" in page


@pytest.mark.parametrize("field", ["outcome_reason", "champion_id", "model_name", "git_sha"])
def test_whatever_stands_in_a_run_is_shown_and_never_markup(field: str) -> None:
    changes: dict[str, Any] = {field: HOSTILE, "details": {"decision": None}}
    run = make_finished_run(**changes)
    assert HOSTILE not in report.as_html(run)
    assert "&lt;script&gt;" in report.as_html(run)
    assert "<script" not in report.as_markdown(run)


def test_a_run_of_an_earlier_version_is_shown_as_far_as_it_is_known() -> None:
    run = make_finished_run(details={})
    assert not run_view(run, ())["has_review"]
    assert "kept no further details" in report.as_html(run)
    assert "better by 0.03 nats" in report.as_markdown(run)


def test_the_command_writes_both_files_of_the_latest_run_or_of_the_one_named(
    ended: EndedRun, tmp_path: Path
) -> None:
    folder = ended.folder / "store"
    done = ml_pipeline("report", ended.run.run_id, "--local", folder, cwd=tmp_path)
    assert done.code == 0, done.stderr
    page = (tmp_path / done.json["html"]).read_text(encoding="utf-8")
    assert page == ended.page
    text = (tmp_path / done.json["markdown"]).read_text(encoding="utf-8")
    assert text.startswith("## Outcome: promoted\n")
    assert "| accuracy |" in text
    missing = ml_pipeline("report", "--local", tmp_path / "empty", cwd=tmp_path)
    assert missing.code == 1
    assert "There is no run of default yet" in missing.stderr


def test_an_older_online_model_without_votes_goes_on(ended: EndedRun) -> None:
    store = LocalStore.open(ended.folder / "store")
    champion = store.champion(model_name="default")
    assert champion is not None
    from ml_pipeline.registry.models import load_model_version
    from ml_pipeline.training.online_model import OnlineState

    line = dict(load_model_version(store, champion).line_)
    line.pop("votes")
    state = OnlineState.from_dict(line)
    assert state.votes.shape == (len(state.ledger), 13)
