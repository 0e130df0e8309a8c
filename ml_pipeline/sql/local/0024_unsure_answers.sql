-- Answers that were not given, for want of confidence, whose best guess was wrong are errors too.
CREATE INDEX evaluation_log_unsure ON evaluation_log (model_name, known_at, event_id, confidence)
    WHERE accuracy = 0.0 AND prediction = 'UNCERTAIN';
