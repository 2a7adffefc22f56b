-- The relational model, for people who think in SQL: read-only views over the records.
-- `id` is the record's uid; what a record only lists (repositories, services) has its record's uid and its own name.
-- Such entries have no time of their own either: `created_at` is their record's. Secrets (`password_hash`, `client_key`
-- and the like) are kept where no view reaches. Times are RFC 3339 text; `default_ports` and the like are JSON text.

CREATE VIEW users AS
SELECT
    r.uid AS id,
    json_extract(r.body, '$.spec.email') AS email,
    coalesce(json_extract(r.body, '$.spec.displayName'), r.name) AS name,
    json_extract(r.body, '$.spec.avatarUrl') AS avatar_url,
    coalesce(json_extract(r.body, '$.status.provider'), 'LOCAL') AS provider,
    NULL AS provider_id,
    NULL AS password_hash,
    json_extract(r.body, '$.metadata.creationTimestamp') AS created_at,
    r.updated_at AS updated_at
FROM resources r
WHERE r.kind = 'users.devsanctum.io';

CREATE VIEW groups AS
SELECT
    r.uid AS id,
    r.name AS name,
    json_extract(r.body, '$.spec.description') AS description,
    json_extract(r.body, '$.metadata.creationTimestamp') AS created_at,
    r.updated_at AS updated_at
FROM resources r
WHERE r.kind = 'groups.devsanctum.io';

CREATE VIEW group_members AS
SELECT
    r.uid AS group_id,
    u.uid AS user_id,
    coalesce(json_extract(e.value, '$.role'), 'MEMBER') AS role,
    json_extract(r.body, '$.metadata.creationTimestamp') AS created_at
FROM resources r
CROSS JOIN json_each(r.body, '$.spec.members') e
JOIN resources u ON u.kind = 'users.devsanctum.io' AND u.namespace = '' AND u.name = json_extract(e.value, '$.user')
WHERE r.kind = 'groups.devsanctum.io';

CREATE VIEW docker_servers AS
SELECT
    r.uid AS id,
    r.name AS name,
    json_extract(r.body, '$.spec.host') AS host,
    coalesce(json_extract(r.body, '$.spec.port'), 2376) AS port,
    coalesce(json_extract(r.body, '$.spec.tls.enabled'), 0) AS tls_enabled,
    NULL AS ca_cert,
    NULL AS client_cert,
    NULL AS client_key,
    coalesce(json_extract(r.body, '$.status.phase'), 'OFFLINE') AS status,
    json_extract(r.body, '$.status.cpuCores') AS cpu_cores,
    json_extract(r.body, '$.status.ramTotalMb') AS ram_total_mb,
    json_extract(r.body, '$.status.ramUsedMb') AS ram_used_mb,
    json_extract(r.body, '$.status.diskTotalGb') AS disk_total_gb,
    json_extract(r.body, '$.status.diskUsedGb') AS disk_used_gb,
    json_extract(r.body, '$.status.resourcesUpdatedAt') AS resources_updated_at,
    json_extract(r.body, '$.metadata.creationTimestamp') AS created_at,
    r.updated_at AS updated_at
FROM resources r
WHERE r.kind = 'dockerservers.devsanctum.io';

CREATE VIEW templates AS
SELECT
    r.uid AS id,
    coalesce(json_extract(r.body, '$.spec.displayName'), r.name) AS name,
    json_extract(r.body, '$.spec.description') AS description,
    coalesce(json_extract(r.body, '$.spec.base'),
        (SELECT json_extract(p.body, '$.spec.base') FROM resources p WHERE p.kind = 'templates.devsanctum.io' AND p.namespace = '' AND p.name = json_extract(r.body, '$.spec.extends')),
        'alpine') AS docker_image,
    coalesce(json_extract(r.body, '$.spec.ports'), '[]') AS default_ports,
    coalesce(json_extract(r.body, '$.spec.env'), '{}') AS default_env,
    json_extract(r.body, '$.spec.startCommand') AS start_command,
    json_extract(r.body, '$.metadata.creationTimestamp') AS created_at,
    r.updated_at AS updated_at
FROM resources r
WHERE r.kind = 'templates.devsanctum.io';

CREATE VIEW features AS
SELECT
    r.uid AS id,
    coalesce(json_extract(r.body, '$.spec.displayName'), r.name) AS name,
    json_extract(r.body, '$.spec.description') AS description,
    json_extract(r.body, '$.spec.sidecar.image') AS docker_image,
    coalesce(json_extract(r.body, '$.spec.env'), '{}') AS default_env,
    coalesce(json_extract(r.body, '$.spec.ports'), '[]') AS default_ports,
    json_extract(r.body, '$.metadata.creationTimestamp') AS created_at,
    r.updated_at AS updated_at
FROM resources r
WHERE r.kind = 'features.devsanctum.io';

