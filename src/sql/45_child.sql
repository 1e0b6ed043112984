-- 45_child.sql: what links of a parent call on a server in mode agent.  A busy parent starts thousands
-- of jobs a second through these: what it calls for each child is in C (api/child.c).
--
-- Errors: FE001 the epoch is lower than one already seen from that parent, FE002 protocols do not fit, FE003 a document is not here.

CREATE FUNCTION fleet_catalog.protocol() RETURNS integer
    LANGUAGE C IMMUTABLE AS 'MODULE_PATHNAME', 'fleet_sql_protocol';
COMMENT ON FUNCTION fleet_catalog.protocol() IS 'Version of the protocol between parents and servers in mode agent';

CREATE FUNCTION fleet_link.agent_hello(protocol integer, parent_uuid uuid, epoch bigint, parent_name text)
    RETURNS TABLE (agent_protocol integer, extension_version text, instance uuid, system_identifier bigint, timeline integer)
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.agent_hello(integer, uuid, bigint, text) IS 'For links of a parent: exchanges protocol and identity, raises the epoch';

CREATE FUNCTION fleet_catalog.agent_hello(a_protocol integer, a_parent_uuid uuid, a_epoch bigint, a_parent_name text)
    RETURNS TABLE (agent_protocol integer, extension_version text, instance uuid, system_identifier bigint, timeline integer)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    c_protocol CONSTANT integer := fleet_catalog.protocol();
    c_name     CONSTANT text := left(coalesce(a_parent_name, ''), 200);
    v_seen     boolean;
BEGIN
    PERFORM fleet_catalog.check_given('protocol', a_protocol::text, 'parent_uuid', a_parent_uuid::text, 'epoch', a_epoch::text);
    IF a_protocol <> c_protocol THEN
        RAISE EXCEPTION USING ERRCODE = 'FE002',
            MESSAGE = format('protocol version %s of the parent is not supported', a_protocol),
            DETAIL = format('This server supports version %s.', c_protocol),
            HINT = 'Update pg_fleet on both servers to the same version.';
    END IF;
    -- Nothing is written, and so no COMMIT waits for a disk, for the second of many links.
    SELECT l INTO v_seen FROM fleet_catalog.lock_parent(a_parent_uuid, a_epoch) AS l;
    IF NOT v_seen
       OR NOT EXISTS (SELECT FROM fleet_catalog.parent AS p
                       WHERE p.parent_uuid = a_parent_uuid AND p.role = fleet_catalog.caller() AND p.protocol = a_protocol
                         AND p.name = c_name AND p.last_seen > now() - interval '1 minute')
    THEN
        INSERT INTO fleet_catalog.parent (parent_uuid, role, epoch, name, protocol)
        VALUES (a_parent_uuid, fleet_catalog.caller(), a_epoch, c_name, a_protocol)
        ON CONFLICT (parent_uuid, role) DO UPDATE
           SET epoch = excluded.epoch, name = excluded.name, protocol = excluded.protocol, last_seen = now();
    END IF;
    PERFORM fleet_catalog.wake('identity', 0);
    RETURN QUERY
    SELECT c_protocol, (SELECT e.extversion FROM pg_extension AS e WHERE e.extname = 'pg_fleet'), (SELECT i.parent_uuid FROM fleet_catalog.identity AS i),
           (SELECT s.system_identifier FROM pg_control_system() AS s),
           ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer;
END
$$;

CREATE FUNCTION fleet_catalog.refuse_epoch(a_parent_uuid uuid, a_epoch bigint) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'FE001', MESSAGE = format('epoch %s of parent %s has ended', a_epoch, a_parent_uuid),
        DETAIL = coalesce((SELECT format('This server has seen epoch %s of it.', p.epoch) FROM fleet_catalog.parent AS p
                            WHERE p.parent_uuid = a_parent_uuid AND p.role = fleet_catalog.caller()),
                          'This server does not know that parent.'),
        HINT = 'An old primary, or an agent that was replaced, must not start or stop anything.';
END
$$;

-- Requests of a parent run concurrently, but not with the first hello of an epoch: one of an old epoch
-- comes either before the hello of the new one, or never.
CREATE FUNCTION fleet_catalog.lock_parent(a_parent_uuid uuid, a_epoch bigint) RETURNS boolean
    LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'fleet_sql_lock_parent';
COMMENT ON FUNCTION fleet_catalog.lock_parent(uuid, bigint) IS 'For agent_hello(): true: this epoch was seen before; false: it was not, and until COMMIT requests of the caller''s links for this parent wait; raises FE001 if a higher epoch was seen';

CREATE FUNCTION fleet_catalog.check_epoch(a_parent_uuid uuid, a_epoch bigint) RETURNS void
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'fleet_sql_check_epoch';
COMMENT ON FUNCTION fleet_catalog.check_epoch(uuid, bigint) IS 'Keeps out a hello of this parent until COMMIT; raises FE001 if a higher epoch was seen from it';

CREATE FUNCTION fleet_link.agent_start(parent_uuid uuid, epoch bigint, tokens uuid[], jobs text[], params jsonb[], contexts jsonb[] DEFAULT NULL, hashes uuid[] DEFAULT NULL)
    RETURNS TABLE (ord integer, job_run_id bigint, known boolean, sqlstate text, message text, definition uuid)
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.agent_start(uuid, bigint, uuid[], text[], jsonb[], jsonb[], uuid[])
    IS 'For links of a parent: starts jobs, each token once. contexts: fleet.context of their steps; hashes: of what agent_document() brought, null: the job of that name here; definition: the version that such a one has';

-- Snapshot of a job, or why there is none: one job's fault must not fail the others.
CREATE FUNCTION fleet_catalog.try_snapshot_job(a_name text, OUT hash uuid, OUT owner oid, OUT params jsonb, OUT err_code text, OUT err_text text)
    RETURNS record LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_job fleet_catalog.job;
BEGIN
    BEGIN
        v_job := fleet_catalog.get_job(a_name);
        hash := fleet_catalog.snapshot_job(a_name);
        PERFORM fleet_catalog.keep_snapshot(a_name, hash);
        owner := v_job.owner;
        params := v_job.params;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS err_code = RETURNED_SQLSTATE, err_text = MESSAGE_TEXT;
    END;
END
$$;

