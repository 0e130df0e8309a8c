-- What is watched: accuracy per day, alerts of decay, learning cycles, what happened, and leases.

CREATE TABLE prediction_accuracy_daily (
    model_name TEXT NOT NULL CHECK (model_name <> ''),
    day        TEXT NOT NULL CHECK (length(day) = 10),
    model_id   TEXT NOT NULL DEFAULT '',
    evaluated  INTEGER NOT NULL CHECK (evaluated >= 0),
    correct    INTEGER NOT NULL CHECK (correct BETWEEN 0 AND evaluated),
    uncertain  INTEGER NOT NULL CHECK (uncertain BETWEEN 0 AND evaluated),
    accuracy   REAL GENERATED ALWAYS AS (
        CASE WHEN evaluated > uncertain THEN correct * 1.0 / (evaluated - uncertain) END
    ) STORED,
    log_loss   REAL,
    details    TEXT NOT NULL CHECK (json_valid(details)),
    updated_at TEXT NOT NULL CHECK (length(updated_at) = 32),
    PRIMARY KEY (model_name, day, model_id)
) STRICT;

CREATE TABLE prediction_decay_events (
    id            TEXT NOT NULL PRIMARY KEY CHECK (id <> ''),
    model_name    TEXT NOT NULL CHECK (model_name <> ''),
    model_id      TEXT,
    detected_at   TEXT NOT NULL CHECK (length(detected_at) = 32),
    updated_at    TEXT NOT NULL CHECK (length(updated_at) = 32),
    cause         TEXT NOT NULL,
    metric        TEXT NOT NULL,
    severity      TEXT NOT NULL CHECK (severity IN ('warning', 'critical', 'severe')),
    status        TEXT NOT NULL CHECK (status IN (
        'pending', 'acknowledged', 'auto_retrain_triggered', 'overridden', 'resolved')),
    baseline      REAL NOT NULL,
    recent        REAL NOT NULL,
    drop_size     REAL GENERATED ALWAYS AS (baseline - recent) STORED,
    threshold     REAL,
    baseline_rows INTEGER,
    recent_rows   INTEGER,
    window_start  TEXT CHECK (length(window_start) = 32),
    window_end    TEXT CHECK (length(window_end) = 32),
    message       TEXT NOT NULL,
    action        TEXT,
    action_state  TEXT CHECK (action_state IN ('triggered', 'succeeded', 'failed')),
    acted_at      TEXT CHECK (length(acted_at) = 32),
    attempts      INTEGER NOT NULL CHECK (attempts >= 0),
    fruitless     INTEGER NOT NULL CHECK (fruitless >= 0),
    needs_person  INTEGER NOT NULL CHECK (needs_person IN (0, 1)),
    request_id    TEXT,
    run_id        TEXT,
    resolved_at   TEXT CHECK (length(resolved_at) = 32),
    details       TEXT NOT NULL CHECK (json_valid(details))
) STRICT;

CREATE UNIQUE INDEX prediction_decay_events_one_open ON prediction_decay_events (model_name, cause)
    WHERE status IN ('pending', 'acknowledged', 'auto_retrain_triggered');

CREATE INDEX prediction_decay_events_newest
    ON prediction_decay_events (model_name, detected_at, id);

CREATE TABLE system_events (
    id         TEXT NOT NULL PRIMARY KEY CHECK (id <> ''),
    event_type TEXT NOT NULL,
    timestamp  TEXT NOT NULL CHECK (length(timestamp) = 32),
    model_name TEXT NOT NULL,
    message    TEXT NOT NULL,
    metadata   TEXT NOT NULL CHECK (json_valid(metadata))
) STRICT;

CREATE INDEX system_events_newest ON system_events (event_type, timestamp);

-- Written when someone took `system_events` away.
CREATE TABLE learning_events (
    id         TEXT NOT NULL PRIMARY KEY CHECK (id <> ''),
    event_type TEXT NOT NULL,
    created_at TEXT NOT NULL CHECK (length(created_at) = 32),
    model_name TEXT NOT NULL,
    message    TEXT NOT NULL,
    metadata   TEXT NOT NULL CHECK (json_valid(metadata))
) STRICT;

-- Written by the application; times as everywhere here, in UTC.
CREATE TABLE learning_stats (
    id          TEXT NOT NULL PRIMARY KEY DEFAULT (lower(hex(randomblob(16)))),
    timestamp   TEXT NOT NULL,
    accept_rate REAL,
    accepted    INTEGER,
    total       INTEGER,
    model_name  TEXT NOT NULL DEFAULT 'default',
    metadata    TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(metadata))
) STRICT;

CREATE INDEX learning_stats_newest ON learning_stats (model_name, timestamp);

CREATE TABLE leases (
    name     TEXT NOT NULL PRIMARY KEY,
    holder   TEXT NOT NULL,
    taken_at TEXT NOT NULL CHECK (length(taken_at) = 32),
    until    TEXT NOT NULL CHECK (length(until) = 32)
) STRICT;
