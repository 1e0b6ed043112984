-- The warehouse as it is on every server that loads regions: what a demo's database administrator
-- would have there already.  Run in the database "dw" as superuser; the work itself is done as etl.
CREATE ROLE etl LOGIN PASSWORD 'demo';
GRANT pg_read_server_files TO etl;    -- the regional files lie on the server
CREATE SCHEMA etl AUTHORIZATION etl;
ALTER ROLE etl SET search_path = etl;
SET SESSION AUTHORIZATION etl;
SET search_path = etl;

CREATE TABLE line (region text NOT NULL, n bigint NOT NULL, text text);
CREATE INDEX ON line (region);
CREATE TABLE package (
    region text NOT NULL, package text NOT NULL, version text NOT NULL, architecture text NOT NULL,
    source text NOT NULL, maintainer text, priority text, size bigint, installed_kb bigint, depends text);
CREATE INDEX ON package (region);
CREATE TABLE dependency (
    region text NOT NULL, package text NOT NULL, version text NOT NULL, architecture text NOT NULL,
    group_no int NOT NULL, alternative int NOT NULL, target text NOT NULL, condition text);
CREATE INDEX ON dependency (region);
CREATE TABLE rollup (
    region text PRIMARY KEY, packages bigint, bytes numeric, installed_kb numeric,
    dependencies bigint, alternatives bigint, distinct_targets bigint, most_wanted text,
    loaded_at timestamptz NOT NULL DEFAULT clock_timestamp());

-- Each function may run again for the same region: it begins by taking back what was there.

-- The file as it is, one row a line.  (csv with a quote and a delimiter that no text has, so that
-- backslashes, tabs and quotes stay as they are.)
CREATE FUNCTION load_file(region text, file text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    lines bigint;
BEGIN
    DELETE FROM line AS l WHERE l.region = load_file.region;
    CREATE TEMP TABLE IF NOT EXISTS incoming (n bigint GENERATED ALWAYS AS IDENTITY, text text);
    TRUNCATE incoming;
    EXECUTE format('COPY incoming (text) FROM %L WITH (FORMAT csv, DELIMITER E''\x01'', QUOTE E''\x02'')', file);
    INSERT INTO line SELECT load_file.region, i.n, i.text FROM incoming AS i;
    GET DIAGNOSTICS lines = ROW_COUNT;
    RAISE NOTICE '%: % lines', region, lines;
    RETURN lines;
END $$;

-- One row a record.
CREATE FUNCTION normalise(region text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    records bigint;
BEGIN
    DELETE FROM package AS p WHERE p.region = normalise.region;
    WITH numbered AS (
        SELECT count(*) FILTER (WHERE l.text IS NULL) OVER (ORDER BY l.n) AS record,
               split_part(l.text, ': ', 1) AS key, substr(l.text, strpos(l.text, ': ') + 2) AS value
          FROM line AS l WHERE l.region = normalise.region
    ), field AS (
        SELECT record, key, value FROM numbered WHERE key ~ '^[A-Z][A-Za-z-]*$'
    )
    INSERT INTO package
    SELECT normalise.region,
           max(value) FILTER (WHERE key = 'Package'),
           max(value) FILTER (WHERE key = 'Version'),
           max(value) FILTER (WHERE key = 'Architecture'),
           split_part(coalesce(max(value) FILTER (WHERE key = 'Source'), max(value) FILTER (WHERE key = 'Package')), ' ', 1),
           lower(max(value) FILTER (WHERE key = 'Maintainer')),
           max(value) FILTER (WHERE key = 'Priority'),
           coalesce(max(value::bigint) FILTER (WHERE key = 'Size'), 0),
           coalesce(max(value::bigint) FILTER (WHERE key = 'Installed-Size'), 0),
           string_agg(value, ',' ORDER BY key) FILTER (WHERE key IN ('Depends', 'Pre-Depends'))
      FROM field GROUP BY record;
    GET DIAGNOSTICS records = ROW_COUNT;
    RETURN records;
END $$;

-- One row an alternative of a dependency: "a (>= 1) | b, c" has three rows in two groups.
CREATE FUNCTION explode(region text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    rows bigint;
BEGIN
    DELETE FROM dependency AS d WHERE d.region = explode.region;
    INSERT INTO dependency
    SELECT p.region, p.package, p.version, p.architecture, g.no, a.no,
           substring(trim(a.text) FROM '^[^ :(]+'), substring(a.text FROM '\((.*)\)')
      FROM package AS p,
           string_to_table(p.depends, ',') WITH ORDINALITY AS g (text, no),
           string_to_table(g.text, '|') WITH ORDINALITY AS a (text, no)
     WHERE p.region = explode.region AND trim(g.text) <> '';
    GET DIAGNOSTICS rows = ROW_COUNT;
    RETURN rows;
END $$;

CREATE FUNCTION roll_up(region text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
BEGIN
    DELETE FROM rollup AS r WHERE r.region = roll_up.region;
    INSERT INTO rollup
    SELECT roll_up.region, p.packages, p.bytes, p.installed_kb, d.dependencies, d.alternatives, d.targets, d.most_wanted
      FROM (SELECT count(*) AS packages, sum(size) AS bytes, sum(installed_kb) AS installed_kb
              FROM package AS p WHERE p.region = roll_up.region) AS p,
           (SELECT count(*) FILTER (WHERE alternative = 1) AS dependencies, count(*) AS alternatives,
                   count(DISTINCT target) AS targets, mode() WITHIN GROUP (ORDER BY target) AS most_wanted
              FROM dependency AS d WHERE d.region = roll_up.region) AS d;
    SELECT r.packages INTO n FROM rollup AS r WHERE r.region = roll_up.region;
    RETURN n;
END $$;
