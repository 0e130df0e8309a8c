"""What people read is in the field's words: code, documents, pages, outcomes, help texts.

A name that only its authors understand costs every reader a look into the glossary; HTML headings
and the first sentence of an outcome are read by people who never open one.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml_pipeline.cli import COMMANDS, usage
from ml_pipeline.commands import status
from ml_pipeline.commands.init_trial import Trial
from ml_pipeline.config.settings import Settings
from ml_pipeline.decay import messages
from ml_pipeline.decay.notify import message_of
from ml_pipeline.reports import overview, report, summary, terminal
from ml_pipeline.runs import recording
from ml_pipeline.store.alerts import ActionState, AlertStatus, Cause
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.web.app import create_app
from ml_pipeline.web.guard import Guard
from tests.conftest import FirstModel
from tests.support import crashing, league
from tests.support.factories import make_alert
from tests.support.shell import ROOT

# Private words, and what is said instead. Snake and camel case are taken apart before the search.
PRIVATE = {
    r"shel(f|ves)": "artifact store, model registry",
    r"capsules?": "run manifest",
    r"leash(es)?": "parent watch",
    r"live lines?": "online model, lineage",
    r"closer looks?": "daily checks",
    r"quiet alerts?": "advisories",
    r"rhythms?": "schedule",
    r"duels?": "paired comparison",
    r"rivals?": "incumbent",
    r"patience": "timeouts",
    r"standing": "serving state",
    r"stor(y|ies)": "run log, messages",
    r"(an?|one|the|each|every|next|nightly|ordinary|scheduled|killed|failed) pass": "run",
    r"(the|nightly|ordinary|scheduled|killed|failed) passes": "runs",
}
# Ordinary words that name nothing: as identifiers they say where a value came from, not what it is.
EMPTY = {"given", "told", "said", "look", "looks", "looked", "bench", "door", "duel", "word"}
# Where such a word is another thing, and why that stays.
ALLOWED = {
    r"[\"'`]capsule[\"'`]": "the key of the manifest in rows that are stored",
    "failed_passes": "a key of the worker's result",
    '"--leash"': "what a run of 0.1.0 that goes on while the package is updated passes",
}
# The router's features count words.
WORDS_OF_A_TEXT = {"WORD", "_word", "word"}
NOT_IN_A_HEADLINE = re.compile(r"\b(nats?|anchors?|lines?|heads?|bounds?|nights?)\b", re.IGNORECASE)
# Such as -0.0003: what a loss changed by says nothing to who has not looked it up.
DIFFERENCE = re.compile(r"[-\u2212+]\d*\.\d{3,}")
TEMPLATES = ROOT / "ml_pipeline" / "templates"
SUFFIXES = {".py", ".html", ".js", ".css", ".md", ".sql", ".yaml", ".yml"}
BESIDE = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "model_config.yaml", ".env.example",
          "Dockerfile.ml", "docker-compose.yml", "pyproject.toml", ".ci/run")  # fmt: skip
SEARCH = {re.compile(rf"\b{word}\b"): instead for word, instead in PRIVATE.items()}


def texts() -> list[Path]:
    """Everything that people read, but the changelog, which says what was renamed."""
    folders = [ROOT / name for name in ("ml_pipeline", "docs", "tests", ".github")]
    found = [path for folder in folders for path in folder.rglob("*") if path.suffix in SUFFIXES]
    return sorted({*found, *(ROOT / name for name in BESIDE)} - {Path(__file__).resolve()})


def plain(line: str) -> str:
    """The words of a line, those inside names too: `_liveLine` is `live line`."""
    for allowed in ALLOWED:
        line = re.sub(allowed, "", line)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", line).replace("_", " ").lower()


def private_words(text: str) -> list[str]:
    """Private words with their line and what is said instead."""
    return [
        f"line {number}: {found[0]} ({instead})"
        for number, line in enumerate(map(plain, text.splitlines()), start=1)
        for word, instead in SEARCH.items()
        for found in word.finditer(line)
    ]


def test_a_private_word_is_found_in_every_spelling() -> None:
    for text in ("the ModelShelf", "_live_line = 1", "a rhythm", "LEASH", 'a "capsule" capsule'):
        assert private_words(text), text
    for text in ("a line of CSV", "history", 'details["capsule"]', "rows pass the gate"):
        assert not private_words(text), text


@pytest.mark.parametrize("path", texts(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_is_in_the_fields_words(path: Path) -> None:
    assert private_words(path.read_text(encoding="utf-8")) == []


def names_in(tree: ast.AST) -> Iterator[str]:
    """Every name that a file gives or uses."""
    for node in ast.walk(tree):
        for field in ("name", "id", "arg", "attr"):
            name = getattr(node, field, None)
            if isinstance(name, str):
                yield name


@pytest.mark.parametrize(
    "path", sorted((ROOT / "ml_pipeline").rglob("*.py")), ids=lambda it: it.stem
)
def test_a_name_says_what_it_is(path: Path) -> None:
    names = set(names_in(ast.parse(path.read_text(encoding="utf-8")))) - WORDS_OF_A_TEXT
    assert {name for name in names if EMPTY & set(plain(name).split())} == set()


# ------------------------------------------------------------------------------- help texts


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and those of its actions."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from parsers(inner)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_is_in_the_fields_words(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []

    def note(parser: argparse.ArgumentParser, *_: object) -> None:
        shown.extend(one.format_help() for one in parsers(parser))
        raise SystemExit(0)

    monkeypatch.setattr(argparse.ArgumentParser, "print_help", note)
    with pytest.raises(SystemExit):
        import_module(f"ml_pipeline.commands.{name}").main(["--help"])
    assert capsys.readouterr().out == ""
    assert len(shown) >= 1
    assert [word for text in shown for word in private_words(text)] == []


def test_the_list_of_commands_is_in_the_fields_words() -> None:
    assert private_words(usage()) == []


# ------------------------------------------------------------------------- pages and outcomes


def headlines(page: str) -> list[str]:
    """Headings, buttons and the title of a page; what stands in its charts is a table's."""
    page = re.sub(r"<svg\b.*?</svg>", "", page, flags=re.DOTALL)
    found = re.findall(r"<(h[1-3]|button|title)\b[^>]*>(.*?)</\1>", page, re.DOTALL)
    return [re.sub(r"<[^>]+>", "", text).strip() for _, text in found]


