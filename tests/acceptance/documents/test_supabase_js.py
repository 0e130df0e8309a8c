"""The lines of docs/supabase-js.md do what the page says, with the real client under Node."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from ml_pipeline.store.supabase.store import SupabaseStore
from tests.acceptance.documents.test_readme import block_after
from tests.acceptance.documents.test_workflows import checkout
from tests.conftest import FirstModel
from tests.contract.supabase.callers import USER
from tests.support import league, warm
from tests.support.places import our_schema
from tests.support.scored import Registry
from tests.support.shell import ROOT, environment
from tests.support.supabase.binaries import cache_folder, install_package, locked, node
from tests.support.supabase.project import SupabaseProject

__all__ = ["checkout", "our_schema"]

PAGE = (ROOT / "docs" / "supabase-js.md").read_text(encoding="utf-8")
SAMPLE = ROOT / "ml_pipeline" / "data" / "training_dataset.csv"
# The newest that runs under Node 20.
CLIENT = "@supabase/supabase-js@2.57.4"
FEATURES = dict(
    zip(
        ("home_team_form", "away_team_form", "home_team_strength", "away_team_strength",
         "home_advantage"),
        (0.4, -1.2, 0.7, 0.1, 1.0),
        strict=True,
    )
)  # fmt: skip
GRANT = """
    grant execute on function predict(text, jsonb, text, boolean),
        record_outcome(text, text, uuid, text, boolean, timestamptz) to authenticated
"""
CALL = """
const { createClient } = require(process.argv[2]);
const [url, key, token] = JSON.parse(process.env.CLIENT);
const options = { auth: { persistSession: false, autoRefreshToken: false } };
if (token) options.global = { headers: { Authorization: `Bearer ${token}` } };
// It wants a WebSocket for its live channels, which Node has from 22 on; none is opened here.
options.realtime = { transport: class {} };
const supabase = createClient(url, key, options);
(async () => {
  const [name, ...given] = JSON.parse(require("fs").readFileSync(0, "utf8"));
  const found = {};
  for (const one of ["predict", "outcome", "label"])
    Object.assign(found, await import(`./${one}.mjs`));
  // What an app asks and tells of each match, one after the other.
  found.season = async (supabase, matches) => {
    const models = new Set();
    for (const { id, features, happened } of matches) {
      const answer = await found.predict(supabase, id, features);
      const told = await found.outcome(supabase, answer.event_id, happened);
      if (told.recorded !== 1) throw new Error(`${id}: ${JSON.stringify(told)}`);
      models.add(answer.model_id);
    }
    return [...models];
  };
  try { console.log(JSON.stringify(await found[name](supabase, ...given))); }
  catch (error) { console.log(JSON.stringify({ error: error.message })); }
  process.exit(0);
})();
"""


def snippet(name: str) -> str:
    """The lines of the page that follow that comment; there are few."""
    found = re.search(rf"<!-- {name} -->\n```js\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    assert len(found[1].splitlines()) <= 15
    return found[1]


def client() -> Path:
    """The real client, from the npm registry."""
    place = cache_folder() / "supabase-js-2.57.4"
    with locked(place.with_name(f"{place.name}.lock")):
        if not place.exists():
            with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
                draft = Path(scratch, "draft")
                draft.mkdir()
                install_package(CLIENT, Path(scratch)).rename(draft / "node_modules")
                draft.rename(place)
    return place / "node_modules" / "@supabase" / "supabase-js"


def test_every_line_of_the_page_is_a_function_of_few_lines_that_asks_for_one_of_ours() -> None:
    asked = [re.findall(r'rpc\("(\w+)"', snippet(name)) for name in ("predict", "outcome", "label")]
    assert asked == [["predict"], ["record_outcome"], ["add_label"]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The lines as files."""
    for name in ("predict", "outcome", "label"):
        (tmp_path / f"{name}.mjs").write_text(snippet(name), encoding="utf-8")
    (tmp_path / "call.cjs").write_text(CALL, encoding="utf-8")
    return tmp_path


