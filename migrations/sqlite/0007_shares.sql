-- Share links: SHA-256 of what is in the link's address, and of what a browser shows that has followed it. Of nobody where the
-- holder of the administrator token has made it. Times are milliseconds since 1970.
CREATE TABLE shares (
    id TEXT PRIMARY KEY NOT NULL,
    user_uid TEXT REFERENCES resources (uid) ON DELETE CASCADE,
    workspace_uid TEXT NOT NULL REFERENCES resources (uid) ON DELETE CASCADE,
    service TEXT NOT NULL,
    host TEXT NOT NULL,
    port BIGINT NOT NULL,
    link_hash BLOB NOT NULL UNIQUE,
    shown_hash BLOB NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX shares_user ON shares (user_uid);
CREATE INDEX shares_workspace ON shares (workspace_uid);
