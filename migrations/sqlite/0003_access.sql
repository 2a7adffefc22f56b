-- API keys of people: SHA-256 of each, and what it may be used for. Times are milliseconds since 1970.
CREATE TABLE api_keys (
    id TEXT PRIMARY KEY NOT NULL,
    user_uid TEXT NOT NULL REFERENCES resources (uid) ON DELETE CASCADE,
    label TEXT NOT NULL,
    hash BLOB NOT NULL UNIQUE,
    scope TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    used_at BIGINT
);
CREATE INDEX api_keys_user ON api_keys (user_uid);

-- What people prove themselves by: their passwords' Argon2id hashes, with their parameters and salts.
CREATE TABLE credentials (
    user_uid TEXT PRIMARY KEY NOT NULL REFERENCES resources (uid) ON DELETE CASCADE,
    hash TEXT NOT NULL,
    changed_at BIGINT NOT NULL
);

-- Who is signed in: SHA-256 of what a browser shows. One of a workspace's own host is the child of one of the panel, and
-- ends with it.
CREATE TABLE sessions (
    hash BLOB PRIMARY KEY NOT NULL,
    id TEXT NOT NULL UNIQUE,
    parent BLOB,
    user_uid TEXT NOT NULL REFERENCES resources (uid) ON DELETE CASCADE,
    workspace_uid TEXT,
    created_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    address TEXT NOT NULL,
    agent TEXT NOT NULL
);
CREATE INDEX sessions_user ON sessions (user_uid);
CREATE INDEX sessions_parent ON sessions (parent);

-- What works once, and not for long: links to set a password, codes between the panel and a workspace's host.
CREATE TABLE one_time (
    hash BLOB PRIMARY KEY NOT NULL,
    purpose TEXT NOT NULL,
    user_uid TEXT REFERENCES resources (uid) ON DELETE CASCADE,
    body TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);
