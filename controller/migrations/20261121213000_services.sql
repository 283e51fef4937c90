-- Process types that visitors reach by path, beside web and cmd. deployment: the one that gives the processes of a new
-- service their port; should it fail, the service goes with it.
CREATE TABLE services (
    app_id       uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    process_type text NOT NULL,
    path_pattern text NOT NULL,
    deployment   uuid REFERENCES deployments ON DELETE SET NULL,
    created      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (app_id, process_type)
);
CREATE INDEX services_deployment ON services (deployment);
