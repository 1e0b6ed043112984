-- 36_version.sql: every change of a package or a job is a version of it.
--
-- Whatever changes one says so with edited() or touched(), once a transaction in effect: a row of fleet_catalog.edit stands
-- until COMMIT, when a deferred trigger stores the document of what it has become, unless that is as it was.  So a
-- thousand changes in a transaction are one version.  A run that is requested between two changes of a transaction needs
-- the version that it has (store_edits()).  A restore of a dump does not pass here: versions come from the dump.
--
-- A version is what the object consists of itself: a package with its tasks and constraints, a job with its steps.  What it
-- runs has versions of its own.  They go with their object; of one object the newest 100 are kept.

CREATE FUNCTION fleet_catalog.edited(a_kind text, a_id integer) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF a_kind = 'package' THEN -- a container is a part of its package
        a_id := coalesce((SELECT p.root_id FROM fleet_catalog.package AS p WHERE p.package_id = a_id), a_id);
    END IF;
    IF NOT EXISTS (SELECT FROM fleet_catalog.edit AS e WHERE e.kind = a_kind AND e.id = a_id) THEN
        SET CONSTRAINTS fleet_catalog.edit_stored DEFERRED; -- whatever the session has set: the change is not made yet
        INSERT INTO fleet_catalog.edit (kind, id) VALUES (a_kind, a_id);
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.edited(text, integer) IS 'The present transaction, which has its row locked, changes a package or a job';

CREATE FUNCTION fleet_catalog.touched(a_kind text, a_id integer) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF a_kind = 'job' THEN
        UPDATE fleet_catalog.job AS j SET changed_at = now() WHERE j.job_id = a_id;
    ELSE
        UPDATE fleet_catalog.package AS p SET changed_at = now()
         WHERE p.package_id = coalesce((SELECT c.root_id FROM fleet_catalog.package AS c WHERE c.package_id = a_id), a_id);
    END IF;
    PERFORM fleet_catalog.edited(a_kind, a_id);
END
$$;
COMMENT ON FUNCTION fleet_catalog.touched(text, integer) IS 'Locks a package or a job that is about to be changed because something that it names is';

CREATE FUNCTION fleet_catalog.store_version(a_edit fleet_catalog.edit) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_package integer := CASE a_edit.kind WHEN 'package' THEN a_edit.id END;
    v_job integer := CASE a_edit.kind WHEN 'job' THEN a_edit.id END;
    v_document jsonb;
    v_newest record;
BEGIN
    IF v_job IS NULL THEN
        SELECT fleet_catalog.package_document(p.name) || jsonb_build_object('package', p.name, 'owner', fleet_catalog.role_name(p.owner)) INTO v_document
          FROM fleet_catalog.package AS p WHERE p.package_id = v_package;
    ELSE
        SELECT fleet_catalog.job_document(j.name) || jsonb_build_object('job', j.name, 'owner', fleet_catalog.role_name(j.owner)) INTO v_document
          FROM fleet_catalog.job AS j WHERE j.job_id = v_job;
    END IF;
    IF v_document IS NULL THEN -- dropped
        RETURN;
    END IF;
    SELECT v.version, v.hash INTO v_newest FROM fleet_catalog.version AS v
     WHERE CASE a_edit.kind WHEN 'job' THEN v.job_id = v_job ELSE v.package_id = v_package END ORDER BY v.version DESC LIMIT 1;
    IF v_newest.hash IS DISTINCT FROM fleet_catalog.content_hash(v_document::text) THEN
        INSERT INTO fleet_catalog.version (package_id, job_id, version, hash, changed_by, changed_at, document)
        VALUES (v_package, v_job, coalesce(v_newest.version, 0) + 1, fleet_catalog.content_hash(v_document::text), a_edit.edited_by, clock_timestamp(), v_document);
        DELETE FROM fleet_catalog.version AS v
         WHERE CASE a_edit.kind WHEN 'job' THEN v.job_id = v_job ELSE v.package_id = v_package END AND v.version <= v_newest.version - 99;
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.store_version(fleet_catalog.edit) IS 'Stores what an object has become as a version of it, unless it is as it was';

CREATE FUNCTION fleet_catalog.store_edits() RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_edit fleet_catalog.edit;
BEGIN
    FOR v_edit IN DELETE FROM fleet_catalog.edit AS e RETURNING e.* LOOP
        PERFORM fleet_catalog.store_version(v_edit);
    END LOOP;
END
$$;
COMMENT ON FUNCTION fleet_catalog.store_edits() IS 'Stores the versions of all that the present transaction has changed so far';

CREATE FUNCTION fleet_catalog.store_edit() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM fleet_catalog.edit AS e WHERE e.kind = NEW.kind AND e.id = NEW.id;
    IF FOUND THEN -- else store_edits() did it
        PERFORM fleet_catalog.store_version(NEW);
    END IF;
    RETURN NULL;
END
$$;
CREATE FUNCTION fleet_link.store_edit() RETURNS trigger
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.store_edit() IS 'At COMMIT: what a transaction has changed becomes a version';
CREATE CONSTRAINT TRIGGER edit_stored AFTER INSERT ON fleet_catalog.edit DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION fleet_link.store_edit();

