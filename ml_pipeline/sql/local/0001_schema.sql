-- The embedded store: tables, columns and promises as on PostgreSQL.
-- Times are UTC text of one width (2026-01-31T02:00:00.000000+00:00), so text order is time order.

CREATE TABLE evaluation_log (
    event_id      TEXT NOT NULL PRIMARY KEY CHECK (event_id <> ''),
    timestamp     TEXT NOT NULL CHECK (length(timestamp) = 32),
    event_type    TEXT NOT NULL,
    model_name    TEXT NOT NULL CHECK (model_name <> ''),
    model_id      TEXT,
    match_id      TEXT,
    prediction    TEXT NOT NULL CHECK (prediction <> ''),
    confidence    REAL CHECK (confidence BETWEEN 0 AND 1),
    features      TEXT CHECK (features IS NULL OR json_valid(features)),
    metadata      TEXT CHECK (metadata IS NULL OR json_valid(metadata)),
    actual_result TEXT CHECK (actual_result <> ''),
    evaluated_at  TEXT CHECK (length(evaluated_at) = 32),
    accuracy      REAL GENERATED ALWAYS AS (
        CASE WHEN actual_result IS NOT NULL
             THEN CASE WHEN prediction = actual_result THEN 1.0 ELSE 0.0 END END
    ) STORED,
    status        TEXT GENERATED ALWAYS AS (
        CASE WHEN actual_result IS NULL THEN 'pending' ELSE 'evaluated' END
    ) STORED,
    known_at      TEXT GENERATED ALWAYS AS (coalesce(evaluated_at, timestamp)) STORED,
    CHECK (evaluated_at IS NULL OR actual_result IS NOT NULL)
) STRICT;

CREATE INDEX evaluation_log_labelled ON evaluation_log (model_name, known_at, event_id)
    WHERE actual_result IS NOT NULL;

CREATE INDEX evaluation_log_pending ON evaluation_log (model_name, known_at, event_id)
    WHERE actual_result IS NULL;

-- Everything the filter for error samples asks about, so that no row is read in vain.
CREATE INDEX evaluation_log_errors
    ON evaluation_log (model_name, known_at, event_id, confidence, model_id)
    WHERE accuracy = 0.0 AND prediction <> 'UNCERTAIN';

CREATE TABLE model_retraining_runs (
    id              TEXT NOT NULL PRIMARY KEY CHECK (id <> ''),
    model_name      TEXT NOT NULL CHECK (model_name <> ''),
    source          TEXT NOT NULL CHECK (source IN ('auto_daily', 'manual', 'decay_triggered')),
    status          TEXT NOT NULL CHECK (status IN ('pending', 'running', 'completed', 'failed')),
    started_at      TEXT NOT NULL CHECK (length(started_at) = 32),
    heartbeat_at    TEXT NOT NULL CHECK (length(heartbeat_at) = 32),
    completed_at    TEXT CHECK (length(completed_at) = 32),
    fine_tune_flag  INTEGER NOT NULL CHECK (fine_tune_flag IN (0, 1)),
    dataset_size    INTEGER NOT NULL CHECK (dataset_size >= 0),
    training_rows   INTEGER NOT NULL CHECK (training_rows >= 0),
    outcome         TEXT CHECK (outcome IN (
        'promoted', 'rejected', 'awaiting_approval', 'skipped_insufficient_errors',
        'skipped_no_new_data', 'failed')),
    outcome_reason  TEXT,
    error_message   TEXT,
    metrics         TEXT NOT NULL CHECK (json_valid(metrics)),
    details         TEXT NOT NULL CHECK (json_valid(details)),
    champion_id     TEXT,
    challenger_id   TEXT,
    training_digest TEXT,
    holdout_digest  TEXT,
    config_digest   TEXT,
    git_sha         TEXT,
    log_url         TEXT,
    triggered_by    TEXT
) STRICT;

CREATE UNIQUE INDEX model_retraining_runs_one_running ON model_retraining_runs (model_name)
    WHERE status = 'running';

