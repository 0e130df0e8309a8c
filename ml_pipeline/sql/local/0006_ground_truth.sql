-- Ground truth: labels that people gave. Never filled from the model's own predictions.
CREATE TABLE ml_data (
    id         TEXT NOT NULL PRIMARY KEY CHECK (id <> ''),
    created_at TEXT NOT NULL CHECK (length(created_at) = 32),
    model_name TEXT NOT NULL CHECK (model_name <> ''),
    query      TEXT,
    features   TEXT CHECK (features IS NULL OR json_valid(features)),
    label      TEXT,
    source     TEXT NOT NULL,
    metadata   TEXT NOT NULL CHECK (json_valid(metadata))
) STRICT;