def is_plain(headline: str) -> bool:
    """Whether it says what happened in words: no word of ours, and no difference of losses."""
    return not (NOT_IN_A_HEADLINE.search(headline) or DIFFERENCE.search(headline))


def first_sentence(reason: str) -> str:
    return re.split(r"(?<=[.!?])\s+(?=[A-Z0-9])", reason, maxsplit=1)[0]


@pytest.mark.parametrize("name", sorted(path.name for path in TEMPLATES.glob("*.html")))
def test_the_headings_and_buttons_of_a_template_are_plain(name: str) -> None:
    text = (TEMPLATES / name).read_text(encoding="utf-8")
    shown = [re.sub(r"{[{%].*?[%}]}", "", text) for text in headlines(text)]
    assert [text for text in shown if not is_plain(text)] == []


# What an outcome is made by: settings of a run over nights on which the truth has turned.
OUTCOMES: dict[str, dict[str, Any]] = {
    "promoted": {},
    "awaiting_approval": {"promotion__policy": "approval"},
    "rejected": {"promotion__vetoes": ["accuracy"], "promotion__promotion_threshold": 0.9},
    "a new base": {"training__strategy": "refit"},
    "skipped_insufficient_errors": {"run__min_error_samples": 10_000},
    "skipped_no_new_data": {},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """A run that ended, its store and its settings."""

    store: LocalStore
    settings: Settings
    result: dict[str, Any]


@pytest.fixture(scope="module")
def ended(
    tmp_path_factory: pytest.TempPathFactory, first_model: FirstModel
) -> Iterator[dict[str, Ended]]:
    """One run for each outcome; the last one comes when the first has learned everything."""
    folder = tmp_path_factory.mktemp("ended")
    nights = league.nights_before(crashing.NOW, 4)
    found: dict[str, Ended] = {}
    for name, changes in OUTCOMES.items():
        settings = league.settings_for(**changes)
        store = (
            found["promoted"].store
            if name == "skipped_no_new_data"
            else league.open_league(folder / name, first_model.path, first_model.model, nights)
        )
        order = crashing.order(folder / f"work of {name}", name=name, settings=settings)
        result = dict(recording.run(store, order).result)
        found[name] = Ended(store=store, settings=settings, result=result)
    yield found
    for it in found.values():
        it.store.close()


@pytest.mark.parametrize("name", OUTCOMES)
def test_an_outcome_begins_with_a_sentence_for_everybody(
    name: str, ended: dict[str, Ended]
) -> None:
    result = ended[name].result
    assert name in {"a new base", result["outcome"]}
    sentence = first_sentence(result["outcome_reason"])
    assert is_plain(sentence), sentence
    assert private_words(result["outcome_reason"]) == []


@pytest.mark.parametrize("name", OUTCOMES)
def test_the_pages_of_a_run_have_plain_headings_and_buttons(
    name: str, ended: dict[str, Ended], capsys: pytest.CaptureFixture[str]
) -> None:
    it = ended[name]
    app = create_app(
        it.store, it.settings, Guard.for_host("::1", None),
        clock=lambda: crashing.NOW, new_id=league.ids(),
    )  # fmt: skip
    client = app.test_client()
    for path in ("/", f"/runs/{it.result['run_id']}", f"/runs/{it.result['run_id']}/report.html"):
        page = client.get(path, base_url="http://localhost")
        assert page.status_code == 200
        shown = headlines(page.text)
        assert len(shown) > 2
        assert [text for text in shown if not is_plain(text)] == []
        assert private_words(visible(page.text)) == []
    seen = overview.read_overview(it.store, it.settings, now=crashing.NOW)
    terminal.show(*status.view(seen))
    shown = capsys.readouterr().err.splitlines()
    assert private_words("\n".join(shown)) == []
    assert [text for text in map(first_sentence, shown) if not is_plain(text)] == []


@pytest.mark.parametrize("name", OUTCOMES)
def test_a_report_and_a_summary_have_plain_headings(name: str, ended: dict[str, Ended]) -> None:
    it = ended[name]
    run = it.store.get_run(it.result["run_id"])
    shown = report.as_markdown(run) + summary.as_markdown(summary.figures_of(it.result))
    found = re.findall(r"^#+ +(.+)$", shown, re.MULTILINE)
    assert len(found) >= 2
    assert [text for text in found if not is_plain(text)] == []


def visible(page: str) -> str:
    """The text of a page, without its style and its tags."""
    page = re.sub(r"<(style|script)\b.*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"<[^>]+>", " ", page)


@pytest.mark.parametrize("state", AlertStatus)
@pytest.mark.parametrize("cause", Cause)
def test_the_headline_of_an_alert_is_plain(cause: Cause, state: AlertStatus) -> None:
    for more in (
        {},
        {"needs_person": True},
        {"action": "command", "action_state": ActionState.FAILED},
        {"action": "request", "action_state": ActionState.TRIGGERED},
    ):
        at = None if state.is_open else crashing.NOW
        alert = make_alert(cause=cause, status=state, resolved_at=at, **more)
        message = message_of(alert)
        assert message.title == messages.headline(alert)
        for text in (message.title, messages.opening(alert), messages.subject(alert)):
            assert is_plain(text), text
        assert private_words(message.title + message.text) == []


def titles_of_tables() -> Iterator[tuple[str, str]]:
    """What stands over the tables and the columns of a terminal: constants in their calls."""
    for path in sorted((ROOT / "ml_pipeline").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or ast.unparse(node.func) != "terminal.table":
                continue
            for part in ast.walk(ast.Tuple(elts=node.args[:2])):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield path.name, part.value


def test_what_stands_over_a_table_on_a_terminal_is_plain() -> None:
    found = list(titles_of_tables())
    assert len(found) > 20
    assert [it for it in found if not is_plain(it[1]) or private_words(it[1])] == []


@pytest.mark.parametrize("gain", [0.05, 0.0003, 0.0, -0.05])
@pytest.mark.parametrize("days", [3, 40])
def test_the_verdict_on_a_persons_own_rows_is_plain(gain: float, days: int) -> None:
    count = 400
    spread = np.linspace(-0.01, 0.01, count)
    trial = Trial(
        frozen_losses=np.full(count, 0.6), learning_losses=0.6 - gain + spread,
        frozen_hits=np.arange(count) % 3 > 0, learning_hits=np.arange(count) % 4 > 0,
        usual_share=0.5, nights=days, has_times=False, left_out=(),
    )  # fmt: skip
    for text in (trial.sentence(), *trial.notes()):
        assert is_plain(text), text
        assert private_words(text) == []
