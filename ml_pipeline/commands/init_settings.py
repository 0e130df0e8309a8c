"""The settings file that `init --from` writes: what was found, with the reasons as comments."""

from __future__ import annotations

import json
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ml_pipeline.datasets.inspection.inspecting import Feature, Inspection
from ml_pipeline.errors import ConfigError
from ml_pipeline.printable import printable

_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,60}")
_WORDS_OF_YAML: Final = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
# What JSON leaves as it is and YAML does not take, or takes for a line's end.
_UNPRINTABLE: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]")
_COMMENT_AT: Final = 30
_LONGEST_COMMENT: Final = 200
_CLASSES_SHOWN: Final = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where rows come from; `is_log`: from the store's log, whose ids and times are its own."""

    model_name: str
    training_dataset: str
    is_log: bool = False


def compose(found: Inspection, origin: Origin) -> str:
    """The text of a settings file. Every setting that is not in it has its default."""
    target, classes = found.target, found.classes
    shares = [
        f"{label} {classes.share(label):.1%}" for label in list(classes.counts)[:_CLASSES_SHOWN]
    ]
    shares += ["…"] * (len(classes.counts) > _CLASSES_SHOWN)
    lines = [
        _note(f"`ml-pipeline init` made this of {found.table.rows:,} rows: {found.table.source}"),
        "# What is not here has its default; the package's own model_config.yaml lists everything.",
        "",
        _line(f"model_name: {value(origin.model_name)}", "one registry holds several models"),
        "",
        "data:",
        _line(f"  target: {value(target)}", "what is predicted"),
        _line(f"  classes: [{', '.join(map(value, classes.counts))}]", ", ".join(shares)),
        _line("  ordered: false", "true if their order means something, as low, medium, high"),
        *_features(found),
        *_left_out(found),
        *(_of_log(origin) if origin.is_log else _of_file(found, origin)),
        "",
        "run:",
        _line("  trigger: labels", "learn whenever 30 new results are known"),
        "",
    ]
    return "\n".join(lines)


def _of_log(origin: Origin) -> list[str]:
    return [
        _line(f"  training_dataset: {origin.training_dataset}", "the results of the store's log"),
        _line("  time_column: null", "the log has its own: the day a result was known"),
        _line("  group_column: null", "rows of one match_id are never both learned and judged"),
    ]


def _of_file(found: Inspection, origin: Origin) -> list[str]:
    repeats = found.id_column if found.id_repeats else None
    dataset = value(origin.training_dataset)
    lines = [
        _line(f"  training_dataset: {dataset}", "what a first model learns from"),
        _line(f"  time_column: {_or_null(found.time_column)}", _about_time(found)),
        _line(f"  group_column: {_or_null(repeats)}", "its rows are never both learned and judged"),
    ]
    if found.id_column is not None:
        lines.append(_line(f"  id_column: {value(found.id_column)}", "the thing predicted (--id)"))
    if found.classes.unlabelled:
        about = f"{found.classes.unlabelled:,} rows have no {found.target} yet"
        lines.append(_line("  unlabelled_rows: skip", about))
    return lines


def value(text: str) -> str:
    """A text as a plain or quoted value of YAML, on one line whatever is in it."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS_OF_YAML:
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)


def write(path: Path, text: str) -> None:
    """Write a file whole, in one step, or leave what is there."""
    draft = path.with_name(f".{secrets.token_hex(8)}.new")
    try:
        try:
            draft.write_text(text, encoding="utf-8")
            os.replace(draft, path)  # noqa: PTH105 - over what stands there
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{path.absolute()}: {error.strerror or error}.",
            hint="Choose a folder you may write to.",
        ) from error


def exists_already(path: Path) -> ConfigError:
    """The refusal to replace somebody's settings."""
    return ConfigError(
        f"{path} is there already; nothing was written.",
        hint="Keep it, write elsewhere with --config OTHER.yaml, or replace it with --force.",
    )


def _features(found: Inspection) -> list[str]:
    lines = ["  features:" if found.features else "  features: {}"]
    lines += [_line(f"    {value(f.name)}: {f.kind}", _about(f)) for f in found.features]
    if found.text_column is not None:
        lines.append(_line(f"  text_column: {value(found.text_column)}", "sentences, read as text"))
    return lines


def _about(feature: Feature) -> str:
    gaps = f"; {feature.missing:.1%} missing" if feature.missing else ""
    return feature.reason + gaps


def _left_out(found: Inspection) -> list[str]:
    lines = [_note(f"{name} {why}", "    ") for name, why in found.left_out.items()]
    return [_note("Left out:", "  "), *lines] if lines else []


def _about_time(found: Inspection) -> str:
    if found.time_column is None:
        return "no column says when a row came up: rows are held out by their content"
    return "the last rows in time are held out to judge on"


def _or_null(name: str | None) -> str:
    return "null" if name is None else value(name)


def _line(setting: str, comment: str) -> str:
    return f"{setting:<{_COMMENT_AT}} {_note(comment)}" if comment else setting


def _note(text: str, indent: str = "") -> str:
    shown = printable(text)
    if len(shown) > _LONGEST_COMMENT:
        shown = shown[:_LONGEST_COMMENT] + "…"
    return f"{indent}# {_UNPRINTABLE.sub('�', shown)}"
