"""The lines of docs/your-model.md that save a model make a file that is taken."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ml_pipeline.config.data import DEFAULT_FEATURES
from ml_pipeline.datasets.dataset import Dataset, read_dataset
from ml_pipeline.training.brought.bases import base_of, read_model_file
from tests.support import league
from tests.support.shell import ROOT

PAGE = (ROOT / "docs" / "your-model.md").read_text(encoding="utf-8")
PLAYED = league.play(3, 200)
CODES = np.array([league.CLASSES.index(label) for label in PLAYED.labels])


def fitted(kind: str) -> Any:  # noqa: ANN401 - a classifier
    if kind == "xgboost":
        import xgboost

        return xgboost.XGBClassifier(n_estimators=5, n_jobs=1).fit(PLAYED.features, CODES)
    if kind == "lightgbm":
        import lightgbm

        model = lightgbm.LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1)
        return model.fit(PLAYED.features, PLAYED.labels)
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    if kind == "skops":
        return LogisticRegression().fit(PLAYED.features, PLAYED.labels)
    return KNeighborsClassifier(15).fit(PLAYED.features, PLAYED.labels)


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    frame = pd.DataFrame(PLAYED.features, columns=DEFAULT_FEATURES).assign(result=PLAYED.labels)
    frame.to_csv(tmp_path / "rows.csv", index=False)
    return read_dataset(str(tmp_path / "rows.csv"), league.settings_for().data)


@pytest.mark.parametrize("kind", ["skops", "xgboost", "lightgbm", "sklearn"])
def test_two_lines_save_a_model_that_is_taken_and_answers_the_same(
    kind: str, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = re.search(rf"<!-- {kind} -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None
    code = [line for line in block.group(1).splitlines() if line and " import " not in line]
    assert len([line for line in code if not line.startswith("import ")]) <= 2
    monkeypatch.chdir(tmp_path)
    model = fitted(kind)
    exec(block.group(1), {"model": model, "rows": PLAYED.features})  # noqa: S102 - what a person would do
    (path,) = tmp_path.glob("own.*")
    settings = league.settings_for()
    base = base_of(read_model_file(path, settings, data), f"The model {path}", data, settings)
    known = [str(settings.data.label_map()[str(label)]) for label in model.classes_]
    order = [known.index(label) for label in base.classes]
    apart = (
        base.classifier.predict_proba(PLAYED.features)
        - model.predict_proba(PLAYED.features)[:, order]
    )
    assert np.abs(apart).max() < 1e-5


def test_the_estimators_that_the_page_names_are_those_that_are_taken() -> None:
    from ml_pipeline.registry.archive_schema import ALLOWED_TYPES

    taken = {kind.rpartition(".")[2] for kind in ALLOWED_TYPES["ObjectNode"]}
    sentence = re.search(r"The estimators that are taken .*?: (.*?)\. ", PAGE)
    assert sentence is not None
    named = set(re.findall(r"[A-Z]\w+", sentence.group(1)))
    assert named <= taken
    assert {name for name in taken if name.endswith("Classifier")} - named == {
        "AdaptiveClassifier", "IncumbentClassifier", "OnnxClassifier",
    }  # fmt: skip
