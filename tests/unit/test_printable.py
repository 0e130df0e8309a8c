"""What others wrote is cleaned wherever it is shown: on terminals, pages, in logs and messages."""

from __future__ import annotations

import ast
import json
import logging
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_pipeline.commands import common, reconcile, status
from ml_pipeline.commands.checks import findings
from ml_pipeline.config.log_lines import LineFormatter
from ml_pipeline.decay.notify import JobSummary, message_of
from ml_pipeline.errors import StoreRefused
from ml_pipeline.printable import SUBSTITUTE, plain_markdown, printable
from ml_pipeline.reports import charts, pages, report, summary, terminal
from ml_pipeline.reports.overview import Overview
from ml_pipeline.runs.run_log import JsonFormatter
from tests.support.factories import NOW, make_alert, make_finished_run, make_model, make_request

PACKAGE = Path(common.__file__).parents[1]
# Writes into the clipboard, clears the screen (C1), turns the line round; markup of rich,
# Markdown and HTML, with an end that nothing opened; half of a pair.
HOSTILE = "a\x1b]52;c;aGk=\x07\x9b2J\u202eb [/x] [red]c[/red] <img src=x> **d** `e` \ud800 f\x00"
CONTROLS = {
    *range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A),
    *range(0xD800, 0xE000),
}  # fmt: skip


def controls_in(text: str) -> set[str]:
    return {letter for letter in text if ord(letter) in CONTROLS} - {"\n", "\t"}


@given(st.text(st.characters()))
def test_nothing_but_control_characters_is_changed(text: str) -> None:
    shown = printable(text, lines=True)
    assert not controls_in(shown)
    assert len(shown) == len(text)
    assert all(
        a == b or (ord(a) in CONTROLS | {0x2028, 0x2029} and b in {SUBSTITUTE, " "})
        for a, b in zip(text, shown, strict=True)
    )
    assert not {"\n", "\t"} & set(printable(text))
    assert not set(plain_markdown(text).replace("&amp;", "").replace("&lt;", "")) & {"<", "\n"}


def overview() -> Overview:
    model = make_model(HOSTILE)
    return Overview(
        at=NOW, model_name=HOSTILE, every=timedelta(days=1), place={}, champion=model,
        waiting=[model], earlier=[], runs=[make_finished_run(outcome_reason=HOSTILE)],
        requests=[make_request(reason=HOSTILE)], days=[], alerts=[], promotions=[],
    )  # fmt: skip


FINDING = findings.fault(HOSTILE, HOSTILE, HOSTILE)
NUMBERS = {"events": 1, "evaluated": 1, "accuracy": 0.5, "abstention_rate": 0.0}
ALERT = make_alert(
    model_name=HOSTILE, message=HOSTILE, action="command", details={"command": [HOSTILE]}
)


def record() -> logging.LogRecord:
    fault = ValueError(HOSTILE)
    cause = (ValueError, fault, None)
    return logging.LogRecord("a", logging.INFO, "a", 1, "%s", (HOSTILE,), cause)


def a_table() -> None:
    cells: list[list[object]] = [[HOSTILE], [terminal.coloured(HOSTILE, "red")]]
    terminal.show(terminal.table(HOSTILE, [HOSTILE], cells))


def a_run(folder: Path) -> str:
    errors = folder / "errors.csv"
    errors.write_text(
        f'match_id,event_id,prediction,confidence,result\n"{printable(HOSTILE)}",1,H,0.9,"\x1b[2J"\n'
    )
    told = {
            "dataset_size": 1, "dataset_path": str(errors), "outcome_reason": HOSTILE,
            "champion": HOSTILE, "error": HOSTILE, "training_rows": 1,
            "metrics": {"accuracy": 0.5}, "champion_metrics": {},
    }  # fmt: skip
    terminal.show(*summary.view(told, target="result"))
    return ""


def a_page(_: Path) -> str:
    return pages.render("message.html", title=HOSTILE, text=HOSTILE, base=HOSTILE)


def a_chart(_: Path) -> str:
    series = charts.Series(name=HOSTILE, points=[(1.0, 2.0), (2.0, 3.0)])
    axis = charts.Axis(title=HOSTILE, text=lambda _: HOSTILE)
    chart = charts.Chart(name="a", title=HOSTILE, summary=HOSTILE, series=[series], x=axis, y=axis)
    return str(pages.environment().from_string("{{ chart }}").render(chart=charts.draw(chart)))


def a_report(_: Path) -> str:
    run = make_finished_run(outcome_reason=HOSTILE, champion_id=HOSTILE, error_message=HOSTILE)
    return report.as_html(run) + report.as_markdown(run)


def a_message(folder: Path) -> str:
    message = message_of(ALERT)
    JobSummary(folder / "summary.md").send(message, ALERT)
    written = (folder / "summary.md").read_text(encoding="utf-8")
    assert "<img" not in written
    assert "[red]" not in written.replace("\\[", "")
    return message.title + message.text + written


def a_ci_summary(_: Path) -> str:
    told = {"status": "completed", "outcome": HOSTILE, "outcome_reason": HOSTILE, "run_id": HOSTILE}
    return summary.as_markdown(summary.figures_of(told))