CREATE VIEW projects AS
SELECT
    r.uid AS id,
    coalesce(json_extract(r.body, '$.spec.displayName'), r.name) AS name,
    json_extract(r.body, '$.spec.description') AS description,
    (SELECT o.uid FROM resources o WHERE o.kind = 'users.devsanctum.io' AND o.namespace = '' AND o.name = json_extract(r.body, '$.spec.owner')) AS owner_id,
    (SELECT o.uid FROM resources o WHERE o.kind = 'templates.devsanctum.io' AND o.namespace = '' AND o.name = json_extract(r.body, '$.spec.template')) AS template_id,
    coalesce(json_extract(r.body, '$.spec.visibility'), 'PRIVATE') AS visibility,
    json_extract(r.body, '$.metadata.creationTimestamp') AS created_at,
    r.updated_at AS updated_at
FROM resources r
WHERE r.kind = 'projects.devsanctum.io';

CREATE VIEW project_repositories AS
SELECT
    r.uid || '/' || json_extract(e.value, '$.name') AS id,
    r.uid AS project_id,
    json_extract(e.value, '$.url') AS url,
    json_extract(e.value, '$.name') AS name,
    coalesce(json_extract(e.value, '$.defaultBranch'), 'main') AS default_branch,
    json_extract(r.body, '$.metadata.creationTimestamp') AS created_at
FROM resources r
CROSS JOIN json_each(r.body, '$.spec.repositories') e
WHERE r.kind = 'projects.devsanctum.io';

CREATE VIEW project_features AS
SELECT
    r.uid AS project_id,
    f.uid AS feature_id
FROM resources r
CROSS JOIN json_each(r.body, '$.spec.features') e
JOIN resources f ON f.kind = 'features.devsanctum.io' AND f.namespace = '' AND f.name = json_extract(e.value, '$.name')
WHERE r.kind = 'projects.devsanctum.io';

CREATE VIEW project_groups AS
SELECT
    r.uid AS project_id,
    g.uid AS group_id,
    json_extract(e.value, '$.role') AS role,
    json_extract(r.body, '$.metadata.creationTimestamp') AS created_at
FROM resources r
CROSS JOIN json_each(r.body, '$.spec.groups') e
JOIN resources g ON g.kind = 'groups.devsanctum.io' AND g.namespace = '' AND g.name = json_extract(e.value, '$.group')
WHERE r.kind = 'projects.devsanctum.io';

CREATE VIEW docker_server_groups AS
SELECT
    r.uid AS docker_server_id,
    g.uid AS group_id,
    json_extract(r.body, '$.metadata.creationTimestamp') AS created_at
FROM resources r
CROSS JOIN json_each(r.body, '$.spec.groups') e
JOIN resources g ON g.kind = 'groups.devsanctum.io' AND g.namespace = '' AND g.name = e.value
WHERE r.kind = 'dockerservers.devsanctum.io';

CREATE VIEW workspaces AS
SELECT
    r.uid AS id,
    r.name AS name,
    (SELECT o.uid FROM resources o WHERE o.kind = 'projects.devsanctum.io' AND o.namespace = '' AND o.name = r.namespace) AS project_id,
    (SELECT o.uid FROM resources o WHERE o.kind = 'users.devsanctum.io' AND o.namespace = '' AND o.name = json_extract(r.body, '$.spec.owner')) AS user_id,
    (SELECT o.uid FROM resources o WHERE o.kind = 'dockerservers.devsanctum.io' AND o.namespace = '' AND o.name = json_extract(r.body, '$.status.dockerServer')) AS docker_server_id,
    json_extract(r.body, '$.status.containerId') AS container_id,
    coalesce(json_extract(r.body, '$.spec.branch'), 'main') AS branch,
    coalesce(json_extract(r.body, '$.status.phase'), 'PENDING') AS status,
    coalesce(json_extract(r.body, '$.spec.visibility'), 'PRIVATE') AS visibility,
    coalesce(json_extract(r.body, '$.spec.routeDomain'), json_extract(r.body, '$.status.slug')) AS route_domain,
    coalesce(json_extract(r.body, '$.spec.pinned'), 0) AS pinned,
    coalesce(json_extract(r.body, '$.spec.kept'), 0) AS kept,
    coalesce(json_extract(r.body, '$.status.lastActivityAt'), json_extract(r.body, '$.metadata.creationTimestamp')) AS last_activity_at,
    json_extract(r.body, '$.status.stopAt') AS stop_at,
    json_extract(r.body, '$.status.destroyAt') AS destroy_at,
    json_extract(r.body, '$.metadata.creationTimestamp') AS created_at,
    r.updated_at AS updated_at
FROM resources r
WHERE r.kind = 'workspaces.devsanctum.io';

CREATE VIEW workspace_services AS
SELECT
    r.uid || '/' || json_extract(e.value, '$.name') AS id,
    r.uid AS workspace_id,
    json_extract(e.value, '$.name') AS name,
    json_extract(e.value, '$.port') AS port,
    coalesce(json_extract(e.value, '$.protocol'), 'HTTP') AS protocol,
    json_extract(e.value, '$.url') AS url,
    json_extract(r.body, '$.metadata.creationTimestamp') AS created_at
FROM resources r
CROSS JOIN json_each(r.body, '$.status.services') e
WHERE r.kind = 'workspaces.devsanctum.io';
