"""Boosted trees of XGBoost and LightGBM as their users export them: fit, two lines, a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.support import league

KINDS = ("xgboost", "lightgbm")
FITTED_ON = league.play(5, 400, turned=True)


def exported(kind: str, path: Path) -> Any:  # noqa: ANN401 - a classifier of theirs
    """Fit one on the league after its turn, write its ONNX file, return the classifier."""
    from onnxmltools import convert_lightgbm, convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    features, labels = FITTED_ON.features, FITTED_ON.labels
    model: Any
    if kind == "xgboost":
        from xgboost import XGBClassifier

        codes = np.array([league.CLASSES.index(label) for label in labels])
        model = XGBClassifier(n_estimators=20, max_depth=2, n_jobs=1).fit(features, codes)
        convert = convert_xgboost
    else:
        from lightgbm import LGBMClassifier

        model = LGBMClassifier(n_estimators=20, num_leaves=4, n_jobs=1, verbose=-1)
        model.fit(features, labels)
        convert = convert_lightgbm
    inputs = [("features", FloatTensorType([None, features.shape[1]]))]
    path.write_bytes(convert(model, initial_types=inputs).SerializeToString())
    return model


def probabilities(model: Any, rows: Any) -> Any:  # noqa: ANN401 - theirs, and arrays
    """What the classifier itself says, in the order of the league's classes."""
    shares = model.predict_proba(rows)
    order = [str(label) for label in model.classes_]
    labels = [league.CLASSES[int(name)] if name.isdecimal() else name for name in order]
    return shares[:, [labels.index(name) for name in league.CLASSES]]
