"""Predict one row or a file of rows: `ml-pipeline predict`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence

from ml_pipeline.commands import common
from ml_pipeline.errors import InputError
from ml_pipeline.serving.engine import PredictionEngine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SHOWN_LABELS, LONGEST_LABEL, BAR = 10, 24, 30

EXAMPLES = (
    "predict --predict 1.8 1.2 0.4 0.6 0.1 --id match-17",
    "predict --predict age=41 plan=pro",
    'predict --text "Where is my parcel?"',
    'predict --predict 1.8 1.2 --incumbent \'{"H": 0.6, "A": 0.4}\'',
    "predict --batch rows.csv --output answers.csv",
    "predict --info",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `predict`."""
    common.add_common(parser, *EXAMPLES)
    add = parser.add_argument
    add(
        "--predict", nargs="+", metavar="F",
        help="features of one row, in the model's order or as name=value",
    )  # fmt: skip
    add("--text", help="text of one row, for a model that reads one; - reads it from stdin")
    add(
        "--incumbent", metavar="JSON",
        help="what a classifier of your own answered, for a model that corrects it: "
        '{"H": 0.6, ...}, or {"prediction": "H", "confidence": 0.8}',
    )  # fmt: skip
    add("--match-id", "--id", help="what is predicted; its outcome can be recorded by this id")
    add("--batch", metavar="FILE", help="CSV of rows to predict")
    add("--output", metavar="FILE", help="CSV with the predictions (default: FILE_predictions.csv)")
    add(
        "--spreadsheet",
        action="store_true",
        help="with --batch: put ' before cells that a spreadsheet would calculate (=, +, -, @)",
    )
    add("--info", action="store_true", help="the model that answers")
    add("--model-id", help="any registered model (default: the champion)")
    add("--no-log", action="store_true", help="leave the evaluation log alone")


def run(args: argparse.Namespace) -> int:
    """Predict, or show the model."""
    has_row = args.predict is not None or args.text is not None
    wanted = [has_row, bool(args.batch), args.info]
    if args.incumbent is not None and not has_row:
        raise InputError(
            "--incumbent goes with --predict or --text: it is the answer for that row.",
            hint="A file of rows has it in the column incumbent.",
        )
    if sum(wanted) != 1:
        raise InputError("Give one of --predict (or --text), --batch and --info.")
    with PredictionEngine(
        local_dir=args.local, model_id=args.model_id, config_file=args.config, log=not args.no_log
    ) as engine:
        if args.batch:
            from ml_pipeline.commands.progress import progress_bars
            from ml_pipeline.serving.batch import predict_csv

            with progress_bars() as bars:
                result = predict_csv(
                    engine,
                    args.batch,
                    args.output,
                    log=not args.no_log,
                    bars=bars,
                    as_text=args.spreadsheet,
                )
        elif args.info:
            result = engine.get_model_info() | {"status": "completed"}
        else:
            text = _piped() if args.text == "-" else args.text
            row = _row_input(args.predict, engine)
            if args.incumbent is None:
                result = engine.predict(row, args.match_id, text=text)
            else:
                answer = incumbents_answer(args.incumbent)
                result = engine.correct(row, args.match_id, text=text, **answer)
    for found in result.get("new_levels", ()):
        common.say(found["said"])
    if result["status"] == "failed":
        common.say(result["error"])
    shown = None if args.info or args.batch else lambda: view(result)
    common.answer(args, result, shown)
    return 0 if result["status"] == "completed" else 1


def view(result: Mapping[str, Any]) -> Iterator[str]:
    """The answer, how sure it is, and how sure it would be of the others."""
    if result["status"] == "failed":
        return
    answer, sure = result["prediction"], f"{100 * result['confidence']:.1f} % sure"
    guess = result.get("best_guess")
    yield f"{answer}: the best guess is {guess}, {sure}." if guess else f"{answer}, {sure}."
    shares = sorted(result["probabilities"].items(), key=lambda it: -it[1])
    for label, share in shares[:SHOWN_LABELS]:
        bar = "\u2588" * round(BAR * share)
        yield f"  {label[:LONGEST_LABEL]:<{LONGEST_LABEL}} {100 * share:5.1f} %  {bar}".rstrip()
    if result.get("imputed"):
        yield f"Missing, and filled in as in training: {', '.join(result['imputed'])}."
    for warning in result.get("warnings") or ():
        yield f"Warning: {warning}."
    yield f"Answered by {result['model_id']}."
    if result["event_id"]:
        yield f"When you know what happened: `{_outcome(result)}`"


def _outcome(result: Mapping[str, Any]) -> str:
    return f"ml-pipeline outcome --event-id {result['event_id']} --actual LABEL"


def _piped() -> str:
    """What stands on standard input: a command line holds at most 128 KiB of an argument."""
    return sys.stdin.buffer.read().decode("utf-8", "surrogateescape")


def incumbents_answer(text: str) -> dict[str, Any]:
    """The flag's JSON as arguments of `PredictionEngine.correct`. Raises InputError."""
    from ml_pipeline.store.inputs.incumbents import HINT, written

    if not text.lstrip().startswith("{"):
        raise InputError(f"--incumbent {text!r} is no JSON object.", hint=HINT)
    found = written(text)
    if set(found) == {"prediction", "confidence"} and isinstance(found["prediction"], str):
        return dict(found)
    return {"probabilities": found}


def _row_input(
    tokens: Sequence[str] | None, engine: PredictionEngine
) -> Sequence[str] | dict[str, str] | None:
    """Numbers in order, or `name=value` pairs.

    Raises InputError for a name that the model does not know or that stands there twice.
    """
    named = [token.partition("=") for token in tokens or ()]
    if not named or not all(equals for _, equals, _ in named):
        return tokens
    scorer, names = engine.scorer(), [name for name, _, _ in named]
    known = [
        *scorer.own_features,
        *([scorer.text_column] if scorer.text_column else []),
        "match_id",
    ]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(
            f"The model has no feature {', '.join(unknown)}.", hint=f"It takes {', '.join(known)}."
        )
    if len(set(names)) < len(names):
        raise InputError(f"A name stands there twice: {', '.join(names)}.")
    return {name: value for name, _, value in named}


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.main("predict", __doc__, add_arguments, run, argv, with_log=False)
