-- Repeated requests, revoked tokens, and the audit.

-- Batches that are not done again when their request is repeated; kept for 24 hours. request: SHA-256 of method, path, query and
-- body. outcomes: one letter for each write: c created, u updated, = unchanged, d deleted, - absent.
CREATE TABLE once (
    subject  TEXT    NOT NULL,
    key      TEXT    NOT NULL,
    request  BLOB    NOT NULL,
    revision INTEGER NOT NULL,
    outcomes BLOB    NOT NULL,
    at       TEXT    NOT NULL,
    PRIMARY KEY (subject, key)
) STRICT;
CREATE INDEX once_by_time ON once (at);

-- Tokens that end before their time; a row goes when its token has ended by itself.
CREATE TABLE revoked_tokens (
    jti        TEXT PRIMARY KEY,
    until      TEXT NOT NULL,
    at         TEXT NOT NULL,
    revoked_by TEXT NOT NULL
) STRICT;

-- What people and tokens asked for; append only. Each row is chained to the one before by its hash, which is SHA-256 over the
-- row and previous. Each start begins its own chains. before, after: the content hash of the resource; of a sealed one, a hash
-- of what is stored.
CREATE TABLE audit (
    position   INTEGER PRIMARY KEY AUTOINCREMENT,
    chain      TEXT    NOT NULL,
    sequence   INTEGER NOT NULL,
    previous   BLOB    NOT NULL,
    hash       BLOB    NOT NULL,
    at         TEXT    NOT NULL,
    revision   INTEGER,
    request_id TEXT,
    subject    TEXT    NOT NULL,
    method     TEXT    NOT NULL,
    address    TEXT,
    verb       TEXT    NOT NULL,
    object     TEXT    NOT NULL,
    before     BLOB,
    after      BLOB,
    decision   TEXT    NOT NULL,
    reason     TEXT
) STRICT;
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit BEGIN SELECT raise(ABORT, 'the audit is append only'); END;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit BEGIN SELECT raise(ABORT, 'the audit is append only'); END;

-- How many rows each chain has, so that rows missing at its end are noticed.
CREATE TABLE audit_chains (
    chain  TEXT    PRIMARY KEY,
    length INTEGER NOT NULL
) STRICT;