@pytest.fixture
def served(project: SupabaseProject, first_model: FirstModel) -> Iterator[SupabaseProject]:
    store = SupabaseStore.open(project.url, SecretStr(project.service_key))
    registry = Registry(store=store, settings=league.settings_for())
    registry.promote(registry.register("first", first_model.model), 1)
    yield project
    store.close()


def call(
    folder: Path,
    who: list[str],
    name: str,
    *given: object,
    timeout_s: float = 60,
) -> Any:  # noqa: ANN401 - JSON
    done = subprocess.run(
        [*node(), "call.cjs", str(client())], input=json.dumps([name, *given]),
        cwd=folder, env={**environment(), "CLIENT": json.dumps(who)},
        capture_output=True, text=True, timeout=timeout_s, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.long  # the client is fetched from the registry, and starts Node seven times
@pytest.mark.usefixtures("our_schema")
def test_a_server_and_a_signed_in_user_go_from_a_prediction_to_what_is_learned(
    served: SupabaseProject, folder: Path
) -> None:
    server = [served.url, served.service_key]
    user = [served.url, served.anon_key, served.user_token(USER)]
    answer = call(folder, server, "predict", "m1", FEATURES)
    assert answer["model_id"] == "first"
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    assert call(folder, server, "outcome", answer["event_id"], "H")["recorded"] == 1
    again = call(folder, server, "outcome", answer["event_id"], "A")
    assert again["error"].startswith("Another outcome stands; A was not recorded.")
    assert call(folder, server, "label", "m1", "H", FEATURES)["status"] == "added"

    refused = call(folder, user, "predict", "m2", FEATURES)
    assert refused["error"].startswith("permission denied for function predict")
    served.sql(GRANT)
    try:
        mine = call(folder, user, "predict", "m2", FEATURES)
        assert mine["probabilities"] == answer["probabilities"]
        assert call(folder, user, "outcome", mine["event_id"], "A")["recorded"] == 1
        theirs = call(folder, user, "outcome", answer["event_id"], "H")
        assert theirs["error"].startswith("There is no prediction")
    finally:
        served.sql(GRANT.replace("grant execute", "revoke all").replace(" to ", " from "))
    rows = served.sql('select match_id, actual_result from evaluation_log order by "timestamp"')
    assert [tuple(row.values()) for row in rows] == [("m1", "H"), ("m2", "A")]


@pytest.mark.long  # a season over HTTP and a night
def test_a_newcomers_app_asks_and_tells_an_empty_project_and_the_night_learns_it(
    database: SupabaseProject, checkout: Path, folder: Path, tmp_path: Path
) -> None:
    path, init, doctor, train, *more = block_after(
        "first night", ROOT / "docs" / "supabase.md"
    ).splitlines()
    assert (path.split()[0], train.split()[1]) == ("export", "train")
    (night,) = (line for line in more if line.startswith("ml-pipeline run"))

    def typed(*lines: str) -> dict[str, Any]:
        """What the last of the manual's lines prints at its end."""
        done = subprocess.run(
            ["/bin/bash", "-euo", "pipefail", "-c", "\n".join(lines)],
            cwd=checkout,
            env=environment(
                PATH=warm.on_path(tmp_path), DATABASE_URL=database.postgres.dsn("postgres"),
                SUPABASE_URL=database.url, SUPABASE_SERVICE_KEY=database.service_key,
            ),
            capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout.splitlines()[-1]))

    first = typed(init, doctor, train)["model_id"]
    server = [database.url, database.service_key]
    with SAMPLE.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[-1000:]
    season = [
        {
            "id": row["match_id"],
            "features": {name: float(row[name]) for name in FEATURES},
            "happened": row["result"],
        }
        for row in rows
    ]
    assert call(folder, server, "season", season, timeout_s=240) == [first]
    run = typed(night)
    assert run["outcome"] == "promoted"
    answer = call(folder, server, "predict", "the next one", season[0]["features"])
    assert answer["model_id"] == run["champion"] != first
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
