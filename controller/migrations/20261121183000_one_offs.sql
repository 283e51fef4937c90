-- One-off processes that run. sealed: the command line, which may hold secrets, under the key that key_id names. seen: when
-- the connection that takes part in one was alive last; one that is not detached ends with it.
CREATE TABLE one_offs (
    id            uuid PRIMARY KEY,
    name          text NOT NULL UNIQUE,
    app_id        uuid NOT NULL REFERENCES apps ON DELETE CASCADE,
    user_id       uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    version       integer NOT NULL,
    key_id        text NOT NULL,
    sealed        bytea NOT NULL,
    detached      boolean NOT NULL,
    limit_seconds integer NOT NULL,
    created       timestamptz NOT NULL DEFAULT now(),
    seen          timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX one_offs_app ON one_offs (app_id, created);
CREATE INDEX one_offs_user ON one_offs (user_id);
