-- Which version a learning cycle is about; applications wrote it into the metadata before.
ALTER TABLE learning_stats ADD COLUMN model_id TEXT;

UPDATE learning_stats SET model_id = json_extract(metadata, '$.model_id')
WHERE json_type(metadata, '$.model_id') = 'text';
