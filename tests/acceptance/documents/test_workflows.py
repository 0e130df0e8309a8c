"""The workflow files: clean under their linters, and their steps run against the real servers."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from ml_pipeline.commands import init_repository
from ml_pipeline.commands.init_repository import PLACES
from ml_pipeline.config.data import DEFAULT_FEATURES
from ml_pipeline.config.defaults import DISTRIBUTION
from ml_pipeline.errors import ConfigError
from ml_pipeline.reports.summary import METRICS, as_markdown, figures_of
from ml_pipeline.store.records import RequestStatus
from ml_pipeline.store.supabase.store import SupabaseStore
from tests.conftest import FirstModel
from tests.support import league, shell, warm
from tests.support.shell import ROOT, Finished, environment
from tests.support.supabase.project import SupabaseProject

# GitHub's own actions, and the Python Packaging Authority's for what is published.
PINNED = re.compile(r"(actions/[a-z-]+|pypa/gh-action-pypi-publish)@[0-9a-f]{40}")
GIT = shutil.which("git") or "/usr/bin/git"
BIN = Path(sys.executable).parent


def workflow(name: str, root: Path = ROOT) -> dict[str, Any]:
    folder = root / ".github" / "workflows"
    loaded: dict[Any, Any] = yaml.safe_load((folder / f"{name}.yml").read_text())
    # YAML 1.1 reads the key `on` as true.
    return {"on" if key is True else key: value for key, value in loaded.items()}


@pytest.mark.parametrize(
    "command",
    [
        ["actionlint", "-no-color"],
        ["zizmor", "--offline", "--no-progress", ".github", "action.yml"],
        ["check-jsonschema", "--builtin-schema", "vendor.github-actions", "action.yml"],
    ],
)
def test_the_linters_have_nothing_to_say(command: list[str]) -> None:
    done = subprocess.run(
        [BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["retrain", "train", "ci", "release"])
def test_defect_25_a_workflow_has_concurrency_permissions_and_a_time_limit(name: str) -> None:
    loaded = workflow(name)
    assert loaded["permissions"] == {}
    assert loaded["concurrency"]["group"]
    assert loaded["concurrency"]["cancel-in-progress"] is (name == "ci")
    for job in loaded["jobs"].values():
        if job.get("uses") == "$/.github/workflows/ci.yml":
            continue  # its own jobs are held to this
        assert 0 < job["timeout-minutes"] <= 120
        uses = [step["uses"] for step in job["steps"] if "uses" in step]
        assert all(PINNED.fullmatch(each) for each in uses)
    crons = [each["cron"] for each in (loaded["on"].get("schedule") or [])]
    assert not [cron for cron in crons if "*/" in cron]


def test_the_one_check_to_require_waits_for_every_job() -> None:
    jobs = workflow("ci")["jobs"]
    last = jobs.pop("all")
    assert last["needs"] == [*jobs]
    assert f'"{" ".join(["success"] * len(jobs))}"' in last["steps"][0]["run"]


def test_o8_a_macos_runs_the_demo_and_the_tests_that_do_not_need_linux() -> None:
    job = workflow("ci")["jobs"]["macos"]
    assert job["runs-on"].startswith("macos-")
    ran = [step["run"] for step in job["steps"] if "run" in step]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"```bash\n{ran[0]}\n```" in readme
    assert '-m "not linux and not long" tests/unit' in ran[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Runner:
    """Runs a job's shell steps in order in a clean checkout, as the service would.

    `package` is where this package is installed, when the checkout holds no copy.
    """

    checkout: Path
    values: Mapping[str, str]
    package: Path | None = None

    def run(self, job: Mapping[str, Any], *, event: str) -> list[tuple[str, int, str]]:
        """(name, exit code, what was said) of each step that ran."""
        reported: list[tuple[str, int, str]] = []
        failed = False
        for step in job["steps"]:
            # Installing is what the README's commands and this very test run have done.
            if "run" not in step or step["name"] == "Install":
                continue
            condition = str(step.get("if", "success()"))
            wanted = {
                "success()": not failed,
                "always()": True,
                "github.event_name == 'workflow_dispatch'": not failed
                and event == "workflow_dispatch",
            }[condition]
            if wanted:
                done = self._step(step)
                failed = failed or done.returncode != 0
                reported.append((step["name"], done.returncode, done.stdout + done.stderr))
        return reported

    def _step(self, step: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
        given = {name: self._evaluated(str(text)) for name, text in step.get("env", {}).items()}
        given = {"PYTHONPATH": str(self.package or self.checkout)} | given
        return subprocess.run(
            ["/bin/bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=self.checkout,
            env=environment(
                PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}",
                GITHUB_STEP_SUMMARY=str(self.checkout / "summary.md"),
                GITHUB_OUTPUT=str(self.checkout / "outputs.txt"),
                **given,
            ),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def _evaluated(self, text: str) -> str:
        return re.sub(r"\$\{\{ (.*?) \}\}", lambda found: self.values[found[1]], text)


@pytest.fixture
def project(database: SupabaseProject) -> SupabaseProject:
    """A Supabase project with our schema and buckets."""
    folder = files("ml_pipeline") / "sql" / "supabase"
    scripts = sorted(folder.iterdir(), key=lambda script: script.name)
    database.apply("\n".join(script.read_text(encoding="utf-8") for script in scripts))
    return database


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What git tracks, and nothing else."""
    listed = subprocess.run(
        [GIT, "ls-files", "-z", "ml_pipeline", "model_config.yaml"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.split("\0")[:-1]:
        target = tmp_path / "checkout" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    return tmp_path / "checkout"


def values_of(project: SupabaseProject, **inputs: str) -> dict[str, str]:
    secrets = {
        "secrets.SUPABASE_URL": project.url,
        "secrets.SUPABASE_SERVICE_KEY": project.service_key,
    }
    names = ("reason", "lookback_days", "strategy")
    given = {f"inputs.{name}": inputs.get(name, "") for name in names}
    return secrets | given | {"inputs.every_days || '30'": inputs.get("every_days") or "30"}


def test_the_steps_of_a_night_end_in_a_promotion_that_the_summary_tells(
    project: SupabaseProject, checkout: Path, first_model: FirstModel
) -> None:
    store = SupabaseStore.open(project.url, SecretStr(project.service_key))
    now = datetime.now(UTC)
    league.enthrone(store, first_model.path, league.settings_for(), now=now - timedelta(days=30))
    for night in league.nights_before(now, 5):
        store.append_events(league.events_of(first_model.model, night))
    runner = Runner(
        checkout=checkout, values=values_of(project, reason="it $(touch x) `looked` odd")
    )
    jobs = workflow("retrain")["jobs"]
    reported = [
        step
        for job in ("request", "retrain")
        for step in runner.run(jobs[job], event="workflow_dispatch")
    ]

    assert [code for _, code, _ in reported] == [0] * 4, reported
    result = json.loads((checkout / "ml_pipeline_work" / "result.json").read_text())
    assert (result["outcome"], result["source"]) == ("promoted", "manual")
    (request,) = store.list_requests(model_name="default", status=RequestStatus.COMPLETED)
    assert request.reason == "it $(touch x) `looked` odd"
    assert [request.request_id] == result["request_ids"]
    assert not (checkout / "x").exists()
    summary = (checkout / "summary.md").read_text()
    assert summary.startswith("## Outcome: promoted")
    assert "| log_loss |" in summary
    printed = summary + "".join(answered for _, _, answered in reported)
    assert project.service_key not in printed
    store.close()
    # What anybody may see of the repository quotes no row: of none of its ids, and no features.
    files = dict(kept(checkout, jobs["retrain"]))
    assert sorted(Path(name).name for name in files) == ["figures.json", "run.log"]
    figures = json.loads(files["ml_pipeline_work/figures.json"])
    assert figures["metrics"] == {name: result["metrics"][name] for name in METRICS}
    assert figures["outcome_reason"] == result["outcome_reason"]
    shown = printed + "".join(files.values())
    for event in league.events_of(first_model.model, league.nights_before(now, 1)[0]).itertuples():
        assert str(event.event_id) not in shown
        assert str(event.match_id) not in shown
    everything = dict(kept(checkout, jobs["retrain"], keep_rows=True))
    assert {Path(name).name for name in everything} >= {"result.json", "report.md"}


def action() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    return loaded


def values_of_action(project: SupabaseProject, **inputs: str) -> dict[str, str]:
    given = {name: it.get("default", "") for name, it in action()["inputs"].items()}
    given |= {"supabase-url": project.url, "supabase-service-key": project.service_key} | inputs
    return {f"inputs.{name}": text for name, text in given.items()} | {
        "github.action_path": str(ROOT)
    }


@pytest.mark.long
def test_a_nightly_job_is_the_action_and_six_lines(
    project: SupabaseProject, tmp_path: Path, first_model: FirstModel
) -> None:
    store = SupabaseStore.open(project.url, SecretStr(project.service_key))
    now = datetime.now(UTC)
    league.enthrone(store, first_model.path, league.settings_for(), now=now - timedelta(days=30))
    for night in league.nights_before(now, 3):
        store.append_events(league.events_of(first_model.model, night))
    # A repository that holds its settings, and a folder of the package's name, which is not ours.
    (tmp_path / "model_config.yaml").write_text("run:\n  lookback_days: 9\n")
    (tmp_path / "ml_pipeline").mkdir()
    (tmp_path / "ml_pipeline" / "__init__.py").write_text("raise RuntimeError\n")
    values = values_of_action(project, strategy="adaptive")
    reported = Runner(checkout=tmp_path, values=values, package=ROOT).run(
        action()["runs"], event="schedule"
    )
    assert [code for _, code, _ in reported] == [0, 0, 0], reported
    result = json.loads((tmp_path / "ml_pipeline_work" / "result.json").read_text())
    assert (tmp_path / "outputs.txt").read_text().split() == [
        "outcome=promoted", f"run-id={result['run_id']}",
    ]  # fmt: skip
    summary = (tmp_path / "summary.md").read_text()
    assert summary.startswith("## Outcome: promoted")
    assert project.service_key not in summary + "".join(said for _, _, said in reported)
    store.close()
    files_of = dict(kept(tmp_path, action()["runs"]))
    assert sorted(Path(name).name for name in files_of) == ["figures.json", "run.log"]


@pytest.mark.long
def test_a_nightly_job_that_cannot_run_fails_and_says_so(tmp_path: Path) -> None:
    values = {f"inputs.{name}": it.get("default", "") for name, it in action()["inputs"].items()}
    values |= {"inputs.supabase-url": "", "inputs.supabase-service-key": "x" * 9}
    runner = Runner(
        checkout=tmp_path, values=values | {"github.action_path": str(ROOT)}, package=ROOT
    )
    reported = runner.run(action()["runs"], event="schedule")
    assert [code for _, code, _ in reported] == [1, 0]
    assert (tmp_path / "outputs.txt").read_text().split() == ["outcome=failed", "run-id="]
    assert (tmp_path / "summary.md").read_text().startswith("## No result")


def test_a_nightly_job_that_meets_another_run_is_not_called_failed(tmp_path: Path) -> None:
    busy = {"status": "running", "outcome": None, "outcome_reason": "Run 1 is running."}
    (tmp_path / "ml_pipeline_work").mkdir()
    (tmp_path / "ml_pipeline_work" / "result.json").write_text(json.dumps(busy))
    runner = Runner(checkout=tmp_path, values={"github.action_path": str(ROOT)}, package=ROOT)
    steps = [step for step in action()["runs"]["steps"] if step.get("id") == "figures"]
    ((_, code, _),) = runner.run({"steps": steps}, event="schedule")
    assert (code, (tmp_path / "outputs.txt").read_text().split()) == (
        0, ["outcome=running", "run-id="],
    )  # fmt: skip


def test_the_action_pins_what_it_uses_and_installs_by_digests() -> None:
    steps = action()["runs"]["steps"]
    assert all(PINNED.fullmatch(step["uses"]) for step in steps if "uses" in step)
    assert all(step["shell"] == "bash" for step in steps if "run" in step)
    (install,) = (step["run"] for step in steps if step.get("name") == "Install")
    assert "--require-hashes" in install
    with_key = [step["name"] for step in steps if "service-key" in str(step.get("env"))]
    assert with_key == ["Check everything a run needs", "Run"]
    # What somebody types reaches a shell as a variable alone.
    assert not [step for step in steps if "${{" in step.get("run", "")]


def test_the_manual_shows_the_nightly_job_in_six_lines() -> None:
    page = (ROOT / "docs" / "worker-and-actions.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- nightly job -->\n```yaml\n(.*?)```", page, re.DOTALL)
    assert found is not None
    jobs = yaml.safe_load(found[1])["jobs"]
    ((_, job),) = jobs.items()
    assert len(found[1].partition("  retrain:\n")[2].strip().splitlines()) == 6
    (step,) = job["steps"]
    assert set(step["with"]) == {
        name for name, it in action()["inputs"].items() if it.get("required")
    }


def test_a_release_is_tried_published_without_a_token_and_named_as_the_package() -> None:
    loaded = workflow("release")
    assert loaded["on"] == {"push": {"tags": ["v*"]}}
    build, publish = loaded["jobs"]["build"], loaded["jobs"]["publish"]
    ran = " ".join(step.get("run", "") for step in build["steps"])
    assert ran.count(".ci/try_distribution dist/*.") == 2
    assert f"dist/{DISTRIBUTION.replace('-', '_')}-" in ran
    assert publish["permissions"] == {"id-token": "write"}
    assert (publish["needs"], publish["environment"]) == (["ci", "build"], "pypi")
    assert loaded["jobs"]["ci"]["uses"] == "$/.github/workflows/ci.yml"
    assert "workflow_call" in workflow("ci")["on"]
    assert "secrets" not in str(loaded)
    tried = workflow("ci")["jobs"]["distributions"]["steps"]
    for words in ("Try the wheel", "Try the source distribution"):
        assert words in str(tried)


def kept(
    checkout: Path, job: Mapping[str, Any], *, keep_rows: bool = False
) -> Iterator[tuple[str, str]]:
    """The files that a job uploads, with their texts."""
    for step in job["steps"]:
        if "upload-artifact" in str(step.get("uses")):
            condition = str(step["if"]).replace("-", "_").removesuffix(" == 'true'")
            assert condition in {"always()", "always() && inputs.keep_rows"}
            if keep_rows or "keep_rows" not in condition:
                for pattern in step["with"]["path"].split():
                    for found in checkout.glob(pattern):
                        inside = found.rglob("*") if found.is_dir() else [found]
                        for path in inside:
                            if path.is_file():
                                text = path.read_text(encoding="utf-8", errors="replace")
                                yield str(path.relative_to(checkout)), text


@pytest.mark.parametrize("name", ["retrain", "train"])
def test_s2_rows_are_kept_by_an_explicit_input_alone(name: str) -> None:
    given = workflow(name)["on"]["workflow_dispatch"]["inputs"]["keep_rows"]
    assert (given["type"], given["default"]) == ("boolean", False)
    assert "everyone reads them" in given["description"]
    steps = workflow(name)["jobs"][name]["steps"]
    uploads = {
        step["with"]["path"].strip(): step["if"]
        for step in steps
        if "upload-artifact" in str(step.get("uses"))
    }
    assert {path: "keep_rows" in condition for path, condition in uploads.items()} == {
        "ml_pipeline_work": True,
        next(path for path in uploads if path.startswith("ml_pipeline_work/figures")): False,
    }
    # A result has rows: it goes into a file, not into the log of the job.
    commands = " ".join(step.get("run", "") for step in steps)
    assert "tee" not in commands
    assert commands.count("> ml_pipeline_work/result.json") == 1


def test_s2_figures_quote_no_row(tmp_path: Path) -> None:
    row = "a text of a row"
    result = {
        "status": "completed", "outcome": "rejected", "outcome_reason": "Not better on 90 results.",
        "metrics": {"accuracy": 0.5, "labels": [row], row: 1.0}, "champion": "m-1",
        "decision": {"sentence": row, "checks": [
            {"name": "evidence", "passed": False, "sentence": row, "numbers": {row: 1}}]},
        "load_report": {"unusable": 0, "reasons": {row: 1}, "examples": {row: row}},
        "error": row, "dataset_path": row, "report_markdown": row, "review": {"errors": [row]},
    }  # fmt: skip
    for changes, told in (
        ({}, "Not better on 90 results."),
        ({"status": "failed", "outcome": "failed", "outcome_reason": row}, "The log of this job"),
        ({"outcome_reason": row, "load_report": {"unusable": 1}}, "The log of this job"),
    ):
        (tmp_path / "result.json").write_text(json.dumps({**result, **changes}))
        done = shell.python(
            "-m", "ml_pipeline.summary", "result.json", "figures.json", cwd=tmp_path
        )
        assert done.code == 0, done.stderr
        assert row not in done.stdout + (tmp_path / "figures.json").read_text()
        assert told in done.stdout
        assert "- Not passed: evidence" in done.stdout


def runs_when(condition: str, **given: str) -> bool:
    """What a condition of a job comes to; the words are GitHub's, their meaning Python's."""
    text = re.sub(
        r"needs\.(\w+)\.([\w.]+)", lambda m: repr(given.get(f"{m[1]}.{m[2]}", "")), condition
    )
    text = text.replace("always()", "True").replace("!cancelled()", "True")
    text = text.replace("&&", " and ").replace("||", " or ")
    return bool(eval(f"({text})", {"__builtins__": {}}))  # noqa: S307 - our own file


@pytest.mark.parametrize(
    ("request_", "retrain", "begun", "opens"),
    [
        ("success", "success", "success", False),
        ("skipped", "success", "success", False),
        ("skipped", "failure", "success", True),
        ("failure", "skipped", "", True),
        ("success", "cancelled", "success", True),
        ("skipped", "cancelled", "cancelled", False),
        ("success", "cancelled", "", False),
    ],
)
def test_o9_a_run_that_was_cancelled_opens_the_issue_and_one_that_never_began_does_not(
    request_: str, retrain: str, begun: str, *, opens: bool
) -> None:
    jobs = workflow("retrain")["jobs"]
    given = {
        "request.result": request_, "retrain.result": retrain, "retrain.outputs.begun": begun,
    }  # fmt: skip
    assert runs_when(jobs["report"]["if"], **given) is opens
    assert sorted(jobs["report"]["needs"]) == ["request", "retrain"]
    (checkout_id,) = (step["id"] for step in jobs["retrain"]["steps"] if "id" in step)
    assert jobs["retrain"]["outputs"]["begun"] == f"${{{{ steps.{checkout_id}.outcome }}}}"


def test_o9_a_request_is_submitted_also_when_a_later_dispatch_takes_the_place_of_its_run() -> None:
    loaded = workflow("retrain")
    # What waits in a group is replaced: no dispatch shares one with another.
    assert "github.run_id" in loaded["concurrency"]["group"]
    asking, running = loaded["jobs"]["request"], loaded["jobs"]["retrain"]
    assert "concurrency" not in asking
    assert running["concurrency"] == {"group": "retrain", "cancel-in-progress": False}
    for result, runs in (("success", True), ("skipped", True), ("failure", False)):
        assert runs_when(running["if"], **{"request.result": result}) is runs
    submits = [name for name, job in loaded["jobs"].items() if "requests submit" in str(job)]
    assert submits == ["request"]


def test_a_night_on_a_project_without_our_tables_fails_and_says_where(
    database: SupabaseProject, checkout: Path
) -> None:
    runner = Runner(checkout=checkout, values=values_of(database))
    reported = runner.run(workflow("retrain")["jobs"]["retrain"], event="schedule")
    assert [(name, code) for name, code, _ in reported] == [
        ("Check everything a run needs", 1),
        ("Summarise the result", 0),
    ]
    assert (checkout / "summary.md").read_text().startswith("## No result")


PIN = re.compile(r"^([a-z0-9-]+==[^\s\\]+(?: ; .+?)?)(?: \\)?$")


def pins_of(text: str) -> dict[str, int]:
    """Every pin of a file, with how many digests stand below it."""
    found: dict[str, int] = {}
    pin = ""
    for line in text.splitlines():
        started = PIN.match(line)
        if started is not None:
            pin = started[1]
            found[pin] = 0
        elif re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?", line):
            found[pin] += 1
        else:
            assert line.startswith("#") or line == "-e .", line
    return found


def test_every_pin_has_digests_and_is_that_of_the_requirements() -> None:
    pins = pins_of((ROOT / "requirements.txt").read_text(encoding="utf-8"))
    tested = pins_of((ROOT / "tests" / "requirements.txt").read_text(encoding="utf-8"))
    locked = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    in_image = (ROOT / "requirements-image.lock").read_text(encoding="utf-8")
    assert pins_of(locked).keys() == pins.keys()
    assert pins.keys() < pins_of(in_image).keys() <= tested.keys()
    for text in (locked, in_image):
        assert min(pins_of(text).values()) > 0
        assert re.match(r"# Pinned by: uv pip compile .*--generate-hashes", text)
        assert "://" not in text


@pytest.mark.parametrize("name", ["retrain", "train"])
def test_jobs_with_the_key_install_nothing_whose_digest_is_not_known(name: str) -> None:
    installs = [
        step["run"].splitlines()
        for job in workflow(name)["jobs"].values()
        for step in job["steps"]
        if step.get("name") == "Install"
    ]
    assert installs
    for first, second in installs:
        assert first.endswith("install --quiet --require-hashes -r requirements.lock")
        assert second.endswith("install --quiet --no-deps -r requirements.txt")


def in_own_repository(folder: Path, *more: str) -> Finished:
    return warm.ml_pipeline("init", "--workflows", folder, *more, cwd=folder.parent)


def test_the_files_for_a_persons_own_repository_are_written_once_and_never_over_theirs(
    tmp_path: Path,
) -> None:
    own = tmp_path / "own"
    package = "git+https://example.org/team/ml.git@0123abc"
    first = in_own_repository(own, "--package", package)
    assert (first.code, first.json["kept"]) == (0, []), first.stderr
    found = [str(path.relative_to(own)) for path in own.rglob("*") if path.is_file()]
    assert sorted(found) == first.json["written"] == sorted(PLACES)
    pins = (own / "ml_requirements.txt").read_text().splitlines()
    assert package in pins
    assert not [line for line in pins if line.startswith("-")]
    linted = subprocess.run(
        [BIN / "zizmor", "--offline", "--no-progress", own], capture_output=True, check=False
    )
    assert linted.returncode == 0, linted.stdout
    for name in ("retrain", "train"):
        text = (own / ".github" / "workflows" / f"{name}.yml").read_text()
        installs = {"retrain": 2, "train": 1}[name]
        for file, times in (("requirements.txt", installs), ("requirements.lock", 2 * installs)):
            assert text.count(f"ml_{file}") == text.count(file) == times
        assert text.count("--require-hashes -r ml_requirements.lock") == installs

    (own / "model_config.yaml").write_text("model_name: ours\n")
    again = in_own_repository(own, "--package", package)
    assert (again.code, again.json["written"], again.json["kept"]) == (0, [], sorted(PLACES))
    train = own / ".github" / "workflows" / "train.yml"
    train.write_text("name: ours\n")
    (own / "ml_requirements.txt").unlink()
    refused = in_own_repository(own, "--package", package)
    assert refused.code == 1
    assert "other content: .github/workflows/train.yml" in refused.stderr
    assert not (own / "ml_requirements.txt").exists()
    reported = in_own_repository(own, "--package", package, "--overwrite")
    assert reported.json["written"] == [".github/workflows/train.yml", "ml_requirements.txt"]
    assert train.read_text() != "name: ours\n"
    assert (own / "model_config.yaml").read_text() == "model_name: ours\n"
    assert in_own_repository(own, "--package", "two words").code == 1


@pytest.mark.parametrize(
    ("remote", "found"),
    [
        ("git@example.org:team/ml.git", "git+https://example.org/team/ml.git@"),
        ("https://token@example.org/team/ml", "git+https://example.org/team/ml@"),
        ("/somewhere/else", None),
    ],
)
def test_the_package_is_installed_from_where_its_checkout_came_from(
    tmp_path: Path, remote: str, found: str | None
) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run([GIT, "-C", tmp_path, *who, *arguments], check=True, capture_output=True)

    git("init")
    git("commit", "--allow-empty", "-m", "one")
    git("remote", "add", "origin", remote)
    recorded = json.dumps({"url": tmp_path.as_uri(), "dir_info": {"editable": True}})
    if found is None:
        with pytest.raises(ConfigError, match="not known where"):
            init_repository.origin(recorded, ROOT)
        return
    for direct_url, checkout in ((recorded, ROOT), (None, tmp_path)):
        reported = init_repository.origin(direct_url, checkout)
        assert re.fullmatch(re.escape(found) + "[0-9a-f]{40}", reported)


def test_a_package_that_was_installed_from_a_commit_is_installed_from_it_again() -> None:
    recorded = {
        "url": "https://me:token@example.org/team/ml",
        "vcs_info": {"vcs": "git", "commit_id": "0123abc"},
    }
    reported = init_repository.origin(json.dumps(recorded), ROOT)
    assert reported == "git+https://example.org/team/ml@0123abc"


def test_in_a_repository_without_our_code_a_base_is_trained_when_it_is_due_and_not_before(
    project: SupabaseProject, tmp_path: Path
) -> None:
    checkout = tmp_path / "own"
    assert in_own_repository(checkout, "--package", "./vendor/some.whl").code == 0
    store = SupabaseStore.open(project.url, SecretStr(project.service_key))
    played = league.play(5, 120)
    store.add_labels(
        [
            {
                "id": league.event_id(f"label {number}"),
                "created_at": datetime.now(UTC) - timedelta(hours=number),
                "features": dict(zip(DEFAULT_FEATURES, row.tolist(), strict=True)),
                "label": str(label),
            }
            for number, (row, label) in enumerate(zip(played.features, played.labels, strict=True))
        ]
    )
    runner = Runner(checkout=checkout, values=values_of(project), package=ROOT)
    job = workflow("train", checkout)["jobs"]["train"]
    for outcome in ("promoted", "skipped_no_new_data"):
        reported = runner.run(job, event="schedule")
        assert [code for _, code, _ in reported] == [0, 0], reported
        result = json.loads((checkout / "ml_pipeline_work" / "result.json").read_text())
        assert result["outcome"] == outcome
    assert "a new base is due every 30 days" in result["outcome_reason"]
    assert len(store.list_models(model_name="default")) == 1
    store.close()


def test_what_stands_in_a_result_is_text_in_the_summary_and_not_markup() -> None:
    hostile = "<img src=x onerror=alert(1)> | [a](javascript:b) `c` **d**\n# e"
    told = {"status": "completed", "outcome": "rejected", "outcome_reason": hostile}
    text = as_markdown(figures_of({**told, "champion": hostile}))
    assert "onerror" in text
    assert "<img" not in text
    assert not re.search(r"(?<!\\)\]\(", text)
    assert not re.search(r"(?<!\\)[|`*]", text)
    assert "\n# e" not in text