def on_stderr(show: Callable[[], Any]) -> Callable[[Path], str]:
    def shown(_: Path) -> str:
        show()
        return ""

    return shown


def a_failed_command() -> None:
    def fail() -> int:
        raise StoreRefused(HOSTILE, hint=HOSTILE)

    assert common.guarded(fail, with_log=False) == 1


def a_traceback() -> None:
    def fail() -> int:
        raise ValueError(HOSTILE)

    hook = sys.excepthook
    try:
        common.guarded(fail, with_log=False)
    except ValueError as error:
        sys.excepthook(ValueError, error, error.__traceback__)
    finally:
        sys.excepthook = hook


# Every place where people read a text that others may have written.
PLACES: dict[str, Callable[[Path], str]] = {
    "terminal: a table": on_stderr(a_table),
    "terminal: a line": on_stderr(lambda: terminal.show(HOSTILE)),
    "terminal: status": on_stderr(lambda: terminal.show(*status.view(overview()))),
    "terminal: doctor": on_stderr(lambda: terminal.show(*findings.view([FINDING]))),
    "terminal: reconcile": on_stderr(
        lambda: terminal.show(
            *reconcile.view({**dict.fromkeys(reconcile.COUNTS, 1), "models": {HOSTILE: NUMBERS}})
        )
    ),
    "terminal: a run": a_run,
    "terminal: a message": on_stderr(lambda: common.say(HOSTILE)),
    "terminal: an error": on_stderr(a_failed_command),
    "terminal: a fault of our own": on_stderr(a_traceback),
    "terminal: JSON": on_stderr(lambda: common.print_json({"reason": HOSTILE})),
    "a log's line": lambda _: LineFormatter().format(record()),
    "a log's JSON": lambda _: JsonFormatter().format(record()),
    "a page": a_page,
    "a chart": a_chart,
    "a report": a_report,
    "a message of mail, chat, issue and summary": a_message,
    "a job's summary": a_ci_summary,
}


@pytest.mark.parametrize("place", PLACES)
def test_s5_what_others_wrote_is_cleaned_where_it_is_shown(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = PLACES[place](tmp_path)
    captured = capsys.readouterr()
    shown = text + captured.out + captured.err
    assert "c" in shown
    assert not controls_in(shown)
    # JSON escapes them, and whoever reads it again has what was stored.
    if place == "terminal: JSON":
        assert json.loads(shown) == {"reason": HOSTILE}


def test_s5_markup_of_a_terminal_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    a_table()
    terminal.show("[red]a line[/red] :smile:")
    shown = capsys.readouterr().err
    assert "[red]c[/red]" in shown
    assert "[red]a line[/red] :smile:" in shown


# ------------------------------------------------------------------------- nothing goes past it

# Who writes to a stream or makes markup, and why it is clean. A new one shows its text by
# `common.say`, `terminal.show`, `pages.render` or the logger, or has a reason to stand here.
WRITERS = {
    "cli": "our own usage, the name that was typed as Python writes it",
    "commands.common": "say and print_json themselves",
    "commands.completion": "our own flags, as a script",
    "commands.init": "our own SQL, and keys that were just made",
    "commands.init_questions": "options and defaults, each through printable, for an answer",
    "ml_logging": "our own usage",
    "summary": "Markdown of reports.summary",
    "training.trainer": "a line for the parent, which shows it as an error",
}
RICH = {"commands.progress": "bars, their names escaped", "reports.terminal": "tables and lines"}
MARKUP = {
    "reports.charts": "drawn by its own templates, cleaned where a page takes it",
    "reports.pages": "the style sheet",
    "web.app": "parts that a template made",
    "web.drawings": "nothing, where there is nothing to draw",
}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        yield name, ast.parse(path.read_text(encoding="utf-8"))


def names_of(node: ast.AST) -> str:
    return ast.unparse(node) if isinstance(node, ast.Attribute | ast.Name) else ""


def test_s5_nothing_is_shown_past_the_places_that_clean() -> None:
    writers, rich, markup = set(), set(), set()
    for module, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and names_of(node.func) in {
                "sys.stdout.write", "sys.stderr.write", "print", "warnings.warn",
                "sys.stderr.writelines", "sys.stdout.writelines", "sys.stdout.buffer.write",
            }:  # fmt: skip
                writers.add(module)
            if isinstance(node, ast.ImportFrom) and node.module:
                package = node.module.split(".")[0]
                if package == "rich" and not is_typing(tree, node):
                    rich.add(module)
                if package == "markupsafe":
                    markup.add(module)
    assert writers == set(WRITERS), "see WRITERS"
    assert rich == set(RICH), "see RICH"
    assert markup == set(MARKUP), "see MARKUP"


def is_typing(tree: ast.Module, node: ast.ImportFrom) -> bool:
    """Whether the import stands under `if TYPE_CHECKING`."""
    return any(
        isinstance(found, ast.If) and names_of(found.test) == "TYPE_CHECKING"
        and node in ast.walk(found)
        for found in tree.body
    )  # fmt: skip
