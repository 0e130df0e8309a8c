"""Artifacts, scoring files and exports with something changed in them, tried where a crash is safe.

`in_a_process` mutates one small model by each of some seeds, in a process of its own: whatever the
mutation, loading and predicting ends with answers or with an error of ours, and soon.
"""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import cache
from io import BytesIO
from pathlib import Path
from random import Random
from time import process_time
from typing import Any

import numpy as np
import skops.io

from ml_pipeline.datasets.features import Inputs, joined
from ml_pipeline.errors import PipelineError
from ml_pipeline.registry import archive, models, scoring
from ml_pipeline.registry.scoring_writer import scoring_bytes
from ml_pipeline.serving.answering import judge
from ml_pipeline.training.adaptive import AdaptiveClassifier
from tests.support import league
from tests.support.shell import ROOT, environment

KINDS = ("LogisticRegression", "DecisionTree", "RandomForest", "HistGradientBoosting", "text")
SECONDS = 120
SLOWEST_S = 5.0
ROWS = 80


@cache
def small_model(kind: str, *, width: int = 2) -> AdaptiveClassifier:
    """A model of few and small parts that has learned a night."""
    from sklearn import ensemble, linear_model, tree
    from sklearn.pipeline import Pipeline

    from ml_pipeline.training.preprocessing import preprocessing
    from ml_pipeline.training.text_features import text_preprocessing, with_plain_terms

    classifiers: dict[str, Any] = {
        "LogisticRegression": linear_model.LogisticRegression,
        "text": linear_model.LogisticRegression,
        "DecisionTree": lambda: tree.DecisionTreeClassifier(max_depth=3, random_state=1),
        "RandomForest": lambda: ensemble.RandomForestClassifier(3, max_depth=3, random_state=1),
        "HistGradientBoosting": lambda: ensemble.HistGradientBoostingClassifier(
            max_iter=2, max_leaf_nodes=5, early_stopping=False, random_state=1
        ),
    }
    random = np.random.default_rng(1)
    numbers, labels = random.normal(size=(ROWS, width)), league.play(1, ROWS).labels
    rows: Inputs = numbers
    steps = preprocessing()
    if kind == "text":
        words = random.choice(["rain", "cup", "derby", "win"], (ROWS, 3))
        rows = joined(numbers, [" ".join(row) for row in words])
        steps = text_preprocessing(rows)
    base = Pipeline([*steps, ("classify", classifiers[kind]())]).fit(rows, labels)
    if kind == "text":
        base = with_plain_terms(base)
    model = AdaptiveClassifier(base).adopt(base, rows, league.CLASSES)
    model.feature_names_ = [f"f{place}" for place in range(width)]
    model.text_column_ = "note" if kind == "text" else None
    return model.partial_fit(rows, labels)


def schema_of(data: bytes) -> Any:  # noqa: ANN401 - JSON
    """The schema of an artifact."""
    with zipfile.ZipFile(BytesIO(data)) as file:
        return json.loads(file.read("schema.json"))


def with_members(data: bytes, *, schema: object = None, **members: bytes) -> bytes:
    """The artifact with another schema and other members."""
    changed = dict(members)
    if schema is not None:
        changed["schema.json"] = json.dumps(schema).encode()
    packed = BytesIO()
    with (
        zipfile.ZipFile(BytesIO(data)) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, changed.get(name) or source.read(name))
    return packed.getvalue()


# ----------------------------------------------------------------------------- mutations

ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 7, 10**9, 2**31, 2**63, -(10**18), 10**400, 0.5, 1e308, float("nan"),
    float("inf"), "", "x", "numpy", "builtins", "list", "ndarray", "eval", [], {}, [[]], [0, 1],
)  # fmt: skip


def mutated_artifact(data: bytes, random: Random) -> bytes:
    """Some arrays, some values of the schema, or some bytes changed."""
    way = random.random()
    if way < 0.05:
        return _other_bytes(data, random)
    with zipfile.ZipFile(BytesIO(data)) as file:
        arrays = [name for name in file.namelist() if name.endswith(".npy")]
        if way < 0.5:
            chosen = random.sample(arrays, min(len(arrays), random.randint(1, 3)))
            return with_members(data, **{n: _other_array(file.read(n), random) for n in chosen})
    schema = schema_of(data)
    for _ in range(random.randint(1, 3)):
        change_json(schema, random)
    return with_members(data, schema=schema)


def mutated_scoring(content: bytes, random: Random) -> bytes:
    """The header's values or some bytes of the arrays changed."""
    line, _, arrays = content.partition(b"\n")
    if random.random() < 0.4 and arrays:
        return line + b"\n" + _other_bytes(arrays, random)
    header = json.loads(line)
    for _ in range(random.randint(1, 3)):
        change_json(header, random)
    return json.dumps(header).encode() + b"\n" + arrays


