-- The ledger. Releases are append-only and carry no status; a deployment is the only thing with one.

CREATE TABLE installation (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    id         uuid NOT NULL,
    created    timestamptz NOT NULL DEFAULT now()
);
INSERT INTO installation (id) VALUES (gen_random_uuid());

CREATE TABLE users (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    username      text NOT NULL UNIQUE,
    password_hash text NOT NULL,
    email         text NOT NULL DEFAULT '',
    first_name    text NOT NULL DEFAULT '',
    last_name     text NOT NULL DEFAULT '',
    is_superuser  boolean NOT NULL DEFAULT false,
    last_login    timestamptz,
    date_joined   timestamptz NOT NULL DEFAULT now()
);

-- A token is known only by its hash.
CREATE TABLE tokens (
    id        uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id   uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    hash      bytea NOT NULL UNIQUE,
    name      text NOT NULL DEFAULT '',
    created   timestamptz NOT NULL DEFAULT now(),
    last_used timestamptz
);
CREATE INDEX tokens_user ON tokens (user_id);

CREATE TABLE keys (
    uuid               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id            uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    name               text NOT NULL UNIQUE,
    public             text NOT NULL,
    fingerprint_md5    text NOT NULL UNIQUE,
    fingerprint_sha256 text NOT NULL UNIQUE,
    created            timestamptz NOT NULL DEFAULT now(),
    updated            timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX keys_user ON keys (user_id, name);

-- An app that is being destroyed keeps its row, without its name, until nothing of it runs any more.
CREATE TABLE apps (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name          text UNIQUE,
    last_name     text NOT NULL,
    owner_id      uuid NOT NULL REFERENCES users,
    formation     jsonb NOT NULL DEFAULT '{}',
    deploy_branch text,
    created       timestamptz NOT NULL DEFAULT now(),
    updated       timestamptz NOT NULL DEFAULT now(),
    destroyed     timestamptz,
    CHECK ((name IS NULL) = (destroyed IS NOT NULL))
);
CREATE INDEX apps_owner ON apps (owner_id, name);
CREATE INDEX apps_destroyed ON apps (destroyed) WHERE destroyed IS NOT NULL;

CREATE TABLE collaborators (
    app_id  uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    created timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (app_id, user_id)
);
CREATE INDEX collaborators_user ON collaborators (user_id);

CREATE TABLE domains (
    app_id  uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    domain  text PRIMARY KEY,
    owner_id uuid NOT NULL REFERENCES users,
    created timestamptz NOT NULL DEFAULT now(),
    updated timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX domains_app ON domains (app_id, domain);

-- image: as it was given; reference: the same by digest, which is what runs.
CREATE TABLE builds (
    uuid         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    app_id       uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    owner_id     uuid NOT NULL REFERENCES users,
    image        text NOT NULL,
    reference    text NOT NULL,
    exposed_port integer CHECK (exposed_port BETWEEN 1 AND 65535),
    shell        text,
    sha          text NOT NULL DEFAULT '',
    procfile     jsonb NOT NULL DEFAULT '{}',
    dockerfile   text NOT NULL DEFAULT '',
    created      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX builds_app ON builds (app_id, created DESC);

-- sealed: the variables, enciphered under the key that key_id names. maps: the other eight, which hold no secrets but
-- registry, which is among the sealed ones.
CREATE TABLE configs (
    uuid     uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    app_id   uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    owner_id uuid NOT NULL REFERENCES users,
    key_id   text NOT NULL,
    sealed   bytea NOT NULL,
    maps     jsonb NOT NULL DEFAULT '{}',
    created  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX configs_app ON configs (app_id);

CREATE TABLE releases (
    uuid     uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    app_id   uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    version  integer NOT NULL CHECK (version >= 1),
    owner_id uuid NOT NULL REFERENCES users,
    build    uuid REFERENCES builds,
    config   uuid NOT NULL REFERENCES configs,
    summary  text NOT NULL,
    failed_summary text NOT NULL,
    created  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (app_id, version)
);
CREATE INDEX releases_build ON releases (build);
CREATE INDEX releases_config ON releases (config);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'a row of % is never changed', TG_TABLE_NAME; END $$;
CREATE TRIGGER releases_are_append_only BEFORE UPDATE ON releases FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER builds_are_append_only BEFORE UPDATE ON builds FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- kind release: moves the app to a release. kind scale: moves it to a formation. kind restart: replaces instances.
CREATE TABLE deployments (
    id                 uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    app_id             uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    kind               text NOT NULL CHECK (kind IN ('release', 'scale', 'restart')),
    version            integer NOT NULL,
    previous_formation jsonb NOT NULL,
    status             text NOT NULL CHECK (status IN ('pending', 'starting', 'switching', 'succeeded', 'failed', 'superseded')),
    reason             text,
    timeout_seconds    integer NOT NULL,
    routing_version    bigint,
    created            timestamptz NOT NULL DEFAULT now(),
    started            timestamptz,
    finished           timestamptz,
    FOREIGN KEY (app_id, version) REFERENCES releases (app_id, version) ON DELETE CASCADE,
    CHECK ((status IN ('succeeded', 'failed', 'superseded')) = (finished IS NOT NULL)),
    CHECK ((status = 'failed') = (reason IS NOT NULL))
);
CREATE UNIQUE INDEX deployments_one_active ON deployments (app_id) WHERE status IN ('pending', 'starting', 'switching');
CREATE INDEX deployments_release ON deployments (app_id, version, kind, status);

-- The processes that shall exist. state 'stopping' is gone when the scheduler has nothing of that name any more.
CREATE TABLE instances (
    name         text PRIMARY KEY,
    app_id       uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    process_type text NOT NULL,
    version      integer NOT NULL,
    state        text NOT NULL CHECK (state IN ('starting', 'up', 'crashed', 'draining', 'stopping')),
    replace      boolean NOT NULL DEFAULT false,
    routed       boolean NOT NULL DEFAULT false,
    address      text,
    exits        integer NOT NULL DEFAULT 0,
    unrouted_at  bigint,
    created      timestamptz NOT NULL DEFAULT now(),
    started      timestamptz,
    changed      timestamptz NOT NULL DEFAULT now(),
    CHECK (NOT routed OR (state = 'up' AND address IS NOT NULL))
);
CREATE INDEX instances_app ON instances (app_id);
CREATE INDEX instances_routed ON instances (app_id) WHERE routed;

-- What happened, in words, for the app's log.
CREATE TABLE events (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app_id  uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    level   text NOT NULL CHECK (level IN ('INFO', 'WARN', 'ERROR')),
    message text NOT NULL,
    created timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX events_app ON events (app_id, id DESC);

-- The version of the routing table: raised by every transaction that changes what it is made of.
CREATE TABLE routing (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version  bigint NOT NULL
);
INSERT INTO routing (version) VALUES (1);

CREATE TABLE routers (
    id       text PRIMARY KEY,
    version  bigint NOT NULL,
    draining text[] NOT NULL DEFAULT '{}',
    seen     timestamptz NOT NULL DEFAULT now()
);
