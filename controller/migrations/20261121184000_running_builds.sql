-- The build that runs for an app now. The builder says so again and again; one of which nothing is heard is over.
CREATE TABLE running_builds (
    app_id       uuid PRIMARY KEY REFERENCES apps ON DELETE CASCADE,
    push         uuid NOT NULL,
    seen         timestamptz NOT NULL DEFAULT now(),
    cancelled_by text
);
