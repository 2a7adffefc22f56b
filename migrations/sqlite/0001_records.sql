-- Records, what hangs on them, and the change feed. One writer task owns all writing (src/store/writer.rs).

-- One row. `revision` is the newest one given out; changes up to `compacted` are no longer kept.
-- `key_check` is a known text sealed with the secret key, so that a wrong key is noticed at the start.
CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    instance TEXT NOT NULL,
    revision BIGINT NOT NULL,
    compacted BIGINT NOT NULL,
    key_nonce BLOB NOT NULL,
    key_check BLOB NOT NULL
);

-- `links` repeats owners, references and claims in one text: most writes leave them alone, and comparing
-- one text that is read anyway costs no statement.
CREATE TABLE resources (
    uid TEXT PRIMARY KEY NOT NULL,
    kind TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    revision BIGINT NOT NULL,
    updated_at TEXT NOT NULL,
    links TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (kind, namespace, name)
);

-- The change feed. No foreign key: it outlives the records it tells of.
CREATE TABLE changes (
    revision INTEGER PRIMARY KEY NOT NULL,
    kind TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    uid TEXT NOT NULL,
    type TEXT NOT NULL CHECK (type IN ('ADDED', 'MODIFIED', 'DELETED')),
    at TEXT NOT NULL,
    previous TEXT,
    body TEXT NOT NULL
);

-- An owner may be gone before its dependents are, so `owner_uid` is no foreign key.
CREATE TABLE owners (
    owner_uid TEXT NOT NULL,
    uid TEXT NOT NULL REFERENCES resources (uid) ON DELETE CASCADE,
    PRIMARY KEY (owner_uid, uid)
) WITHOUT ROWID;
CREATE INDEX owners_uid ON owners (uid);

-- What a record refers to, by name.
CREATE TABLE refs (
    uid TEXT NOT NULL REFERENCES resources (uid) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (uid, kind, namespace, name)
) WITHOUT ROWID;
CREATE INDEX refs_to ON refs (kind, namespace, name);

-- Values only one record may hold.
CREATE TABLE claims (
    scope TEXT NOT NULL,
    value TEXT NOT NULL,
    uid TEXT NOT NULL REFERENCES resources (uid) ON DELETE CASCADE,
    PRIMARY KEY (scope, value)
) WITHOUT ROWID;
CREATE INDEX claims_uid ON claims (uid);

-- Secrets' values, sealed with AES-256-GCM; the row's place is part of what is sealed.
CREATE TABLE secret_values (
    uid TEXT NOT NULL REFERENCES resources (uid) ON DELETE CASCADE,
    key TEXT NOT NULL,
    nonce BLOB NOT NULL,
    ciphertext BLOB NOT NULL,
    PRIMARY KEY (uid, key)
);

-- Who does what there must be one of. Times are milliseconds since 1970.
CREATE TABLE leases (
    name TEXT PRIMARY KEY NOT NULL,
    holder TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);

-- SHA-256 of tokens, by the name each stands under.
CREATE TABLE tokens (
    name TEXT PRIMARY KEY NOT NULL,
    hash BLOB NOT NULL UNIQUE
);
