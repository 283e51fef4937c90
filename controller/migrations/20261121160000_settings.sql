-- What visitors of an app meet, whatever its release. whitelist: as it was given; empty lets everybody in.
CREATE TABLE settings (
    app_id      uuid PRIMARY KEY REFERENCES apps ON DELETE CASCADE,
    uuid        uuid NOT NULL DEFAULT gen_random_uuid(),
    maintenance boolean NOT NULL DEFAULT false,
    routable    boolean NOT NULL DEFAULT true,
    whitelist   text[] NOT NULL DEFAULT '{}',
    labels      jsonb NOT NULL DEFAULT '{}',
    created     timestamptz NOT NULL DEFAULT now(),
    updated     timestamptz NOT NULL DEFAULT now()
);
INSERT INTO settings (app_id) SELECT id FROM apps;
