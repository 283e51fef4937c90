-- What a version of the routing table changed, so that whoever has an earlier one reads no more than that.
--
-- told: how many of the versions said what they changed; one that did not (a start of the controller, or a controller
-- that knows nothing of this) leaves the difference to the version greater: then the whole table is read again.
-- certificates: the version at which what certificates are shown for changed last.
ALTER TABLE routing
    ADD COLUMN told         bigint NOT NULL DEFAULT 0,
    ADD COLUMN certificates bigint NOT NULL DEFAULT 0;

-- The version at which the route of an app changed last. Apps that are gone stay: they are what there is to learn.
-- Emptied with each start of a controller.
CREATE TABLE route_changes (
    app_id  uuid PRIMARY KEY,
    version bigint NOT NULL
);
CREATE INDEX route_changes_version ON route_changes (version);
