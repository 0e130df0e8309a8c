-- Outcomes that are replaced, by whomever: the former one is kept, and its day is learned again.

-- A row for each change of a labelled event, with the first UTC day that it touches. What has
-- learned that day before learned something else.
CREATE TABLE evaluation_log_changes (
    change_id  INTEGER PRIMARY KEY,
    model_name TEXT NOT NULL,
    day        TEXT NOT NULL CHECK (length(day) = 10),
    kind       TEXT NOT NULL CHECK (kind IN ('corrected', 'erased')),
    changed_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f', 'now') || '000+00:00')
) STRICT;

CREATE INDEX evaluation_log_changes_days ON evaluation_log_changes (model_name, day);

CREATE TRIGGER evaluation_log_changed AFTER UPDATE ON evaluation_log
WHEN old.actual_result IS NOT NULL AND (
    new.actual_result IS NOT old.actual_result OR new.known_at IS NOT old.known_at
    OR new.prediction IS NOT old.prediction OR new.features IS NOT old.features
    OR new.model_name IS NOT old.model_name)
BEGIN
    INSERT INTO evaluation_log_changes (model_name, day, kind) VALUES (
        old.model_name,
        CASE WHEN new.actual_result IS NULL THEN substr(old.known_at, 1, 10)
             ELSE min(substr(old.known_at, 1, 10), substr(new.known_at, 1, 10)) END,
        'corrected');
END;

-- Whoever writes the list of former outcomes along with the new one has kept the old one.
CREATE TRIGGER evaluation_log_corrected AFTER UPDATE OF actual_result, evaluated_at ON evaluation_log
WHEN old.actual_result IS NOT NULL
    AND (new.actual_result IS NOT old.actual_result OR new.evaluated_at IS NOT old.evaluated_at)
    AND coalesce(json_array_length(new.metadata, '$.outcome_corrections'), 0)
        <= coalesce(json_array_length(old.metadata, '$.outcome_corrections'), 0)
BEGIN
    UPDATE evaluation_log SET metadata = json_set(
        CASE json_type(coalesce(new.metadata, '{}')) WHEN 'object' THEN coalesce(new.metadata, '{}')
             ELSE json_object('value', json(new.metadata)) END,
        '$.outcome_corrections',
        json_insert(
            CASE json_type(coalesce(old.metadata, '{}'), '$.outcome_corrections') WHEN 'array'
                 THEN json_extract(old.metadata, '$.outcome_corrections') ELSE '[]' END,
            '$[#]',
            json_object(
                'actual_result', old.actual_result, 'evaluated_at', old.evaluated_at,
                'replaced_at', strftime('%Y-%m-%dT%H:%M:%f', 'now') || '000+00:00',
                'replaced_by', 'SQL')))
    WHERE event_id = new.event_id;
END;
