CREATE TABLE link_sessions (
    peer    text COLLATE "C" PRIMARY KEY,
    session uuid NOT NULL
);
COMMENT ON TABLE link_sessions IS 'The newest session with each peer, on whichever instance: what older ones still send is not taken.';
