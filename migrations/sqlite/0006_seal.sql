-- Envelope encryption: a record's values are sealed with a data key of its own, which is kept wrapped with one of the
-- installation's keys. The installation's keys themselves are never here.

-- The installation's keys that are or may be in use, by id. The one with the highest `turn` wraps new data keys. `proof` is
-- a known text sealed with the key.
CREATE TABLE wrapping_keys (
    id TEXT PRIMARY KEY NOT NULL,
    turn BIGINT NOT NULL,
    nonce BLOB NOT NULL,
    proof BLOB NOT NULL
);

CREATE TABLE data_keys (
    uid TEXT PRIMARY KEY NOT NULL REFERENCES resources (uid) ON DELETE CASCADE,
    wrapped_by TEXT NOT NULL REFERENCES wrapping_keys (id),
    nonce BLOB NOT NULL,
    wrapped BLOB NOT NULL
);
CREATE INDEX data_keys_wrapped_by ON data_keys (wrapped_by);

-- 1: sealed with the installation's key itself, as before this version. 2: sealed with the record's data key.
-- `meta.key_check` is of the key that values of form 1 are sealed with; empty once there are none.
ALTER TABLE secret_values ADD COLUMN form BIGINT NOT NULL DEFAULT 1;
