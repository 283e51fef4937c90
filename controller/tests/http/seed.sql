-- A platform that has been used for long: {users} users, {apps} apps, {releases} releases of each, and all that goes with
-- them. What is sealed in it cannot be opened.
INSERT INTO users (username, password_hash, is_superuser)
    SELECT 'seeded-' || n, '', n = 1 FROM generate_series(1, {users}) n;
INSERT INTO tokens (user_id, hash, name)
    SELECT id, sha256((username || part)::bytea), CASE part WHEN 1 THEN 'ci' ELSE '' END
    FROM users, generate_series(1, 3) part WHERE username LIKE 'seeded-%';
INSERT INTO keys (user_id, name, public, fingerprint_md5, fingerprint_sha256)
    SELECT id, username, username, username, username FROM users WHERE username LIKE 'seeded-%';
INSERT INTO apps (name, last_name, owner_id, formation)
    SELECT 'seeded-' || n, 'seeded-' || n, u.id, '{"web": 1}'
    FROM generate_series(1, {apps}) n JOIN users u ON u.username = 'seeded-' || (1 + n % {users});
CREATE TEMPORARY TABLE seeded AS SELECT * FROM apps WHERE name LIKE 'seeded-%';
INSERT INTO collaborators (app_id, user_id)
    SELECT a.id, u.id FROM seeded a JOIN users u ON u.username = a.name WHERE u.id <> a.owner_id;
INSERT INTO certificates (uuid, name, owner_id, chain, key_id, sealed, san, fingerprint, issuer, subject, starts, expires)
    SELECT gen_random_uuid(), name, owner_id, '', 'seeded', '', '{}', name, '', '', now(), now() FROM seeded;
INSERT INTO domains (app_id, domain, owner_id, certificate)
    SELECT a.id, a.name || part, a.owner_id, CASE part WHEN '' THEN NULL ELSE c.id END
    FROM seeded a JOIN certificates c ON c.name = a.name, (VALUES (''), ('.example.test')) parts (part);
INSERT INTO settings (app_id) SELECT id FROM seeded;
INSERT INTO services (app_id, process_type, path_pattern) SELECT id, 'hooks', '/hooks' FROM seeded;
INSERT INTO tls (app_id) SELECT id FROM seeded;
INSERT INTO acme_orders (domain, directory) SELECT name || '.example.test', 'seeded' FROM seeded;
INSERT INTO configs (app_id, owner_id, key_id, sealed)
    SELECT id, owner_id, 'seeded', '' FROM seeded, generate_series(1, {releases});
INSERT INTO builds (app_id, owner_id, image, reference)
    SELECT id, owner_id, 'example/web:1', 'example/web:1' FROM seeded, generate_series(1, {releases});
INSERT INTO releases (app_id, version, owner_id, build, config, summary, failed_summary)
    SELECT c.app_id, c.n, c.owner_id, b.uuid, c.uuid, 'seeded', 'seeded'
    FROM (SELECT *, row_number() OVER (PARTITION BY app_id) n FROM configs WHERE key_id = 'seeded') c
    JOIN (SELECT *, row_number() OVER (PARTITION BY app_id) n FROM builds) b ON b.app_id = c.app_id AND b.n = c.n;
INSERT INTO deployments (app_id, kind, version, previous_formation, status, reason, timeout_seconds, finished)
    SELECT r.app_id, 'release', r.version, '{}', CASE WHEN r.version % 10 = 0 THEN 'failed' ELSE 'succeeded' END,
        CASE WHEN r.version % 10 = 0 THEN 'seeded' END, 120, now()
    FROM releases r JOIN seeded a ON a.id = r.app_id;
INSERT INTO events (app_id, level, message)
    SELECT r.app_id, 'INFO', 'seeded' FROM releases r JOIN seeded a ON a.id = r.app_id;
INSERT INTO instances (name, app_id, process_type, version, state)
    SELECT name || '-web-1-00000', id, 'web', {releases}, 'up' FROM seeded;
INSERT INTO one_offs (id, name, app_id, user_id, version, key_id, sealed, detached, limit_seconds)
    SELECT gen_random_uuid(), name || '-run-00000', id, owner_id, 1, 'seeded', '', true, 60 FROM seeded;
INSERT INTO deploy_hooks (target, app_id, app, version, summary, sha, username, outcome)
    SELECT decode(md5(name), 'hex'), id, name, 1, '', '', '', 'succeeded' FROM seeded;
INSERT INTO running_builds (app_id, push) SELECT id, gen_random_uuid() FROM seeded;
INSERT INTO route_changes (app_id, version) SELECT id, row_number() OVER () FROM seeded;
DROP TABLE seeded;
ANALYZE;
