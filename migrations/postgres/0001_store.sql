-- The journal of one plane. Everything here is also in memory of every process; change it through the plane only.

CREATE TABLE counter (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    cluster  uuid   NOT NULL,
    revision bigint NOT NULL DEFAULT 0,
    horizon  bigint NOT NULL DEFAULT 0,
    fence    bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);
COMMENT ON TABLE counter IS 'One row. Every commit locks it, so revisions are given in commit order.';
COMMENT ON COLUMN counter.cluster IS 'The identity of the deployment.';
COMMENT ON COLUMN counter.horizon IS 'Tombstones up to this revision may be gone.';
COMMENT ON COLUMN counter.fence IS 'Counts what changes without a revision: epochs, zones, prunings.';

CREATE TABLE epochs (
    position       bigserial PRIMARY KEY,
    id             uuid   NOT NULL UNIQUE,
    first_revision bigint NOT NULL,
    written        bigint,
    opened         timestamptz NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE epochs IS 'One row for each start of a process and each of its reconnections.';
COMMENT ON COLUMN epochs.written IS 'The last revision that this process wrote in this epoch.';

CREATE TABLE resources (
    kind       text COLLATE "C" NOT NULL,
    mesh       text COLLATE "C" NOT NULL,
    name       text COLLATE "C" NOT NULL,
    owner      text COLLATE "C" NOT NULL,
    revision   bigint NOT NULL,
    version    bigint NOT NULL,
    generation bigint NOT NULL,
    labels     jsonb  NOT NULL,
    spec       text   NOT NULL,
    computed   text,
    hash       bytea  NOT NULL,
    created    timestamptz NOT NULL,
    modified   timestamptz NOT NULL,
    PRIMARY KEY (kind, mesh, name, owner)
);
CREATE INDEX resources_by_revision ON resources (revision);
COMMENT ON COLUMN resources.mesh IS 'Empty for kinds beside the meshes.';
COMMENT ON COLUMN resources.owner IS 'Empty for the global plane, else the identity of a zone.';
COMMENT ON COLUMN resources.spec IS 'JSON as its author''s plane wrote it, byte for byte; see the view documents.';
COMMENT ON COLUMN resources.computed IS 'JSON that the owner''s plane computes; laid over the spec on reading.';
COMMENT ON COLUMN resources.hash IS 'xxh3-128 of labels and joined spec.';

CREATE TABLE tombstones (
    kind     text COLLATE "C" NOT NULL,
    mesh     text COLLATE "C" NOT NULL,
    name     text COLLATE "C" NOT NULL,
    owner    text COLLATE "C" NOT NULL,
    revision bigint NOT NULL,
    deleted  timestamptz NOT NULL,
    recorded boolean NOT NULL,
    PRIMARY KEY (kind, mesh, name, owner)
);
CREATE INDEX tombstones_by_revision ON tombstones (revision);
COMMENT ON COLUMN tombstones.recorded IS 'Deleted by a person or a token: kept for 30 days, others for 24 hours.';

CREATE TABLE history (
    revision bigint PRIMARY KEY,
    at       timestamptz NOT NULL,
    subject  text NOT NULL,
    address  text,
    action   text NOT NULL,
    kind     text COLLATE "C" NOT NULL,
    mesh     text COLLATE "C" NOT NULL,
    name     text COLLATE "C" NOT NULL,
    owner    text COLLATE "C" NOT NULL,
    before   text,
    after    text
);
CREATE INDEX history_by_key ON history (kind, mesh, name, revision);
CREATE INDEX history_by_time ON history (at);
COMMENT ON TABLE history IS 'What people and tokens changed; written in the transaction of the change.';

CREATE TABLE peer_cursors (
    peer     text COLLATE "C" PRIMARY KEY,
    epoch    uuid   NOT NULL,
    revision bigint NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE peer_cursors IS 'How far each peer''s stream is applied here, in the peer''s epoch and revision.';

CREATE TABLE blobs (
    name     text COLLATE "C" PRIMARY KEY,
    bytes    bytea NOT NULL,
    modified timestamptz NOT NULL
);
COMMENT ON TABLE blobs IS 'Sealed keys and the like.';

CREATE TABLE join_tokens (
    id      text PRIMARY KEY,
    hash    bytea NOT NULL,
    zone    text NOT NULL,
    created timestamptz NOT NULL,
    expires timestamptz NOT NULL,
    used    timestamptz,
    uses    integer NOT NULL DEFAULT 0,
    spki    bytea
);
COMMENT ON COLUMN join_tokens.hash IS 'SHA-256 of the secret.';

CREATE TABLE zones (
    name    text COLLATE "C" PRIMARY KEY,
    uid     uuid NOT NULL UNIQUE,
    bound   timestamptz NOT NULL,
    revoked timestamptz
);

CREATE TABLE zone_certificates (
    serial   text PRIMARY KEY,
    zone     uuid NOT NULL,
    instance text NOT NULL,
    spki     bytea NOT NULL,
    issued   timestamptz NOT NULL,
    expires  timestamptz NOT NULL,
    revoked  timestamptz
);
CREATE INDEX zone_certificates_by_zone ON zone_certificates (zone);

CREATE TABLE soft_state (
    key   text COLLATE "C" PRIMARY KEY,
    value bytea NOT NULL,
    at    timestamptz NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE soft_state IS 'The newest heartbeats, insights and receipts; may be lost.';

-- A text that Postgres cannot hold as jsonb (U+0000, huge numbers) is still a good spec, so the view must not fail on it.
CREATE FUNCTION jsonb_or_null(document text) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN document::jsonb;
EXCEPTION WHEN others THEN
    RETURN NULL;
END $$;

CREATE VIEW documents AS
SELECT r.kind, r.mesh, r.name, coalesce(z.name, r.owner) AS owner, r.revision, r.version, r.labels,
       jsonb_or_null(r.spec) || coalesce(jsonb_or_null(r.computed), '{}') AS spec, r.created, r.modified
FROM resources r LEFT JOIN zones z ON r.owner = z.uid::text;
COMMENT ON VIEW documents IS 'Resources as readers see them, with specs as jsonb.';
