-- Events that were erased. Only a hash of the id is kept, so that they do not come back.
CREATE TABLE evaluation_log_erased (
    event_hash TEXT NOT NULL PRIMARY KEY CHECK (length(event_hash) = 64),
    model_name TEXT NOT NULL,
    erased_at  TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f', 'now') || '000+00:00')
) STRICT;
