-- Whom a provider of sign-in knows as whom: a person there is its issuer and its subject, whatever their e-mail address.
CREATE TABLE identities (
    issuer TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    user_uid TEXT COLLATE "C" NOT NULL REFERENCES resources (uid) ON DELETE CASCADE,
    provider TEXT NOT NULL,
    login TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    used_at BIGINT NOT NULL,
    PRIMARY KEY (issuer, subject)
);
CREATE INDEX identities_user ON identities (user_uid);

-- Mail that is still to be sent. A secret that it brings is made when it is sent, and is not in here.
CREATE TABLE outbox (
    purpose TEXT COLLATE "C" NOT NULL,
    recipient TEXT COLLATE "C" NOT NULL,
    body TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    error TEXT NOT NULL,
    PRIMARY KEY (purpose, recipient)
);
CREATE INDEX outbox_next ON outbox (next_at);
