-- The relational model, for people who think in SQL: read-only views over the records.
-- `id` is the record's uid; what a record only lists (repositories, services) has its record's uid and its own name.
-- Such entries have no time of their own either: `created_at` is their record's. Secrets (`password_hash`, `client_key`
-- and the like) are kept where no view reaches. Times are RFC 3339 text; `default_ports` and the like are JSON text.

CREATE VIEW users AS
SELECT
    r.uid AS id,
    (r.body::json #>> '{spec,email}') AS email,
    coalesce((r.body::json #>> '{spec,displayName}'), r.name) AS name,
    (r.body::json #>> '{spec,avatarUrl}') AS avatar_url,
    coalesce((r.body::json #>> '{status,provider}'), 'LOCAL') AS provider,
    CAST(NULL AS TEXT) AS provider_id,
    CAST(NULL AS TEXT) AS password_hash,
    (r.body::json #>> '{metadata,creationTimestamp}') AS created_at,
    r.updated_at AS updated_at
FROM resources r
WHERE r.kind = 'users.devsanctum.io';

CREATE VIEW groups AS
SELECT
    r.uid AS id,
    r.name AS name,
    (r.body::json #>> '{spec,description}') AS description,
    (r.body::json #>> '{metadata,creationTimestamp}') AS created_at,
    r.updated_at AS updated_at
FROM resources r
WHERE r.kind = 'groups.devsanctum.io';

CREATE VIEW group_members AS
SELECT
    r.uid AS group_id,
    u.uid AS user_id,
    coalesce((e.value::json ->> 'role'), 'MEMBER') AS role,
    (r.body::json #>> '{metadata,creationTimestamp}') AS created_at
FROM resources r
CROSS JOIN LATERAL json_array_elements(r.body::json #> '{spec,members}') AS e (value)
JOIN resources u ON u.kind = 'users.devsanctum.io' AND u.namespace = '' AND u.name = (e.value::json ->> 'user')
WHERE r.kind = 'groups.devsanctum.io';

CREATE VIEW docker_servers AS
SELECT
    r.uid AS id,
    r.name AS name,
    (r.body::json #>> '{spec,host}') AS host,
    coalesce(CAST((r.body::json #>> '{spec,port}') AS INTEGER), 2376) AS port,
    coalesce(CAST((r.body::json #>> '{spec,tls,enabled}') AS BOOLEAN), false) AS tls_enabled,
    CAST(NULL AS TEXT) AS ca_cert,
    CAST(NULL AS TEXT) AS client_cert,
    CAST(NULL AS TEXT) AS client_key,
    coalesce((r.body::json #>> '{status,phase}'), 'OFFLINE') AS status,
    CAST((r.body::json #>> '{status,cpuCores}') AS INTEGER) AS cpu_cores,
    CAST((r.body::json #>> '{status,ramTotalMb}') AS BIGINT) AS ram_total_mb,
    CAST((r.body::json #>> '{status,ramUsedMb}') AS BIGINT) AS ram_used_mb,
    CAST((r.body::json #>> '{status,diskTotalGb}') AS DOUBLE PRECISION) AS disk_total_gb,
    CAST((r.body::json #>> '{status,diskUsedGb}') AS DOUBLE PRECISION) AS disk_used_gb,
    (r.body::json #>> '{status,resourcesUpdatedAt}') AS resources_updated_at,
    (r.body::json #>> '{metadata,creationTimestamp}') AS created_at,
    r.updated_at AS updated_at
FROM resources r
WHERE r.kind = 'dockerservers.devsanctum.io';

CREATE VIEW templates AS
SELECT
    r.uid AS id,
    coalesce((r.body::json #>> '{spec,displayName}'), r.name) AS name,
    (r.body::json #>> '{spec,description}') AS description,
    coalesce((r.body::json #>> '{spec,base}'),
        (SELECT (p.body::json #>> '{spec,base}') FROM resources p WHERE p.kind = 'templates.devsanctum.io' AND p.namespace = '' AND p.name = (r.body::json #>> '{spec,extends}')),
        'alpine') AS docker_image,
    coalesce((r.body::json #>> '{spec,ports}'), '[]') AS default_ports,
    coalesce((r.body::json #>> '{spec,env}'), '{}') AS default_env,
    (r.body::json #>> '{spec,startCommand}') AS start_command,
    (r.body::json #>> '{metadata,creationTimestamp}') AS created_at,
    r.updated_at AS updated_at
FROM resources r
WHERE r.kind = 'templates.devsanctum.io';

CREATE VIEW features AS
SELECT
    r.uid AS id,
    coalesce((r.body::json #>> '{spec,displayName}'), r.name) AS name,
    (r.body::json #>> '{spec,description}') AS description,
    (r.body::json #>> '{spec,sidecar,image}') AS docker_image,
    coalesce((r.body::json #>> '{spec,env}'), '{}') AS default_env,
    coalesce((r.body::json #>> '{spec,ports}'), '[]') AS default_ports,
    (r.body::json #>> '{metadata,creationTimestamp}') AS created_at,
    r.updated_at AS updated_at
FROM resources r
WHERE r.kind = 'features.devsanctum.io';

CREATE VIEW projects AS
SELECT
    r.uid AS id,
    coalesce((r.body::json #>> '{spec,displayName}'), r.name) AS name,
    (r.body::json #>> '{spec,description}') AS description,
    (SELECT o.uid FROM resources o WHERE o.kind = 'users.devsanctum.io' AND o.namespace = '' AND o.name = (r.body::json #>> '{spec,owner}')) AS owner_id,
    (SELECT o.uid FROM resources o WHERE o.kind = 'templates.devsanctum.io' AND o.namespace = '' AND o.name = (r.body::json #>> '{spec,template}')) AS template_id,
    coalesce((r.body::json #>> '{spec,visibility}'), 'PRIVATE') AS visibility,
    (r.body::json #>> '{metadata,creationTimestamp}') AS created_at,
    r.updated_at AS updated_at
FROM resources r
WHERE r.kind = 'projects.devsanctum.io';

CREATE VIEW project_repositories AS
SELECT
    r.uid || '/' || (e.value::json ->> 'name') AS id,
    r.uid AS project_id,
    (e.value::json ->> 'url') AS url,
    (e.value::json ->> 'name') AS name,
    coalesce((e.value::json ->> 'defaultBranch'), 'main') AS default_branch,
    (r.body::json #>> '{metadata,creationTimestamp}') AS created_at
FROM resources r
CROSS JOIN LATERAL json_array_elements(r.body::json #> '{spec,repositories}') AS e (value)
WHERE r.kind = 'projects.devsanctum.io';

CREATE VIEW project_features AS
SELECT
    r.uid AS project_id,
    f.uid AS feature_id
FROM resources r
CROSS JOIN LATERAL json_array_elements(r.body::json #> '{spec,features}') AS e (value)
JOIN resources f ON f.kind = 'features.devsanctum.io' AND f.namespace = '' AND f.name = (e.value::json ->> 'name')
WHERE r.kind = 'projects.devsanctum.io';

CREATE VIEW project_groups AS
SELECT
    r.uid AS project_id,
    g.uid AS group_id,
    (e.value::json ->> 'role') AS role,
    (r.body::json #>> '{metadata,creationTimestamp}') AS created_at
FROM resources r
CROSS JOIN LATERAL json_array_elements(r.body::json #> '{spec,groups}') AS e (value)
JOIN resources g ON g.kind = 'groups.devsanctum.io' AND g.namespace = '' AND g.name = (e.value::json ->> 'group')
WHERE r.kind = 'projects.devsanctum.io';

CREATE VIEW docker_server_groups AS
SELECT
    r.uid AS docker_server_id,
    g.uid AS group_id,
    (r.body::json #>> '{metadata,creationTimestamp}') AS created_at
FROM resources r
CROSS JOIN LATERAL json_array_elements_text(r.body::json #> '{spec,groups}') AS e (value)
JOIN resources g ON g.kind = 'groups.devsanctum.io' AND g.namespace = '' AND g.name = e.value
WHERE r.kind = 'dockerservers.devsanctum.io';

CREATE VIEW workspaces AS
SELECT
    r.uid AS id,
    r.name AS name,
    (SELECT o.uid FROM resources o WHERE o.kind = 'projects.devsanctum.io' AND o.namespace = '' AND o.name = r.namespace) AS project_id,
    (SELECT o.uid FROM resources o WHERE o.kind = 'users.devsanctum.io' AND o.namespace = '' AND o.name = (r.body::json #>> '{spec,owner}')) AS user_id,
    (SELECT o.uid FROM resources o WHERE o.kind = 'dockerservers.devsanctum.io' AND o.namespace = '' AND o.name = (r.body::json #>> '{status,dockerServer}')) AS docker_server_id,
    (r.body::json #>> '{status,containerId}') AS container_id,
    coalesce((r.body::json #>> '{spec,branch}'), 'main') AS branch,
    coalesce((r.body::json #>> '{status,phase}'), 'PENDING') AS status,
    coalesce((r.body::json #>> '{spec,visibility}'), 'PRIVATE') AS visibility,
    coalesce((r.body::json #>> '{spec,routeDomain}'), (r.body::json #>> '{status,slug}')) AS route_domain,
    coalesce(CAST((r.body::json #>> '{spec,pinned}') AS BOOLEAN), false) AS pinned,
    coalesce(CAST((r.body::json #>> '{spec,kept}') AS BOOLEAN), false) AS kept,
    coalesce((r.body::json #>> '{status,lastActivityAt}'), (r.body::json #>> '{metadata,creationTimestamp}')) AS last_activity_at,
    (r.body::json #>> '{status,stopAt}') AS stop_at,
    (r.body::json #>> '{status,destroyAt}') AS destroy_at,
    (r.body::json #>> '{metadata,creationTimestamp}') AS created_at,
    r.updated_at AS updated_at
FROM resources r
WHERE r.kind = 'workspaces.devsanctum.io';

CREATE VIEW workspace_services AS
SELECT
    r.uid || '/' || (e.value::json ->> 'name') AS id,
    r.uid AS workspace_id,
    (e.value::json ->> 'name') AS name,
    CAST((e.value::json ->> 'port') AS INTEGER) AS port,
    coalesce((e.value::json ->> 'protocol'), 'HTTP') AS protocol,
    (e.value::json ->> 'url') AS url,
    (r.body::json #>> '{metadata,creationTimestamp}') AS created_at
FROM resources r
CROSS JOIN LATERAL json_array_elements(r.body::json #> '{status,services}') AS e (value)
WHERE r.kind = 'workspaces.devsanctum.io';
