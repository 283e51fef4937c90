-- How visitors of an app come by TLS. https_enforced: null until somebody says. hsts: what browsers are told to remember,
-- as the API shows it. certs_auto_enabled: whether the platform fetches certificates for the app's domains.
CREATE TABLE tls (
    app_id             uuid PRIMARY KEY REFERENCES apps ON DELETE CASCADE,
    uuid               uuid NOT NULL DEFAULT gen_random_uuid(),
    https_enforced     boolean,
    hsts               jsonb,
    certs_auto_enabled boolean NOT NULL DEFAULT false,
    created            timestamptz NOT NULL DEFAULT now(),
    updated            timestamptz NOT NULL DEFAULT now()
);
INSERT INTO tls (app_id) SELECT id FROM apps;
