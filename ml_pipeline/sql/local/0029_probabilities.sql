-- What an answer was made of: a JSON object from each class to its probability.
ALTER TABLE evaluation_log ADD COLUMN probabilities TEXT
    CHECK (probabilities IS NULL OR json_valid(probabilities));
