-- API keys of people: SHA-256 of each, and what it may be used for. Times are milliseconds since 1970.
CREATE TABLE api_keys (
    id TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    user_uid TEXT COLLATE "C" NOT NULL REFERENCES resources (uid) ON DELETE CASCADE,
    label TEXT NOT NULL,
    hash BYTEA NOT NULL UNIQUE,
    scope TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    used_at BIGINT
);
CREATE INDEX api_keys_user ON api_keys (user_uid);
