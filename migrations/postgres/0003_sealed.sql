-- Secrets at rest: which key-encryption key a sealed row needs.

ALTER TABLE resources ADD COLUMN key_id text;
ALTER TABLE history ADD COLUMN key_id text;
CREATE INDEX resources_by_sealing_key ON resources (key_id) WHERE key_id IS NOT NULL;
CREATE INDEX history_by_sealing_key ON history (key_id) WHERE key_id IS NOT NULL;
COMMENT ON COLUMN resources.key_id IS 'Set where the spec is sealed: {"keyId":…,"dataKey":…,"sealed":…}.';
COMMENT ON COLUMN resources.hash IS 'xxh3-128 of labels and joined spec; of a sealed row, a digest that tells nothing without the key.';
COMMENT ON COLUMN history.key_id IS 'Set where the specs in before and after are sealed.';
