"""The lines of docs/http.md do what the page says, under Node against a service."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ml_pipeline.store.embedded.store import LocalStore
from tests.conftest import FirstModel
from tests.support import hosting
from tests.support.hosting import ROW, TOKEN, Hosted
from tests.support.shell import ROOT, environment
from tests.support.supabase.binaries import Missing, cache_folder, install_package, locked, node

PAGE = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
SUCRASE = "sucrase@3.35.1"
NAMES = (
    "home_team_form", "away_team_form", "home_team_strength", "away_team_strength",
    "home_advantage",
)  # fmt: skip
# A form that somebody fills in: React's part is played by what keeps the state and the elements.
FORM = """
const { transform } = require(process.argv[2]);
const source = require("fs").readFileSync(process.argv[3], "utf8");
const code = transform(source, { transforms: ["jsx", "imports"], production: true }).code;
let state = null;
const react = { useState: () => [state, (value) => { state = value; }] };
globalThis.React = { createElement: (type, props, ...inner) => ({ type, props, inner }) };
globalThis.FormData = Map;
const asked = globalThis.fetch;
globalThis.fetch = async (path, options) => {
  if (!path.startsWith("/api/")) return asked(path, options);
  const { predict } = await import(process.argv[4]);
  return Response.json(await predict(JSON.parse(options.body)));
};
const found = { exports: {} };
new Function("require", "exports", "module", code)(() => react, found.exports, found);
const shown = () => JSON.stringify(found.exports.Prediction());
const before = shown();
const entries = Object.entries(JSON.parse(process.argv[5]));
const form = found.exports.Prediction();
form.props.onSubmit({ preventDefault: () => {}, target: entries }).then(() => {
  console.log(JSON.stringify({ before, after: shown(), answer: state }));
});
"""
CALL = """
import(process.argv[2]).then(async (found) => {
  const [name, ...given] = JSON.parse(process.argv[3]);
  try { console.log(JSON.stringify(await found[name](...given))); }
  catch (error) { console.log(JSON.stringify({ error: error.message })); }
});
"""


def snippet(name: str) -> str:
    """The lines of the page that follow that comment; there are few."""
    found = re.search(rf"<!-- {name} -->\n```jsx?\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    assert len(found[1].splitlines()) <= 15
    return found[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lines as files."""
    try:
        node()
    except Missing as reason:
        if os.environ.get("CI", "").lower() in {"1", "true"}:
            raise
        pytest.skip(str(reason))
    found = tmp_path_factory.mktemp("javascript")
    for name in ("predict", "outcome", "label"):
        (found / f"{name}.mjs").write_text(snippet(name), encoding="utf-8")
    (found / "form.jsx").write_text(snippet("form"), encoding="utf-8")
    (found / "run_form.cjs").write_text(FORM, encoding="utf-8")
    (found / "call.cjs").write_text(CALL, encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def hosted(folder: Path, first_model: FirstModel) -> Iterator[Hosted]:
    hosting.promote(LocalStore.open(folder / "store"), first_model.model, folder, "first")
    with hosting.hosting(local_dir=folder / "store") as served:
        yield served


def run(folder: Path, hosted: Hosted, *arguments: str) -> Any:  # noqa: ANN401 - JSON
    variables = {"ML_URL": f"http://127.0.0.1:{hosted.port}", "ML_TOKEN": TOKEN}
    done = subprocess.run(
        [*node(), *arguments], cwd=folder, env={**environment(), **variables},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def call(folder: Path, hosted: Hosted, name: str, *given: Any) -> Any:  # noqa: ANN401 - JSON
    return run(folder, hosted, "call.cjs", f"./{name}.mjs", json.dumps([name, *given]))


def compiler() -> Path:
    """What reads JSX, from the npm registry."""
    place = cache_folder() / SUCRASE.replace("@", "-")
    with locked(place.with_name(f"{place.name}.lock")):
        if not place.exists():
            with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
                draft = Path(scratch, "draft")
                draft.mkdir()
                install_package(SUCRASE, Path(scratch)).rename(draft / "node_modules")
                draft.rename(place)
    return place / "node_modules" / "sucrase"


def test_from_the_form_to_an_answer_that_is_shown(folder: Path, hosted: Hosted) -> None:
    filled = {"id": "m1", **{name: str(value) for name, value in zip(NAMES, ROW, strict=True)}}
    found = run(
        folder, hosted, "run_form.cjs", str(compiler()), "form.jsx", "./predict.mjs",
        json.dumps(filled),
    )  # fmt: skip
    answer = found["answer"]
    assert (answer["match_id"], answer["model_id"]) == ("m1", "first")
    assert answer["prediction"] not in found["before"]
    assert answer["prediction"] in found["after"]


def test_an_outcome_and_a_label_come_by_the_id_of_the_form(folder: Path, hosted: Hosted) -> None:
    features = dict(zip(NAMES, ROW, strict=True))
    answer = call(folder, hosted, "predict", {"id": "m2", **features})
    assert call(folder, hosted, "outcome", "m2", "H")["recorded"] == 1
    assert call(folder, hosted, "label", "m2", "H")["added"] == 1
    store = LocalStore.open(folder / "store")
    found = store.find_events(model_name="default", event_ids=[answer["event_id"]], match_ids=[])
    assert list(found["actual_result"]) == ["H"]


def test_what_is_wrong_is_said_with_the_way_out(folder: Path, hosted: Hosted) -> None:
    wrong = call(folder, hosted, "predict", {"id": "m3", "form": "7"})
    assert "The model has no feature form. It takes home_team_form" in wrong["error"]
    assert "nothing predicted" in call(folder, hosted, "outcome", "nobody", "H")["error"]
