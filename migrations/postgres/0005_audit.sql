-- Who wanted what, and what came of it. `at` is milliseconds since 1970. Each row hangs on the one before it: `hash` is
-- SHA-256 over `previous` and everything else (see src/audit/chain.rs).
CREATE TABLE audit (
    seq BIGINT PRIMARY KEY NOT NULL,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    how TEXT NOT NULL,
    proof TEXT NOT NULL,
    role TEXT NOT NULL,
    address TEXT NOT NULL,
    verb TEXT NOT NULL,
    kind TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    subresource TEXT NOT NULL,
    uid TEXT NOT NULL,
    code BIGINT NOT NULL,
    reason TEXT NOT NULL,
    changes TEXT NOT NULL,
    previous BYTEA NOT NULL,
    hash BYTEA NOT NULL
);
CREATE INDEX audit_at ON audit (at);

-- One row, once there is something to say: the newest row, and the one up to which older ones were pruned.
CREATE TABLE audit_head (
    one BIGINT PRIMARY KEY NOT NULL CHECK (one = 1),
    seq BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    anchor_seq BIGINT NOT NULL,
    anchor_hash BYTEA NOT NULL
);
