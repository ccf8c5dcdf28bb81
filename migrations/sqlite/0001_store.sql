-- The journal of one plane. Everything here is also in the memory of its process; change it through the plane only.

-- One row: identity of the deployment, newest revision; tombstones up to the horizon may be gone; the fence counts epochs.
CREATE TABLE counter (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    cluster  TEXT    NOT NULL,
    revision INTEGER NOT NULL DEFAULT 0,
    horizon  INTEGER NOT NULL DEFAULT 0,
    fence    INTEGER NOT NULL DEFAULT 0
) STRICT;

-- One row for each start of the process.
CREATE TABLE epochs (
    position       INTEGER PRIMARY KEY AUTOINCREMENT,
    id             TEXT    NOT NULL UNIQUE,
    first_revision INTEGER NOT NULL,
    opened         TEXT    NOT NULL
) STRICT;

-- mesh: empty for kinds beside the meshes. owner: empty for the global plane, else the identity of a zone.
-- spec: JSON as its author's plane wrote it. computed: JSON that is laid over it on reading. hash: of labels and joined spec.
CREATE TABLE resources (
    kind       TEXT    NOT NULL,
    mesh       TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    owner      TEXT    NOT NULL,
    revision   INTEGER NOT NULL,
    version    INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    labels     TEXT    NOT NULL,
    spec       TEXT    NOT NULL,
    computed   TEXT,
    hash       BLOB    NOT NULL,
    created    TEXT    NOT NULL,
    modified   TEXT    NOT NULL,
    PRIMARY KEY (kind, mesh, name, owner)
) STRICT;
CREATE INDEX resources_by_revision ON resources (revision);

-- recorded: deleted by a person or a token; kept for 30 days, others for 24 hours.
CREATE TABLE tombstones (
    kind     TEXT    NOT NULL,
    mesh     TEXT    NOT NULL,
    name     TEXT    NOT NULL,
    owner    TEXT    NOT NULL,
    revision INTEGER NOT NULL,
    deleted  TEXT    NOT NULL,
    recorded INTEGER NOT NULL,
    PRIMARY KEY (kind, mesh, name, owner)
) STRICT;
CREATE INDEX tombstones_by_revision ON tombstones (revision);

-- What people and tokens changed; written in the transaction of the change.
CREATE TABLE history (
    revision INTEGER PRIMARY KEY,
    at       TEXT NOT NULL,
    subject  TEXT NOT NULL,
    address  TEXT,
    action   TEXT NOT NULL,
    kind     TEXT NOT NULL,
    mesh     TEXT NOT NULL,
    name     TEXT NOT NULL,
    owner    TEXT NOT NULL,
    before   TEXT,
    after    TEXT
) STRICT;
CREATE INDEX history_by_key ON history (kind, mesh, name, revision);
CREATE INDEX history_by_time ON history (at);

-- How far each peer's stream is applied here, in the peer's epoch and revision.
CREATE TABLE peer_cursors (
    peer     TEXT    PRIMARY KEY,
    epoch    TEXT    NOT NULL,
    revision INTEGER NOT NULL
) STRICT;

-- Sealed keys and the like.
CREATE TABLE blobs (
    name     TEXT PRIMARY KEY,
    bytes    BLOB NOT NULL,
    modified TEXT NOT NULL
) STRICT;

-- hash: SHA-256 of the secret.
CREATE TABLE join_tokens (
    id      TEXT PRIMARY KEY,
    hash    BLOB NOT NULL,
    zone    TEXT NOT NULL,
    created TEXT NOT NULL,
    expires TEXT NOT NULL,
    used    TEXT,
    uses    INTEGER NOT NULL DEFAULT 0,
    spki    BLOB
) STRICT;

CREATE TABLE zones (
    name    TEXT PRIMARY KEY,
    uid     TEXT NOT NULL UNIQUE,
    bound   TEXT NOT NULL,
    revoked TEXT
) STRICT;

CREATE TABLE zone_certificates (
    serial   TEXT PRIMARY KEY,
    zone     TEXT NOT NULL,
    instance TEXT NOT NULL,
    spki     BLOB NOT NULL,
    issued   TEXT NOT NULL,
    expires  TEXT NOT NULL,
    revoked  TEXT
) STRICT;
CREATE INDEX zone_certificates_by_zone ON zone_certificates (zone);

-- The newest heartbeats, insights and receipts; may be lost.
CREATE TABLE soft_state (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL,
    at    TEXT NOT NULL
) STRICT;
