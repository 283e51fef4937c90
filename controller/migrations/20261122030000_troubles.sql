-- What keeps an instance from being ready, in the few words that begin what the engine says of it; it is told in the app's log
-- when it changes.
ALTER TABLE instances ADD COLUMN trouble text;
