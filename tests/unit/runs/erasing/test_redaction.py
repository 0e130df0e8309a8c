"""What is taken out of texts and JSON values, and what stays beside it."""

from __future__ import annotations

from ml_pipeline.runs.erasing.redaction import Names, redacted, redacted_text

NAMES = Names(event_ids=frozenset({"event-0000007"}), match_ids=frozenset({"match-2026-05-01-7"}))


def test_an_id_that_another_one_begins_or_ends_with_is_left_as_it_is() -> None:
    neighbour = {"event_id": "event-00000071", "match_id": "match-2026-05-01-70"}
    theirs = {"event_id": "event-0000007", "match_id": "match-2026-05-01-7"}
    assert redacted({"rows": [theirs, neighbour]}, NAMES) == {"rows": [neighbour]}
    text = "Odd: match-2026-05-01-7, rematch-2026-05-01-7 and match-2026-05-01-70.\n"
    kept = "Odd: (erased), rematch-2026-05-01-7 and match-2026-05-01-70.\n"
    assert redacted_text(text, NAMES) == kept
    assert redacted("row event-0000007: bad", NAMES) == "row (erased): bad"