CREATE INDEX model_retraining_runs_latest ON model_retraining_runs (model_name, started_at, id);

CREATE TABLE model_retraining_requests (
    id                TEXT NOT NULL PRIMARY KEY CHECK (id <> ''),
    model_name        TEXT NOT NULL CHECK (model_name <> ''),
    priority          TEXT NOT NULL CHECK (priority IN ('low', 'normal', 'high')),
    status            TEXT NOT NULL CHECK (status IN (
        'pending', 'processing', 'completed', 'failed', 'cancelled')),
    created_at        TEXT NOT NULL CHECK (length(created_at) = 32),
    reason            TEXT NOT NULL,
    requested_by      TEXT,
    retraining_run_id TEXT,
    attempts          INTEGER NOT NULL CHECK (attempts >= 0),
    claimed_at        TEXT CHECK (length(claimed_at) = 32),
    lease_until       TEXT CHECK (length(lease_until) = 32),
    processed_at      TEXT CHECK (length(processed_at) = 32),
    error_message     TEXT,
    priority_rank     INTEGER GENERATED ALWAYS AS (
        CASE priority WHEN 'high' THEN 0 WHEN 'normal' THEN 1 ELSE 2 END
    ) STORED,
    CHECK ((status = 'processing') = (lease_until IS NOT NULL)),
    CHECK (status <> 'processing' OR retraining_run_id IS NOT NULL)
) STRICT;

CREATE INDEX model_retraining_requests_served
    ON model_retraining_requests (model_name, priority_rank, created_at, id);

CREATE TABLE model_metadata (
    model_name           TEXT NOT NULL CHECK (model_name <> ''),
    model_id             TEXT NOT NULL CHECK (model_id <> ''),
    algorithm            TEXT NOT NULL,
    artifact_bucket      TEXT NOT NULL,
    artifact_path        TEXT NOT NULL,
    artifact_digest      TEXT NOT NULL,
    artifact_size        INTEGER NOT NULL CHECK (artifact_size >= 0),
    artifact_format      TEXT NOT NULL,
    created_at           TEXT NOT NULL CHECK (length(created_at) = 32),
    state                TEXT NOT NULL CHECK (state IN (
        'candidate', 'champion', 'shadow', 'awaiting_approval', 'retired')),
    anchor_id            TEXT NOT NULL,
    parent_id            TEXT,
    run_id               TEXT,
    confidence_threshold REAL NOT NULL CHECK (confidence_threshold BETWEEN 0 AND 1),
    metrics              TEXT NOT NULL CHECK (json_valid(metrics)),
    lineage              TEXT NOT NULL CHECK (json_valid(lineage)),
    library_versions     TEXT NOT NULL CHECK (json_valid(library_versions)),
    PRIMARY KEY (model_name, model_id)
) STRICT;

CREATE UNIQUE INDEX model_metadata_one_champion ON model_metadata (model_name)
    WHERE state = 'champion';

CREATE INDEX model_metadata_newest ON model_metadata (model_name, created_at, model_id);

CREATE TABLE model_promotion_events (
    sequence      INTEGER PRIMARY KEY,
    event_id      TEXT NOT NULL UNIQUE CHECK (event_id <> ''),
    model_name    TEXT NOT NULL,
    kind          TEXT NOT NULL CHECK (kind IN ('promotion', 'demotion', 'rollback')),
    to_model_id   TEXT NOT NULL,
    from_model_id TEXT,
    reason        TEXT NOT NULL CHECK (reason <> ''),
    actor         TEXT NOT NULL,
    created_at    TEXT NOT NULL CHECK (length(created_at) = 32),
    run_id        TEXT,
    verdict       TEXT NOT NULL CHECK (json_valid(verdict)),
    FOREIGN KEY (model_name, to_model_id) REFERENCES model_metadata (model_name, model_id),
    FOREIGN KEY (model_name, from_model_id) REFERENCES model_metadata (model_name, model_id)
) STRICT;

CREATE INDEX model_promotion_events_newest ON model_promotion_events (model_name, sequence);