-- The snapshot of a job is the same until its row is written again, which every change of the job or
-- its steps does: so the row's version is the key.  (Not for jobs with packages in them, whose
-- changes do not touch the job.)
CREATE TABLE fleet_catalog.job_snapshot (
    job_id integer NOT NULL,
    writer xid NOT NULL,                    -- xmin and ctid of the job's row
    place  tid NOT NULL,
    owner  text NOT NULL,                   -- as the document names it
    hash   uuid NOT NULL,
    PRIMARY KEY (job_id, owner)
);
COMMENT ON TABLE fleet_catalog.job_snapshot IS 'Newest snapshot of each job that a parent started, and the version of the job from which it was made';

CREATE FUNCTION fleet_catalog.keep_snapshot(a_name text, a_hash uuid) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- No session waits here for another one: whichever comes second keeps nothing.
    IF a_hash IS NOT NULL AND pg_try_advisory_xact_lock(1179407681, hashtext(a_name)) THEN
        INSERT INTO fleet_catalog.job_snapshot AS c (job_id, writer, place, owner, hash)
        SELECT j.job_id, j.xmin, j.ctid, fleet_catalog.role_name(j.owner), a_hash FROM fleet_catalog.job AS j
         WHERE j.name = a_name AND NOT EXISTS (SELECT FROM fleet_catalog.step AS s
                                                WHERE s.job_id = j.job_id AND (s.package IS NOT NULL OR s.run_as IS NOT NULL))
            ON CONFLICT (job_id, owner) DO UPDATE SET writer = excluded.writer, place = excluded.place, hash = excluded.hash;
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.keep_snapshot(text, uuid) IS 'Records which snapshot belongs to the current version of a job';

CREATE FUNCTION fleet_catalog.agent_start(a_parent_uuid uuid, a_epoch bigint, a_tokens uuid[], a_jobs text[], a_params jsonb[], a_contexts jsonb[], a_hashes uuid[])
    RETURNS TABLE (ord integer, job_run_id bigint, known boolean, sqlstate text, message text, definition uuid)
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'fleet_sql_agent_start';
COMMENT ON FUNCTION fleet_catalog.agent_start(uuid, bigint, uuid[], text[], jsonb[], jsonb[], uuid[])
    IS 'Inserts job runs for known jobs and new tokens; leaves anything else to agent_start_any()';

-- A document that came, by its hash; FE003: it is not here, or is about to go.  Where a user is in the way of the lock that
-- keeps it, a copy of it does.
CREATE FUNCTION fleet_catalog.use_received(a_hash uuid, a_job text, OUT hash uuid, OUT owner oid, OUT params jsonb, OUT err_code text, OUT err_text text)
    RETURNS record LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_kept boolean := pg_try_advisory_xact_lock_shared(1179407681, 0);
    v_received fleet_catalog.received;
BEGIN
    SELECT c.* INTO v_received FROM fleet_catalog.received AS c WHERE c.role = fleet_catalog.caller() AND c.hash = a_hash AND c.job = a_job;
    hash := CASE WHEN v_kept THEN v_received.definition
            ELSE (SELECT fleet_catalog.store_definition('received', d.body) FROM fleet_catalog.definition AS d WHERE d.hash = v_received.definition) END;
    owner := fleet_catalog.caller();
    params := v_received.params;
    IF hash IS NULL THEN
        err_code := 'FE003';
        err_text := format('definition %s of job "%s" is not on this server', a_hash, a_job);
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.use_received(uuid, text) IS 'The document of a job that came over a link of the caller, kept until COMMIT';

-- After agent_start() has locked the parent and checked its epoch.
CREATE FUNCTION fleet_catalog.agent_start_any(a_parent_uuid uuid, a_epoch bigint, a_tokens uuid[], a_jobs text[], a_params jsonb[], a_contexts jsonb[], a_hashes uuid[])
    RETURNS TABLE (ord integer, job_run_id bigint, known boolean, sqlstate text, message text, definition uuid)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_column
DECLARE
    v_new uuid[];
    v_names text[];
    v_hashes uuid[];
    v_sqlstates text[];
    v_messages text[];
BEGIN
    WITH wanted AS MATERIALIZED (
        SELECT w.token, w.job, w.params, w.context, w.hash
          FROM unnest(a_tokens, a_jobs, a_params, a_contexts, a_hashes) AS w (token, job, params, context, hash)
         WHERE coalesce(jsonb_typeof(w.params), 'object') = 'object' AND coalesce(pg_column_size(w.params), 0) <= 1000000
           AND coalesce(jsonb_typeof(w.context), 'object') = 'object' AND coalesce(pg_column_size(w.context), 0) <= 10000
    ), job AS MATERIALIZED (
        SELECT n.name, n.named, coalesce(c.hash, s.hash, u.hash) AS hash, coalesce(j.owner, s.owner, u.owner) AS owner,
               coalesce(j.params, s.params, u.params) AS params, coalesce(s.err_code, u.err_code) AS err_code, coalesce(s.err_text, u.err_text) AS err_text
          FROM (SELECT DISTINCT w.job, w.hash FROM wanted AS w WHERE w.job IS NOT NULL) AS n (name, named)
          LEFT JOIN fleet_catalog.job AS j ON j.name = n.name AND n.named IS NULL AND fleet_catalog.may_use(j.owner)
          LEFT JOIN fleet_catalog.job_snapshot AS c
                 ON c.job_id = j.job_id AND c.owner = fleet_catalog.role_name(j.owner) AND c.writer = j.xmin AND c.place = j.ctid
                AND pg_try_advisory_xact_lock_shared(1179407681, 0) -- its document is not purged meanwhile
               -- OFFSET: so that the function is not called first and asked about afterwards
          LEFT JOIN LATERAL (SELECT t.* FROM fleet_catalog.try_snapshot_job(n.name) AS t WHERE n.named IS NULL AND c.hash IS NULL OFFSET 0) AS s ON true
          LEFT JOIN LATERAL (SELECT t.* FROM fleet_catalog.use_received(n.named, n.name) AS t WHERE n.named IS NOT NULL OFFSET 0) AS u ON true
    ), inserted AS (
        INSERT INTO fleet_catalog.job_run (token, job, definition, owner, parent_uuid, parent_role, params, context)
        SELECT w.token, w.job, j.hash, j.owner, a_parent_uuid, fleet_catalog.caller(), j.params || coalesce(w.params, '{}'), w.context
          FROM wanted AS w JOIN job AS j ON j.name = w.job AND j.named IS NOT DISTINCT FROM w.hash
         WHERE j.hash IS NOT NULL AND w.token IS NOT NULL
        ON CONFLICT (token) DO NOTHING
        RETURNING token, fleet_catalog.wake('job_run', job_run_id)
    )
    SELECT (SELECT array_agg(i.token) FROM inserted AS i),
           b.names, b.hashes, b.sqlstates, b.messages
      INTO v_new, v_names, v_hashes, v_sqlstates, v_messages
      FROM (SELECT array_agg(j.name), array_agg(j.named), array_agg(j.err_code), array_agg(j.err_text) FROM job AS j WHERE j.hash IS NULL)
           AS b (names, hashes, sqlstates, messages);
    RETURN QUERY
    SELECT w.ord::integer, r.job_run_id, r.job_run_id IS NOT NULL AND n.token IS NULL,
           CASE WHEN r.job_run_id IS NULL THEN coalesce(b.sqlstate, CASE WHEN o.token IS NOT NULL THEN '42710' WHEN w.token IS NULL OR w.job IS NULL THEN '22004' ELSE '22023' END) END,
           CASE WHEN r.job_run_id IS NULL THEN
               coalesce(b.message, CASE WHEN w.token IS NULL OR w.job IS NULL THEN 'token or job is null'
                                        WHEN o.token IS NULL THEN CASE WHEN coalesce(jsonb_typeof(w.context), 'object') <> 'object' OR pg_column_size(w.context) > 10000
                                             THEN 'the context of a job must be a JSON object of at most 10,000 bytes'
                                             ELSE 'the parameters of a job must be a JSON object of at most 1,000,000 bytes' END
                                        WHEN o.parent_uuid IS DISTINCT FROM a_parent_uuid THEN 'the token belongs to another parent'
                                        ELSE 'the token belongs to another role or job' END) END,
           CASE WHEN r.job <> '' THEN r.definition END
      FROM unnest(a_tokens, a_jobs, a_contexts, a_hashes) WITH ORDINALITY AS w (token, job, context, hash, ord)
      LEFT JOIN fleet_catalog.job_run AS o ON o.token = w.token
      -- one that was canceled before it arrived has no job
      LEFT JOIN fleet_catalog.job_run AS r
             ON r.token = w.token AND r.parent_uuid = a_parent_uuid AND r.parent_role = fleet_catalog.caller() AND r.job IN (w.job, '')
      LEFT JOIN unnest(v_new) AS n (token) ON n.token = w.token
      LEFT JOIN unnest(v_names, v_hashes, v_sqlstates, v_messages) AS b (name, hash, sqlstate, message) ON b.name = w.job AND b.hash IS NOT DISTINCT FROM w.hash
     ORDER BY w.ord;
