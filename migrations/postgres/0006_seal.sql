-- As sqlite/0006_seal.sql.
CREATE TABLE wrapping_keys (
    id TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    turn BIGINT NOT NULL,
    nonce BYTEA NOT NULL,
    proof BYTEA NOT NULL
);

CREATE TABLE data_keys (
    uid TEXT COLLATE "C" PRIMARY KEY NOT NULL REFERENCES resources (uid) ON DELETE CASCADE,
    wrapped_by TEXT COLLATE "C" NOT NULL REFERENCES wrapping_keys (id),
    nonce BYTEA NOT NULL,
    wrapped BYTEA NOT NULL
);
CREATE INDEX data_keys_wrapped_by ON data_keys (wrapped_by);

ALTER TABLE secret_values ADD COLUMN form BIGINT NOT NULL DEFAULT 1;

-- A replica of an older version that still runs knows no forms: its writes must fail, not be taken for what they are not.
ALTER TABLE secret_values ALTER COLUMN form DROP DEFAULT;
