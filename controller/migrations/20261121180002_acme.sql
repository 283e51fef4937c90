-- How we are known to a certificate authority: a key, sealed; the account is found by it.
CREATE TABLE acme_accounts (
    directory text PRIMARY KEY,
    uuid      uuid NOT NULL,
    key_id    text NOT NULL,
    sealed    bytea NOT NULL,
    created   timestamptz NOT NULL DEFAULT now()
);

-- How far fetching a certificate for a domain has come. order_url: the order at the authority of that directory. uuid,
-- key_id, sealed: the private key of the certificate that was asked for. token, answer: what the authority asks the
-- domain for, and is to hear.
CREATE TABLE acme_orders (
    domain       text PRIMARY KEY REFERENCES domains ON DELETE CASCADE,
    directory    text NOT NULL,
    order_url    text,
    uuid         uuid,
    key_id       text,
    sealed       bytea,
    token        text,
    answer       text,
    failures     integer NOT NULL DEFAULT 0,
    next_attempt timestamptz NOT NULL DEFAULT now(),
    updated      timestamptz NOT NULL DEFAULT now(),
    CHECK ((token IS NULL) = (answer IS NULL)),
    CHECK ((sealed IS NULL) = (key_id IS NULL) AND (sealed IS NULL) = (uuid IS NULL))
);
