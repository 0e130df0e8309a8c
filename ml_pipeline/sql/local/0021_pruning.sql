-- When the bytes of a model were given up; its row and its history stay.
ALTER TABLE model_metadata ADD COLUMN pruned_at TEXT CHECK (length(pruned_at) = 32);
