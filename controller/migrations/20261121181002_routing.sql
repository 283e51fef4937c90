-- What an app's owner says about its requests, and what visitors see while it is in maintenance.
ALTER TABLE settings
    ADD COLUMN routing jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN maintenance_page text;
