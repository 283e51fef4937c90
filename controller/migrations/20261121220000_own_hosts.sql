-- The platform's own hosts, the API's, are no app's domains: their orders stand beside the others, and what was fetched
-- for them has a table of its own. problem: why the last attempt came to nothing.
ALTER TABLE acme_orders
    ADD COLUMN own boolean NOT NULL DEFAULT false,
    ADD COLUMN problem text,
    ADD COLUMN app_domain text GENERATED ALWAYS AS (CASE WHEN own THEN NULL ELSE domain END) STORED
        REFERENCES domains ON DELETE CASCADE,
    DROP CONSTRAINT acme_orders_domain_fkey;
CREATE INDEX acme_orders_app_domain ON acme_orders (app_domain);

CREATE TABLE own_certificates (
    host    text PRIMARY KEY,
    uuid    uuid NOT NULL UNIQUE,
    chain   text NOT NULL,
    key_id  text NOT NULL,
    sealed  bytea NOT NULL,
    starts  timestamptz NOT NULL,
    expires timestamptz NOT NULL
);
