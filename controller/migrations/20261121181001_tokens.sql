-- A token that was made by name is found by it. Logins make tokens without one.
CREATE UNIQUE INDEX tokens_name ON tokens (user_id, name) WHERE name <> '';

-- Whoever may do less than a moment ago: open streams look again whether they may go on.
CREATE FUNCTION tell_of_lost_access() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_notify('paas_access', ''); RETURN NULL; END $$;
CREATE TRIGGER tokens_were_removed AFTER DELETE ON tokens FOR EACH ROW EXECUTE FUNCTION tell_of_lost_access();
CREATE TRIGGER collaborators_were_removed AFTER DELETE ON collaborators FOR EACH ROW EXECUTE FUNCTION tell_of_lost_access();
CREATE TRIGGER users_were_demoted AFTER UPDATE OF is_superuser ON users FOR EACH ROW
    WHEN (OLD.is_superuser AND NOT NEW.is_superuser) EXECUTE FUNCTION tell_of_lost_access();
CREATE TRIGGER apps_were_taken_away AFTER UPDATE OF owner_id, name ON apps FOR EACH ROW
    WHEN (OLD.owner_id <> NEW.owner_id OR NEW.name IS NULL) EXECUTE FUNCTION tell_of_lost_access();
