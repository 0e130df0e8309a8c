"""Labels and columns are read in the spellings of the settings, and of nothing else."""

from __future__ import annotations

from pathlib import Path

from ml_pipeline.config.data import DEFAULT_COLUMNS, DataSettings, LogSettings
from tests.support.settings_files import load


def test_labels_that_yaml_reads_as_numbers_are_text(tmp_path: Path) -> None:
    settings = load(tmp_path, "data: {labels: {0: H, 1: D, 2: A, 1.5: A}}")
    accepted = {"0": "H", "1": "D", "2": "A", "1.5": "A", "H": "H", "D": "D", "A": "A"}
    assert settings.data.label_map() == accepted


def test_classes_that_yaml_reads_as_numbers_are_text(tmp_path: Path) -> None:
    data = load(tmp_path, "data: {classes: [0, 1], labels: {lost: 0, won: 1}}").data
    assert data.classes == ["0", "1"]
    assert data.label_map() == {"lost": "0", "won": "1", "0": "0", "1": "1"}


def test_football_knows_the_spellings_of_the_documents() -> None:
    accepted = DataSettings().label_map()
    for name, spellings in {
        "H": ["H", "0", "home", "home_win"],
        "D": ["D", "1", "draw"],
        "A": ["A", "2", "V", "away", "away_win"],
    }.items():
        assert {accepted[spelling] for spelling in spellings} == {name}


def test_other_classes_know_nothing_of_football() -> None:
    assert DataSettings(classes=["yes", "H"]).label_map() == {"yes": "yes", "H": "H"}
    assert DataSettings(classes=None).label_map() == {}


def test_a_configured_spelling_of_a_column_comes_before_the_known_ones() -> None:
    log = LogSettings(columns={"match_id": ["game"], "prediction": ["predicted_outcome"]})
    assert log.spellings("match_id") == ["game", "match_id"]
    assert log.spellings("prediction") == ["predicted_outcome", "prediction", "predicted_result"]
    assert log.spellings("timestamp") == DEFAULT_COLUMNS["timestamp"]
