-- Secrets at rest: which key-encryption key a sealed row needs. Where it is set, the spec is sealed
-- ({"keyId":…,"dataKey":…,"sealed":…}), and the hash is a digest that tells nothing without the key.

ALTER TABLE resources ADD COLUMN key_id TEXT;
ALTER TABLE history ADD COLUMN key_id TEXT;
CREATE INDEX resources_by_sealing_key ON resources (key_id) WHERE key_id IS NOT NULL;
CREATE INDEX history_by_sealing_key ON history (key_id) WHERE key_id IS NOT NULL;