-- ---- looking back ------------------------------------------------------------------------------

CREATE FUNCTION fleet_catalog.get_version(a_kind text, a_name text, a_id integer, a_version integer) RETURNS jsonb
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_document jsonb;
BEGIN
    SELECT v.document INTO v_document FROM fleet_catalog.version AS v
     WHERE CASE a_kind WHEN 'job' THEN v.job_id = a_id ELSE v.package_id = a_id END AND v.version = a_version;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('%s "%s" has no version %s', a_kind, a_name, coalesce(a_version::text, 'null')),
            HINT = 'Versions are listed in fleet.version.';
    END IF;
    RETURN v_document;
END
$$;

-- Names of packages and jobs may differ; the differences are named by that of now.
CREATE FUNCTION fleet_catalog.diff_versions(a_kind text, a_name text, a_id integer, a_from integer, a_to integer) RETURNS TABLE (path text, change text, old jsonb, new jsonb)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_old jsonb;
    v_new jsonb;
    v_who text[];
BEGIN
    PERFORM fleet_catalog.store_edits();
    a_to := coalesce(a_to, (SELECT max(v.version) FROM fleet_catalog.version AS v WHERE CASE a_kind WHEN 'job' THEN v.job_id = a_id ELSE v.package_id = a_id END));
    v_old := fleet_catalog.get_version(a_kind, a_name, a_id, a_from);
    v_new := fleet_catalog.get_version(a_kind, a_name, a_id, a_to);
    v_who := ARRAY[a_kind, 'owner'];
    RETURN QUERY SELECT d.* FROM fleet_catalog.differences(format('$.%ss.%I', a_kind, a_name),
        CASE a_kind WHEN 'job' THEN fleet_catalog.comparable_job(v_old) ELSE fleet_catalog.comparable_package(v_old) END
            || (SELECT jsonb_object_agg(e.key, e.value) FROM jsonb_each(v_old) AS e WHERE e.key = ANY (v_who)),
        CASE a_kind WHEN 'job' THEN fleet_catalog.comparable_job(v_new) ELSE fleet_catalog.comparable_package(v_new) END
            || (SELECT jsonb_object_agg(e.key, e.value) FROM jsonb_each(v_new) AS e WHERE e.key = ANY (v_who))) AS d;
END
$$;

CREATE FUNCTION fleet.diff_package(package text, from_version integer, to_version integer DEFAULT NULL) RETURNS TABLE (path text, change text, old jsonb, new jsonb)
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.diff_package(text, integer, integer) IS 'What has changed in a package from one version to another one (null: the newest), by path';

CREATE FUNCTION fleet_catalog.diff_package(a_package text, a_from_version integer, a_to_version integer) RETURNS TABLE (path text, change text, old jsonb, new jsonb)
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
SELECT d.* FROM (SELECT p.* FROM fleet_catalog.get_package(a_package) AS p OFFSET 0) AS p
 CROSS JOIN LATERAL fleet_catalog.diff_versions('package', p.name, p.package_id, a_from_version, a_to_version) AS d
$$;

CREATE FUNCTION fleet.diff_job(job text, from_version integer, to_version integer DEFAULT NULL) RETURNS TABLE (path text, change text, old jsonb, new jsonb)
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.diff_job(text, integer, integer) IS 'What has changed in a job from one version to another one (null: the newest), by path';

CREATE FUNCTION fleet_catalog.diff_job(a_job text, a_from_version integer, a_to_version integer) RETURNS TABLE (path text, change text, old jsonb, new jsonb)
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
SELECT d.* FROM (SELECT j.* FROM fleet_catalog.get_job(a_job) AS j OFFSET 0) AS j
 CROSS JOIN LATERAL fleet_catalog.diff_versions('job', j.name, j.job_id, a_from_version, a_to_version) AS d
$$;

-- ---- going back --------------------------------------------------------------------------------

CREATE FUNCTION fleet.restore_package(package text, version integer) RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.restore_package(text, integer) IS 'A package becomes what it was in a version, as a new version; its name and owner stay. What it runs is not changed';

CREATE FUNCTION fleet_catalog.restore_package(a_package text, a_version integer) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_package fleet_catalog.package := fleet_catalog.change_package(a_package);
    v_document jsonb := fleet_catalog.get_version('package', v_package.name, v_package.package_id, a_version);
BEGIN
    PERFORM fleet_catalog.import_frame('package', a_package, v_document);
    PERFORM fleet_catalog.import_tasks(a_package, v_document);
END
$$;

CREATE FUNCTION fleet.restore_job(job text, version integer) RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.restore_job(text, integer) IS 'A job becomes what it was in a version, as a new version; its name and owner stay';

CREATE FUNCTION fleet_catalog.restore_job(a_job text, a_version integer) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_job fleet_catalog.job := fleet_catalog.change_job(a_job);
    v_document jsonb := fleet_catalog.get_version('job', v_job.name, v_job.job_id, a_version);
BEGIN
    PERFORM fleet_catalog.import_frame('job', a_job, v_document);
    PERFORM fleet_catalog.import_job(a_job, v_document);
END
$$;