def _other_bytes(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random.randint(1, 6)):
        changed[random.randrange(len(changed))] = random.choice((0, 1, 127, 128, 255))
    return bytes(changed)


def _other_array(data: bytes, random: Random) -> bytes:
    array = np.load(BytesIO(data), allow_pickle=False)
    way = random.random()
    if way < 0.1:
        array = array[:0] if array.ndim else array.reshape(1)
    elif way < 0.2:
        array = np.concatenate([np.atleast_1d(array)] * 2)
    elif way < 0.25 and array.dtype.names is None:
        array = array.astype("f4") if array.dtype.kind in "if" else array.reshape(-1, 1)
    elif array.size:
        array = array.copy()
        flat = array.reshape(-1)
        for _ in range(random.randint(1, 3)):
            place = random.randrange(len(flat))
            if array.dtype.names is None:
                flat[place] = _other_value(flat.dtype, random)
            else:
                name = random.choice(array.dtype.names)
                flat[name][place] = _other_value(array.dtype[name], random)
    written = BytesIO()
    np.save(written, array, allow_pickle=False)
    return written.getvalue()


def _other_value(kind: np.dtype[Any], random: Random) -> Any:  # noqa: ANN401 - of that type
    if kind.kind in "iu":
        bounds = np.iinfo(kind)
        chosen = random.choice((-2, -1, 0, 1, 2, 3, 8, 10**6, bounds.min, bounds.max))
        return min(max(chosen, int(bounds.min)), int(bounds.max))
    if kind.kind == "f":
        return random.choice((-1.0, 0.0, 1e308, float("nan"), float("inf"), 1e-320))
    return random.choice((0, 1)) if kind.kind == "b" else "x"


def change_json(root: Any, random: Random) -> None:  # noqa: ANN401 - JSON
    """Put something odd at one of its places, or something of another place."""
    places = list(_places(root))
    node, key = random.choice(places)
    other, again = random.choice(places)
    way = random.random()
    if way < 0.15:
        node[key] = deepcopy(other[again])
    elif way < 0.25 and isinstance(node, dict):
        del node[key]
    elif way < 0.35 and isinstance(node[key], list) and node[key]:
        node[key].append(node[key][0])
    elif way < 0.45 and isinstance(node[key], list) and node[key]:
        node[key].pop()
    elif isinstance(node[key], str) and key == "content":
        node[key] = json.dumps(random.choice(ODD))
    else:
        node[key] = deepcopy(random.choice(ODD))


def _places(node: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401 - JSON
    for key in list(node) if isinstance(node, dict) else range(len(node)):
        yield node, key
        if isinstance(node[key], dict | list):
            yield from _places(node[key])


# ----------------------------------------------------------------------------- what happens


def in_a_process(kinds: Sequence[str], seeds: range, folder: Path) -> None:
    """Try the seeds; fails with the seed that crashed, hung, or raised what is no error of ours."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.mutated", str(seeds.start), str(seeds.stop),
         str(folder), *kinds],
        env=environment(), cwd=ROOT,
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    last = done.stdout.strip().splitlines()[-1:] or ["nothing"]
    assert done.returncode == 0, (done.returncode, last, done.stderr[-3000:])
    assert last == [f"{kinds[-1]} {seeds.stop - 1}"]


def main(start: int, stop: int, folder: Path, kinds: Sequence[str]) -> None:
    """Mutate and try; the last line of stdout is the model and the seed in hand."""
    warnings.simplefilter("ignore")
    for kind in kinds:
        model = small_model(kind)
        data, content = bytes(skops.io.dumps(model)), scoring_bytes(model)
        for seed in range(start, stop):
            print(kind, seed, flush=True)  # noqa: T201 - read by `in_a_process`
            begun = process_time()
            _try_artifact(mutated_artifact(data, Random(seed)), folder)
            _try_scoring(mutated_scoring(content, Random(seed)))
            assert process_time() - begun < SLOWEST_S


def _try_artifact(data: bytes, folder: Path) -> None:
    from ml_pipeline.serving.artifact import ArtifactScorer

    path = folder / "mutated.skops"
    path.write_bytes(data)
    try:
        model = models.load_classifier(path, archive.digest_bytes(data))
        _answer(ArtifactScorer(model))
    except PipelineError:
        return


def _try_scoring(content: bytes) -> None:
    try:
        _answer(scoring.parse(content))
    except PipelineError:
        return


def _answer(scorer: scoring.Scorer) -> None:
    """Answers that JSON can hold, or an error of ours."""
    values = [0.3] * len(scorer.features)
    text = None if scorer.text_column is None else "rain in the cup"
    for _ in range(3):
        answer = judge(scorer, values, text, threshold=0.5, margin=0.1)
        json.dumps(answer, allow_nan=False)
        assert abs(sum(answer["probabilities"].values()) - 1) < 1e-6


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