END
$$;

CREATE FUNCTION fleet_link.agent_resume(parent_uuid uuid, epoch bigint, tokens uuid[])
    RETURNS TABLE (ord integer, job_run_id bigint, state integer, definition uuid)
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.agent_resume(uuid, bigint, uuid[]) IS 'For links of a parent: what is known of these tokens';

CREATE FUNCTION fleet_catalog.agent_resume(a_parent_uuid uuid, a_epoch bigint, a_tokens uuid[])
    RETURNS TABLE (ord integer, job_run_id bigint, state integer, definition uuid)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM fleet_catalog.check_epoch(a_parent_uuid, a_epoch);
    RETURN QUERY
    SELECT w.ord::integer, r.job_run_id, r.state::integer, CASE WHEN r.job <> '' THEN r.definition END
      FROM unnest(a_tokens) WITH ORDINALITY AS w (token, ord)
      -- What another role has begun with it is no start of this one, though it may see it.  (A user mapping may name another
      -- role now than it did at the start.)
      LEFT JOIN fleet_catalog.job_run AS r ON r.token = w.token AND r.parent_uuid = a_parent_uuid AND fleet_catalog.sees(r.owner)
                                          AND (r.parent_role = fleet_catalog.caller() OR fleet_catalog.may_use(r.owner))
     ORDER BY w.ord;
END
$$;

CREATE FUNCTION fleet_link.agent_fetch(parent_uuid uuid, epoch bigint, job_run_ids bigint[], log_after integer[])
    RETURNS TABLE (kind "char", job_run_id bigint, step_no integer, attempt integer, state integer, first_seq integer, last_seq integer,
                   row_count bigint, step text, level text, sqlstate text, message text, detail text, hint text, context text, output text,
                   started_at timestamptz, finished_at timestamptz, logged_at timestamptz, seq integer)
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.agent_fetch(uuid, bigint, bigint[], integer[])
    IS 'For links of a parent: job runs (kind j), and of their steps (s) and log lines (l) what came after log_after';

CREATE FUNCTION fleet_catalog.agent_fetch(a_parent_uuid uuid, a_epoch bigint, a_job_run_ids bigint[], a_log_after integer[])
    RETURNS TABLE (kind "char", job_run_id bigint, step_no integer, attempt integer, state integer, first_seq integer, last_seq integer,
                   row_count bigint, step text, level text, sqlstate text, message text, detail text, hint text, context text, output text,
                   started_at timestamptz, finished_at timestamptz, logged_at timestamptz, seq integer)
    LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'fleet_sql_agent_fetch';
COMMENT ON FUNCTION fleet_catalog.agent_fetch(uuid, bigint, bigint[], integer[])
    IS 'Job runs of the parent, their log lines after log_after, and their steps that do not lie wholly before it';

CREATE FUNCTION fleet_link.agent_cancel(parent_uuid uuid, epoch bigint, tokens uuid[]) RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.agent_cancel(uuid, bigint, uuid[]) IS 'For links of a parent: requests that job runs be stopped';

