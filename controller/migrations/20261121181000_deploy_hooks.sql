-- Who is still to be told that a deployment has ended. target: the SHA-256 of the URL, which may hold a secret and stays in
-- the settings. A row is gone when it was told, or given up.
CREATE TABLE deploy_hooks (
    id       uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    target   bytea NOT NULL,
    app_id   uuid REFERENCES apps ON DELETE SET NULL,
    app      text NOT NULL,
    version  integer NOT NULL,
    summary  text NOT NULL,
    sha      text NOT NULL,
    username text NOT NULL,
    outcome  text NOT NULL CHECK (outcome IN ('succeeded', 'failed')),
    attempts integer NOT NULL DEFAULT 0,
    due      timestamptz NOT NULL DEFAULT now(),
    created  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX deploy_hooks_due ON deploy_hooks (target, due);
CREATE INDEX deploy_hooks_app ON deploy_hooks (app_id);
