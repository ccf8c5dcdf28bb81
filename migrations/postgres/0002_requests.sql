-- Repeated requests, revoked tokens, and the audit.

CREATE TABLE once (
    subject  text COLLATE "C" NOT NULL,
    key      text COLLATE "C" NOT NULL,
    request  bytea  NOT NULL,
    revision bigint NOT NULL,
    outcomes bytea  NOT NULL,
    at       timestamptz NOT NULL,
    PRIMARY KEY (subject, key)
);
CREATE INDEX once_by_time ON once (at);
COMMENT ON TABLE once IS 'Batches that are not done again when their request is repeated; kept for 24 hours.';
COMMENT ON COLUMN once.request IS 'SHA-256 of method, path, query and body.';
COMMENT ON COLUMN once.outcomes IS 'One letter for each write: c created, u updated, = unchanged, d deleted, - absent.';

CREATE TABLE revoked_tokens (
    jti        text COLLATE "C" PRIMARY KEY,
    until      timestamptz NOT NULL,
    at         timestamptz NOT NULL,
    revoked_by text NOT NULL
);
COMMENT ON TABLE revoked_tokens IS 'Tokens that end before their time; a row goes when its token has ended by itself.';

CREATE TABLE audit (
    position   bigserial PRIMARY KEY,
    chain      uuid   NOT NULL,
    sequence   bigint NOT NULL,
    previous   bytea  NOT NULL,
    hash       bytea  NOT NULL,
    at         timestamptz NOT NULL,
    revision   bigint,
    request_id text,
    subject    text NOT NULL,
    method     text NOT NULL,
    address    text,
    verb       text NOT NULL,
    object     text NOT NULL,
    before     bytea,
    after      bytea,
    decision   text NOT NULL,
    reason     text
);
COMMENT ON TABLE audit IS 'What people and tokens asked for; append only. Each row is chained to the one before by its hash.';
COMMENT ON COLUMN audit.chain IS 'Each start of an instance and each of its reconnections begins its own chains.';
COMMENT ON COLUMN audit.hash IS 'SHA-256 over the row and previous.';
COMMENT ON COLUMN audit.before IS 'The content hash of the resource before; of a sealed one, a hash of what is stored.';

CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit is append only';
END $$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();

CREATE TABLE audit_chains (
    chain  uuid PRIMARY KEY,
    length bigint NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE audit_chains IS 'How many rows each chain has, so that rows missing at its end are noticed.';
