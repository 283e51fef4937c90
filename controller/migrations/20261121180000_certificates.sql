-- Certificates of domains. chain: PEM, the site's own first. sealed: the private key, as PEM, under the key that key_id
-- names; the seal is bound to uuid. managed: fetched by the platform for one domain, and renewed by it.
CREATE TABLE certificates (
    id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    uuid        uuid NOT NULL UNIQUE,
    name        text NOT NULL UNIQUE,
    owner_id    uuid NOT NULL REFERENCES users,
    chain       text NOT NULL,
    key_id      text NOT NULL,
    sealed      bytea NOT NULL,
    common_name text,
    san         text[] NOT NULL,
    fingerprint text NOT NULL,
    issuer      text NOT NULL,
    subject     text NOT NULL,
    starts      timestamptz NOT NULL,
    expires     timestamptz NOT NULL,
    managed     boolean NOT NULL DEFAULT false,
    created     timestamptz NOT NULL DEFAULT now(),
    updated     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX certificates_owner ON certificates (owner_id);

ALTER TABLE domains ADD COLUMN certificate integer REFERENCES certificates ON DELETE SET NULL;
CREATE INDEX domains_certificate ON domains (certificate) WHERE certificate IS NOT NULL;
