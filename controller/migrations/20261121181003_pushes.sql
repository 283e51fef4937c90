-- The push that a build came from: who asks twice for one push gets one release.
ALTER TABLE builds ADD COLUMN push uuid;
CREATE UNIQUE INDEX builds_push ON builds (app_id, push) WHERE push IS NOT NULL;
