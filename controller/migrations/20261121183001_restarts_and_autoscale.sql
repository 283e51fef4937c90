-- How often the process of an instance was started again, for whatever reason.
ALTER TABLE instances ADD COLUMN restarts integer NOT NULL DEFAULT 0;

-- By process type: {"min", "max", "cpu_percent"}.
ALTER TABLE settings ADD COLUMN autoscale jsonb NOT NULL DEFAULT '{}';
CREATE INDEX settings_autoscaled ON settings (app_id) WHERE autoscale <> '{}';