CREATE FUNCTION fleet_catalog.agent_cancel(a_parent_uuid uuid, a_epoch bigint, a_tokens uuid[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet_catalog.check_epoch(a_parent_uuid, a_epoch);
    WITH inserted AS (
        INSERT INTO fleet_catalog.cancel_request (job_run_id)
        SELECT r.job_run_id FROM fleet_catalog.job_run AS r
         WHERE r.token = ANY (a_tokens) AND r.parent_uuid = a_parent_uuid AND NOT fleet_catalog.is_final(r.state) AND fleet_catalog.may_cancel(r.owner)
        RETURNING job_run_id
    )
    SELECT count(fleet_catalog.wake('cancel_job_run', i.job_run_id)) INTO a_epoch FROM inserted AS i;
    -- A token that has not arrived may still be under way on a connection that is lost: its row is
    -- made now, canceled, so that the start finds it and starts nothing.  Anybody may name tokens: a role has
    -- 10,000 such rows at most, as many as slots of a server.  One that gets none is canceled when it has come.
    INSERT INTO fleet_catalog.job_run (token, job, definition, owner, parent_uuid, parent_role, state, finished_at, sqlstate, message)
    SELECT t.token, '', '00000000-0000-0000-0000-000000000000', fleet_catalog.caller(), a_parent_uuid, fleet_catalog.caller(),
           fleet_catalog.state_code('canceled'), clock_timestamp(), '57014', 'canceled before it arrived'
      FROM (SELECT DISTINCT w.token FROM unnest(a_tokens) AS w (token)
             WHERE w.token IS NOT NULL AND NOT EXISTS (SELECT FROM fleet_catalog.job_run AS r WHERE r.token = w.token)
             LIMIT 10000 - (SELECT count(*) FROM (SELECT FROM fleet_catalog.job_run AS r
                                                   WHERE r.job = '' AND r.owner = fleet_catalog.caller() LIMIT 10000) AS n)) AS t
        ON CONFLICT (token) DO NOTHING;
END
$$;

CREATE FUNCTION fleet_link.agent_acknowledge(parent_uuid uuid, tokens uuid[]) RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.agent_acknowledge(uuid, uuid[]) IS 'For links of a parent: it has durably stored the results of these';

CREATE FUNCTION fleet_catalog.agent_acknowledge(a_parent_uuid uuid, a_tokens uuid[]) RETURNS void
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'fleet_sql_agent_acknowledge';
COMMENT ON FUNCTION fleet_catalog.agent_acknowledge(uuid, uuid[]) IS 'Marks job runs of the parent that have ended: it has their results';

-- ---- deployment, on the child ------------------------------------------------------------------

CREATE FUNCTION fleet_catalog.deploy_role(a_role text) RETURNS regrole
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF a_role IS NULL THEN
        RETURN NULL;
    ELSIF a_role = '' THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = 'the role of a step of the deployed job no longer exists at the parent';
    ELSIF NOT EXISTS (SELECT FROM pg_authid AS r WHERE r.rolname = a_role) THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('role "%s" does not exist', a_role),
            HINT = 'A step of the deployed job runs as that role: create it on this server.';
    END IF;
    RETURN fleet_catalog.get_role(a_role);
END
$$;

-- What people know a parent by.
CREATE FUNCTION fleet_catalog.parent_name(a_parent_uuid uuid) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT coalesce((SELECT format('"%s" (%s)', p.name, a_parent_uuid) FROM fleet_catalog.parent AS p
                  WHERE p.parent_uuid = a_parent_uuid AND p.name <> '' ORDER BY p.last_seen DESC LIMIT 1), a_parent_uuid::text)
$$;
COMMENT ON FUNCTION fleet_catalog.parent_name(uuid) IS 'Name and uuid of a parent that has been here';

-- Makes room for a deployed definition: an older version of it is replaced, anything else stays.
CREATE FUNCTION fleet_catalog.replace_deployed(a_what text, a_name text, a_owner regrole, a_deployed_from uuid, a_parent_uuid uuid, a_replace boolean) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF a_deployed_from IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('%s "%s" already exists on this server', a_what, a_name),
            DETAIL = 'It was defined there, and a deployment replaces only what was deployed.', HINT = 'Choose another name, or drop it on this server.';
    ELSIF NOT fleet_catalog.may_use(a_owner) THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('%s "%s" belongs to another role on this server', a_what, a_name),
            DETAIL = format('It belongs to role "%s".', pg_get_userbyid(a_owner)), HINT = 'Choose another name.';
    ELSIF a_deployed_from <> a_parent_uuid AND NOT a_replace THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object',
            MESSAGE = format('%s "%s" was deployed to this server from parent %s', a_what, a_name, fleet_catalog.parent_name(a_deployed_from)),
            HINT = 'Choose another name, or use fleet.deploy_job(..., replace => true). Runs do not need it: they bring their own version.';
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.replace_deployed(text, text, regrole, uuid, uuid, boolean) IS 'Error if a deployment may not replace what is there';

CREATE FUNCTION fleet_catalog.check_count(a_list jsonb, a_what text, a_limit integer) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF jsonb_array_length(a_list) > a_limit THEN
        RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = format('the deployed definition has too many %s', a_what),
            DETAIL = format('It has %s, and at most %s are allowed.', jsonb_array_length(a_list), a_limit);
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_count(jsonb, text, integer) IS 'Raises an error if the array of a document has more elements';

-- a_in, a_task: of what is in a container, its task.
CREATE FUNCTION fleet_catalog.deploy_package_body(a_parent_uuid uuid, a_body jsonb, a_replace boolean, a_in integer DEFAULT NULL, a_task text DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_around fleet_catalog.package := fleet_catalog.get_part(a_in);
    v_name text := coalesce(v_around.name || '/' || a_task, a_body ->> 'name');
    v_old fleet_catalog.package;
    v_id integer;
BEGIN
    PERFORM fleet_catalog.deploy_package_body(a_parent_uuid, p.value, a_replace) FROM jsonb_each(a_body -> 'packages') AS p
      WHERE NOT EXISTS (SELECT FROM jsonb_array_elements(a_body -> 'tasks') AS t (task) WHERE t.task ? 'container' AND t.task ->> 'package' = p.key);
    PERFORM fleet_catalog.deploy_job_body(a_parent_uuid, j.value, a_replace) FROM jsonb_each(a_body -> 'jobs') AS j;
    PERFORM fleet_catalog.check_name('package', v_name);
    PERFORM fleet_catalog.check_params(a_body -> 'params');
    PERFORM fleet_catalog.check_count(a_body -> 'tasks', 'tasks', 10000);
    SELECT p.* INTO v_old FROM fleet_catalog.package AS p WHERE p.name = v_name FOR UPDATE;
    IF FOUND THEN -- in place: its pause and its retention are this server's
        IF v_old.root_id IS NOT NULL THEN
            PERFORM fleet_catalog.refuse_container(v_old);
        END IF;
        PERFORM fleet_catalog.replace_deployed('package', v_old.name, v_old.owner, v_old.deployed_from, a_parent_uuid, a_replace);
        v_id := v_old.package_id;
        DELETE FROM fleet_catalog.precedence AS c WHERE c.package_id = v_id;
        DELETE FROM fleet_catalog.task AS t WHERE t.package_id = v_id;
        DELETE FROM fleet_catalog.package AS p WHERE p.container_of = v_id;
        UPDATE fleet_catalog.package AS p
           SET owner = fleet_catalog.caller(), params = a_body -> 'params', overlap = coalesce(a_body ->> 'overlap', 'parallel'),
               priority = coalesce((a_body ->> 'priority')::integer, 0), deployed_from = a_parent_uuid, changed_at = now(),
               enabled = coalesce((a_body ->> 'enabled')::boolean, true), failed_if = coalesce(a_body ->> 'failed_if', 'unhandled'),
               timeout = fleet_catalog.from_microseconds((a_body ->> 'timeout_us')::bigint),
               deadline = fleet_catalog.from_microseconds((a_body ->> 'deadline_us')::bigint)
         WHERE p.package_id = v_id;
    ELSE
        INSERT INTO fleet_catalog.package (name, owner, params, overlap, priority, deployed_from, container_of, container_task, root_id, enabled, failed_if, timeout, deadline)
        VALUES (v_name, fleet_catalog.caller(), a_body -> 'params', coalesce(a_body ->> 'overlap', 'parallel'),
                coalesce((a_body ->> 'priority')::integer, 0), a_parent_uuid, a_in, a_task, coalesce(v_around.root_id, a_in),
                coalesce((a_body ->> 'enabled')::boolean, true), coalesce(a_body ->> 'failed_if', 'unhandled'),
                fleet_catalog.from_microseconds((a_body ->> 'timeout_us')::bigint), fleet_catalog.from_microseconds((a_body ->> 'deadline_us')::bigint))
        RETURNING package_id INTO v_id;
    END IF;
    INSERT INTO fleet_catalog.task (package_id, task_no, name, kind, job, server, on_group, sql, package, params, for_each, cost, item_key, throttle,
                                    completion, min_share, balance, join_type, on_lost, retries, retry_wait, retry_max, retry_states, timeout, transactional,
                                    enabled, final, catch, limits)
    SELECT v_id, x.task_no, x.name, x.kind, x.job, x.server, x.on_group, x.sql, CASE WHEN x.container THEN v_name || '/' || x.name ELSE x.package END,
           x.params, x.for_each, x.cost, x.item_key, x.throttle,
           x.completion, x.min_share, x.balance, x.join_type, x.on_lost, x.retries, fleet_catalog.from_microseconds(x.retry_wait_us),
           fleet_catalog.from_microseconds(x.retry_max_us), x.retry_states, fleet_catalog.from_microseconds(x.timeout_us),
           x.transactional, x.left_out IS NULL, coalesce(x.final, false), coalesce(x.catch, false), coalesce(x.limits, '{}')
      FROM jsonb_to_recordset(a_body -> 'tasks') AS x (
           task_no integer, name text, kind text, job text, server name, on_group text, sql text, package text, params jsonb, for_each text,
           cost text, item_key text, throttle integer, completion text, min_share double precision, balance text, join_type text, on_lost text, retries integer,
           retry_wait_us bigint, retry_max_us bigint, retry_states text[], timeout_us bigint, transactional boolean, left_out text, container boolean,
           final boolean, catch boolean, limits text[]);
    PERFORM fleet_catalog.deploy_package_body(a_parent_uuid, coalesce(a_body -> 'packages' -> (t.task ->> 'package'), '{}'), a_replace, v_id, t.task ->> 'name')
       FROM jsonb_array_elements(a_body -> 'tasks') AS t (task) WHERE t.task ? 'container';
    PERFORM fleet_catalog.use_group(g.name)
       FROM (SELECT DISTINCT t.on_group FROM fleet_catalog.task AS t WHERE t.package_id = v_id AND t.on_group IS NOT NULL ORDER BY 1) AS g (name);
    INSERT INTO fleet_catalog.precedence (package_id, from_task, to_task, on_outcome, condition)
    SELECT v_id, f.name, t.name, x.on_outcome, x.condition
      FROM jsonb_to_recordset(a_body -> 'precedence') AS x ("from" integer, "to" integer, on_outcome text, condition text)
      JOIN fleet_catalog.task AS f ON f.package_id = v_id AND f.task_no = x."from"
      JOIN fleet_catalog.task AS t ON t.package_id = v_id AND t.task_no = x."to";
    PERFORM fleet_catalog.check_package(v_id);
    PERFORM fleet_catalog.edited('package', v_id);
END
$$;

CREATE FUNCTION fleet_catalog.deploy_job_body(a_parent_uuid uuid, a_body jsonb, a_replace boolean) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_old fleet_catalog.job;
    v_id integer;
BEGIN
    PERFORM fleet_catalog.check_name('job', a_body ->> 'name');
    PERFORM fleet_catalog.check_params(a_body -> 'params');
    PERFORM fleet_catalog.check_count(a_body -> 'steps', 'steps', 1000);
    PERFORM fleet_catalog.deploy_package_body(a_parent_uuid, p.value, a_replace) FROM jsonb_each(a_body -> 'packages') AS p;
    SELECT j.* INTO v_old FROM fleet_catalog.job AS j WHERE j.name = a_body ->> 'name' FOR UPDATE;
    IF FOUND THEN
        PERFORM fleet_catalog.replace_deployed('job', v_old.name, v_old.owner, v_old.deployed_from, a_parent_uuid, a_replace);
        v_id := v_old.job_id;
        DELETE FROM fleet_catalog.step AS s WHERE s.job_id = v_id;
        UPDATE fleet_catalog.job AS j
           SET owner = fleet_catalog.caller(), params = a_body -> 'params', leaves_clean = coalesce((a_body ->> 'leaves_clean')::boolean, false),
               deployed_from = a_parent_uuid, changed_at = now(), enabled = coalesce((a_body ->> 'enabled')::boolean, true)
         WHERE j.job_id = v_id;
    ELSE
        INSERT INTO fleet_catalog.job (name, owner, params, leaves_clean, deployed_from, enabled)
        VALUES (a_body ->> 'name', fleet_catalog.caller(), a_body -> 'params', coalesce((a_body ->> 'leaves_clean')::boolean, false), a_parent_uuid,
                coalesce((a_body ->> 'enabled')::boolean, true))
        RETURNING job_id INTO v_id;
    END IF;
    INSERT INTO fleet_catalog.step (job_id, step_no, name, command, package, on_success, success_goto, on_failure, failure_goto, retries,
                                    retry_wait, retry_max, retry_states, timeout, on_unknown, transactional, single, run_as, enabled)
    SELECT v_id, x.step_no, x.name, x.command, x.package, x.on_success, x.success_goto, x.on_failure, x.failure_goto, x.retries,
           fleet_catalog.from_microseconds(x.retry_wait_us), fleet_catalog.from_microseconds(x.retry_max_us), x.retry_states,
           fleet_catalog.from_microseconds(x.timeout_us), x.on_unknown, x.transactional, x.single, fleet_catalog.deploy_role(x.run_as),
           x.left_out IS NULL
      FROM jsonb_to_recordset(a_body -> 'steps') AS x (
           step_no integer, name text, command text, package text, on_success text, success_goto text, on_failure text, failure_goto text,
           retries integer, retry_wait_us bigint, retry_max_us bigint, retry_states text[], timeout_us bigint, on_unknown text,
           transactional boolean, single boolean, run_as text, left_out text);
    PERFORM fleet_catalog.edited('job', v_id);
END
$$;

-- ---- documents that come with starts -----------------------------------------------------------

-- Rows as a document has them, by the constraints that they would meet in their table.
CREATE FUNCTION fleet_catalog.check_rows(a_table regclass, a_what text, a_rows jsonb) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c_rows CONSTANT jsonb := (
        SELECT coalesce(jsonb_agg(('{"final": false, "catch": false, "limits": []}' || x.row || CASE WHEN x.row ? 'retry_wait_us' THEN
                   jsonb_build_object('retry_wait', fleet_catalog.from_microseconds((x.row ->> 'retry_wait_us')::bigint),
                                      'retry_max', fleet_catalog.from_microseconds((x.row ->> 'retry_max_us')::bigint),
                                      'timeout', fleet_catalog.from_microseconds((x.row ->> 'timeout_us')::bigint),
                                      'enabled', NOT x.row ? 'left_out') ELSE '{}' END) - '{run_as}'::text[] ORDER BY x.n), '[]')
          FROM jsonb_array_elements(a_rows) WITH ORDINALITY AS x (row, n));
    c_holds CONSTANT text := (
        SELECT string_agg(format('coalesce((%s), true)', pg_get_expr(c.conbin, c.conrelid)), ' AND ') FROM pg_constraint AS c
         WHERE c.conrelid = a_table AND c.contype = 'c');
    c_given CONSTANT text := (
        SELECT string_agg(format('r.%I', a.attname), ', ') FROM pg_attribute AS a
         WHERE a.attrelid = a_table AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull AND a.attname NOT IN ('job_id', 'package_id'));
    v_wrong text;
BEGIN
    EXECUTE format('SELECT coalesce(to_jsonb(r)::text, ''null'') FROM jsonb_populate_recordset(NULL::%s, $1) AS r WHERE NOT (num_nulls(%s) = 0 AND %s) LIMIT 1',
                   a_table, c_given, coalesce(c_holds, 'true'))
       INTO v_wrong USING c_rows;
    IF v_wrong IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_object_definition', MESSAGE = format('the definition of the job has an invalid %s', a_what),
            DETAIL = left(v_wrong, 1000), HINT = 'This is not what pg_fleet of this version sends.';
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_rows(regclass, text, jsonb) IS 'Error if rows of a document break a constraint of the table';

CREATE FUNCTION fleet_catalog.check_received_work(a_rows jsonb) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_row record;
BEGIN
    FOR v_row IN SELECT x.* FROM jsonb_to_recordset(a_rows) AS x (name text, params jsonb, retry_wait_us bigint, retry_max_us bigint,
                                                                  timeout_us bigint, retry_states text[], run_as text) LOOP
        PERFORM fleet_catalog.check_name('step', v_row.name);
        PERFORM fleet_catalog.check_span('retry_wait', fleet_catalog.from_microseconds(v_row.retry_wait_us));
        PERFORM fleet_catalog.check_span('retry_wait_max', fleet_catalog.from_microseconds(v_row.retry_max_us));
        PERFORM fleet_catalog.check_span('timeout', fleet_catalog.from_microseconds(v_row.timeout_us), true);
        PERFORM fleet_catalog.check_retry_sqlstates(v_row.retry_states);
        IF v_row.params IS NOT NULL THEN
            PERFORM fleet_catalog.check_params(v_row.params);
        END IF;
        IF v_row.run_as IS NOT NULL THEN
            PERFORM fleet_catalog.check_run_as(fleet_catalog.caller(), fleet_catalog.deploy_role(v_row.run_as)::oid);
        END IF;
    END LOOP;
    IF (SELECT count(*) <> count(DISTINCT x ->> 'name') FROM jsonb_array_elements(a_rows) AS x) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_object_definition', MESSAGE = 'the definition of the job has two parts of the same name';
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_received_work(jsonb) IS 'Error if steps or tasks of a document that came are not what add_step() or add_task() accept';

-- The keys that it must have, and of which types; more do no harm.
CREATE FUNCTION fleet_catalog.check_received_keys(a_body jsonb, a_arrays text[], a_objects text[]) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF jsonb_typeof(a_body) IS DISTINCT FROM 'object' OR jsonb_typeof(a_body -> 'name') IS DISTINCT FROM 'string'
       OR EXISTS (SELECT FROM unnest(a_arrays) AS k (key) WHERE jsonb_typeof(a_body -> k.key) IS DISTINCT FROM 'array')
       OR EXISTS (SELECT FROM unnest(a_objects) AS k (key) WHERE jsonb_typeof(a_body -> k.key) IS DISTINCT FROM 'object')
       OR EXISTS (SELECT FROM unnest(a_arrays) AS k (key), jsonb_array_elements(a_body -> k.key) AS x WHERE jsonb_typeof(x) <> 'object') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'invalid job document',
            HINT = 'It must have the keys name, params, steps and packages.';
    END IF;
END
$$;

CREATE FUNCTION fleet_catalog.check_received_package(a_body jsonb, a_path text[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_path text[] := fleet_catalog.check_path(a_path, format('package "%s"', a_body ->> 'name'));
BEGIN
    PERFORM fleet_catalog.check_received_keys(a_body, '{tasks,precedence}', '{params,jobs,packages}');
    PERFORM fleet_catalog.check_name('package', a_body ->> 'name');
    PERFORM fleet_catalog.check_params(a_body -> 'params');
    PERFORM fleet_catalog.check_count(a_body -> 'tasks', 'tasks', 10000);
    PERFORM fleet_catalog.check_count(a_body -> 'precedence', 'precedence constraints', 1000000);
    PERFORM fleet_catalog.check_choice('overlap', coalesce(a_body ->> 'overlap', 'parallel'), 'parallel', 'skip', 'queue', 'replace');
    PERFORM fleet_catalog.check_priority(coalesce((a_body ->> 'priority')::integer, 0));
    PERFORM fleet_catalog.check_rows('fleet_catalog.task', 'task', a_body -> 'tasks');
    PERFORM fleet_catalog.check_received_work(a_body -> 'tasks');
    PERFORM fleet_catalog.check_graph(
        (SELECT coalesce(array_agg(t.task ->> 'name' ORDER BY t.n), '{}') FROM jsonb_array_elements(a_body -> 'tasks') WITH ORDINALITY AS t (task, n)),
        (SELECT coalesce(array_agg((e ->> 'from')::integer), '{}') FROM jsonb_array_elements(a_body -> 'precedence') AS e),
        (SELECT coalesce(array_agg((e ->> 'to')::integer), '{}') FROM jsonb_array_elements(a_body -> 'precedence') AS e));
    IF EXISTS (SELECT FROM jsonb_array_elements(a_body -> 'tasks') WITH ORDINALITY AS t (task, n) WHERE (t.task ->> 'task_no')::integer <> t.n - 1)
       OR EXISTS (SELECT FROM jsonb_array_elements(a_body -> 'precedence') AS e, LATERAL (VALUES (a_body -> 'tasks' -> (e ->> 'from')::integer, a_body -> 'tasks' -> (e ->> 'to')::integer)) AS x (f, t)
                   WHERE (x.f ->> 'catch')::boolean OR (x.t ->> 'catch')::boolean
                      OR coalesce((x.f ->> 'final')::boolean, false) <> coalesce((x.t ->> 'final')::boolean, false)) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_object_definition', MESSAGE = 'the tasks of the definition of the job are numbered or connected wrongly';
    END IF;
    PERFORM fleet_catalog.check_received_package(p.value, v_path) FROM jsonb_each(a_body -> 'packages') AS p;
    PERFORM fleet_catalog.check_received_job(j.value, v_path) FROM jsonb_each(a_body -> 'jobs') AS j;
END
$$;

CREATE FUNCTION fleet_catalog.check_received_job(a_body jsonb, a_path text[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_path text[] := fleet_catalog.check_path(a_path, format('job "%s"', a_body ->> 'name'));
BEGIN
    PERFORM fleet_catalog.check_received_keys(a_body, '{steps}', '{params,packages}');
    PERFORM fleet_catalog.check_name('job', a_body ->> 'name');
    PERFORM fleet_catalog.check_params(a_body -> 'params');
    PERFORM fleet_catalog.check_count(a_body -> 'steps', 'steps', 1000);
    PERFORM fleet_catalog.check_rows('fleet_catalog.step', 'step', a_body -> 'steps');
    PERFORM fleet_catalog.check_received_work(a_body -> 'steps');
    IF EXISTS (SELECT FROM jsonb_array_elements(a_body -> 'steps') WITH ORDINALITY AS s (step, n)
                WHERE (s.step ->> 'step_no')::integer <> s.n OR (s.step ->> 'success_goto_no')::integer NOT BETWEEN 1 AND jsonb_array_length(a_body -> 'steps')
                   OR (s.step ->> 'failure_goto_no')::integer NOT BETWEEN 1 AND jsonb_array_length(a_body -> 'steps')) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_object_definition', MESSAGE = 'the steps of the definition of the job are numbered wrongly';
    END IF;
    IF a_path = '{}' THEN -- one in a package of it fails when it is to run, as it does at the parent
        PERFORM fleet_catalog.check_job_body(a_body);
    END IF;
    PERFORM fleet_catalog.check_received_package(p.value, v_path) FROM jsonb_each(a_body -> 'packages') AS p;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_received_job(jsonb, text[]) IS 'Error unless this is a job''s document that the caller may execute as his own';

CREATE FUNCTION fleet_link.agent_document(parent_uuid uuid, epoch bigint, hash uuid, document text) RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.agent_document(uuid, bigint, uuid, text)
    IS 'For links of a parent: a job''s document, of this hash, for starts that name it; what they start belongs to the caller';

-- A role's newest 1,000 documents stay; of the others nothing is lost, they come again when they are needed.
CREATE FUNCTION fleet_catalog.agent_document(a_parent_uuid uuid, a_epoch bigint, a_hash uuid, a_document text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    c_most CONSTANT integer := 16 * 1024 * 1024;
    v_body jsonb;
BEGIN
    PERFORM fleet_catalog.check_epoch(a_parent_uuid, a_epoch);
    PERFORM fleet_catalog.check_given('hash', a_hash::text, 'document', left(a_document, 1));
    IF octet_length(a_document) > c_most THEN
        RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = 'the definition of the job is too large',
            DETAIL = format('It has %s bytes, and at most %s are allowed.', octet_length(a_document), c_most);
    ELSIF fleet_catalog.content_hash(a_document) <> a_hash THEN
        RAISE EXCEPTION USING ERRCODE = 'data_corrupted', MESSAGE = 'the definition of the job is not the one that its hash names',
            DETAIL = format('Its hash is %s instead of %s.', fleet_catalog.content_hash(a_document), a_hash);
    END IF;
    v_body := a_document::jsonb;
    PERFORM fleet_catalog.check_received_job(v_body, '{}');
    DELETE FROM fleet_catalog.received AS c
     WHERE c.ctid = ANY (ARRAY(SELECT o.ctid FROM fleet_catalog.received AS o WHERE o.role = fleet_catalog.caller() AND o.hash <> a_hash
                                ORDER BY o.received_at DESC, o.hash OFFSET 999 FOR UPDATE SKIP LOCKED));
    INSERT INTO fleet_catalog.received AS c (role, hash, definition, job, params, parent_uuid)
    VALUES (fleet_catalog.caller(), a_hash, fleet_catalog.store_definition('received', v_body), v_body ->> 'name', v_body -> 'params', a_parent_uuid)
    ON CONFLICT (role, hash) DO UPDATE SET definition = excluded.definition, received_at = now();
END
$$;

-- ---- and what is deployed is removed -----------------------------------------------------------

-- Packages that came with it go with it, as far as nothing else uses them.
CREATE FUNCTION fleet_catalog.undeploy_package(a_parent_uuid uuid, a_name text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_package fleet_catalog.package;
    v_jobs text[];
    v_packages text[];
BEGIN
    SELECT p.* INTO v_package FROM fleet_catalog.package AS p WHERE p.name = a_name AND p.deployed_from = a_parent_uuid AND fleet_catalog.may_use(p.owner) FOR UPDATE;
    IF NOT FOUND OR EXISTS (SELECT FROM fleet_catalog.step AS s WHERE s.package = a_name)
       OR EXISTS (SELECT FROM fleet_catalog.task AS t WHERE t.package = a_name) OR EXISTS (SELECT FROM fleet_catalog.schedule AS c WHERE c.package = a_name)
       OR EXISTS (SELECT FROM fleet_catalog.run AS r WHERE NULLIF(r.package, '') = a_name AND NOT fleet_catalog.is_final(r.state)) THEN
        RETURN;
    END IF;
    SELECT array_agg(DISTINCT t.job) FILTER (WHERE t.job IS NOT NULL), array_agg(DISTINCT t.package) FILTER (WHERE t.package IS NOT NULL)
      INTO v_jobs, v_packages FROM fleet_catalog.tree(v_package.package_id) AS r JOIN fleet_catalog.task AS t ON t.package_id = r.package_id AND t.task_no = r.task_no;
    DELETE FROM fleet_catalog.package AS p WHERE p.package_id = v_package.package_id;
    PERFORM fleet_catalog.undeploy_job_of(a_parent_uuid, j.name) FROM fleet_catalog.job AS j
      WHERE j.name = ANY (v_jobs) AND j.deployed_from = a_parent_uuid AND fleet_catalog.may_use(j.owner)
        AND NOT EXISTS (SELECT FROM fleet_catalog.users_of_job(j));
    PERFORM fleet_catalog.undeploy_package(a_parent_uuid, n.name) FROM unnest(v_packages) AS n (name);
END
$$;
COMMENT ON FUNCTION fleet_catalog.undeploy_package(uuid, text) IS 'Removes a package that was deployed from this parent, with what only it uses; nothing, if it is used';

CREATE FUNCTION fleet_catalog.undeploy_job_of(a_parent_uuid uuid, a_name text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_packages text[] := ARRAY(SELECT DISTINCT s.package FROM fleet_catalog.step AS s JOIN fleet_catalog.job AS j ON j.job_id = s.job_id
                                WHERE j.name = a_name AND s.package IS NOT NULL);
BEGIN
    DELETE FROM fleet_catalog.job AS j WHERE j.name = a_name;
    PERFORM fleet_catalog.undeploy_package(a_parent_uuid, n.name) FROM unnest(v_packages) AS n (name);
END
$$;
COMMENT ON FUNCTION fleet_catalog.undeploy_job_of(uuid, text) IS 'Removes a job, and the packages that were deployed with it';

CREATE FUNCTION fleet_catalog.undeploy_body(a_parent_uuid uuid, a_name text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_job fleet_catalog.job;
    v_users text;
BEGIN
    SELECT j.* INTO v_job FROM fleet_catalog.job AS j WHERE j.name = a_name FOR UPDATE;
    IF NOT FOUND THEN
        RETURN; -- as it was asked for
    ELSIF v_job.deployed_from IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('job "%s" was not deployed', a_name),
            DETAIL = 'It was defined on this server.', HINT = 'Drop it there with fleet.drop_job().';
    ELSIF v_job.deployed_from <> a_parent_uuid THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('job "%s" was deployed to this server from parent %s', a_name, fleet_catalog.parent_name(v_job.deployed_from)),
            HINT = 'Only that parent removes it.';
    ELSIF NOT fleet_catalog.may_use(v_job.owner) THEN
        PERFORM fleet_catalog.deny('job', a_name, v_job.owner);
    END IF;
    SELECT string_agg(u.name, ', ' ORDER BY u.name) INTO v_users
      FROM (SELECT DISTINCT u.what FROM fleet_catalog.users_of_job(v_job) AS u ORDER BY 1 LIMIT 10) AS u (name);
    IF v_users IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist', MESSAGE = format('job "%s" is used on this server', a_name),
            DETAIL = format('By %s.', v_users), HINT = 'Drop what uses it first.';
    END IF;
    SELECT string_agg(r.job_run_id::text, ', ' ORDER BY r.job_run_id) INTO v_users
      FROM (SELECT j.job_run_id FROM fleet_catalog.job_run AS j JOIN fleet_catalog.definition AS d ON d.hash = j.definition AND d.kind = 'job'
             WHERE j.job = a_name AND j.finished_at IS NULL LIMIT 10) AS r;
    IF v_users IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_in_use', MESSAGE = format('job "%s" is running on this server', a_name),
            DETAIL = format('Job runs: %s.', v_users), HINT = 'Remove it when they have ended.';
    END IF;
    PERFORM fleet_catalog.undeploy_job_of(a_parent_uuid, a_name);
END
$$;
COMMENT ON FUNCTION fleet_catalog.undeploy_body(uuid, text) IS 'Removes a job that this parent has deployed; an error if it is another''s, or is used';

CREATE FUNCTION fleet_link.agent_deploy(parent_uuid uuid, epoch bigint, document jsonb, action text DEFAULT 'deploy') RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.agent_deploy(uuid, bigint, jsonb, text)
    IS 'For links of a parent: creates or replaces the job of a document, with its packages; the caller owns them. action: deploy; replace, what another parent has deployed too; undeploy, removes it';

-- What a user of this server holds in an open transaction ends this deployment, and nothing else: other calls of the
-- parent wait on the same connection.  Another deployment of the same job, by a second server that is this database or by
-- another parent, may insert it while this one does: then there is one to be replaced, and it begins anew.
CREATE FUNCTION fleet_catalog.agent_deploy(a_parent_uuid uuid, a_epoch bigint, a_document jsonb, a_action text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    v_constraint text;
BEGIN
    PERFORM fleet_catalog.check_epoch(a_parent_uuid, a_epoch);
    PERFORM fleet_catalog.check_choice('action', a_action, 'deploy', 'replace', 'undeploy');
    IF a_action = 'undeploy' THEN
        PERFORM fleet_catalog.check_name('job', a_document ->> 'name');
    ELSIF jsonb_typeof(a_document) IS DISTINCT FROM 'object' OR jsonb_typeof(a_document -> 'steps') IS DISTINCT FROM 'array'
       OR jsonb_typeof(a_document -> 'params') IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'invalid job document',
            HINT = 'It must have the keys name, params, steps and packages.';
    END IF;
    FOR v_try IN 1 .. 100 LOOP
        BEGIN
            IF a_action = 'undeploy' THEN
                PERFORM fleet_catalog.undeploy_body(a_parent_uuid, a_document ->> 'name');
            ELSE
                PERFORM fleet_catalog.deploy_job_body(a_parent_uuid, a_document, a_action = 'replace');
                PERFORM fleet_catalog.check_received_job(a_document, '{}'); -- what no table says
            END IF;
            RETURN;
        EXCEPTION
            WHEN lock_not_available THEN
                EXIT;
            WHEN unique_violation THEN
                GET STACKED DIAGNOSTICS v_constraint = CONSTRAINT_NAME;
                IF v_constraint NOT IN ('job_name_key', 'package_name_key') THEN
                    RAISE;
                END IF;
        END;
    END LOOP;
    RAISE EXCEPTION USING ERRCODE = 'lock_not_available',
        MESSAGE = format('job "%s" is being changed by another session of the server', a_document ->> 'name'),
        DETAIL = 'An open transaction there has locked it, or a package that it runs.', HINT = 'Deploy it again when that transaction has ended.';
END
$$;
