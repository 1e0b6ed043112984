-- What each server of the tour has before pg_fleet meets it: a role, a table and a function.  Run as
-- superuser in the database "dw" of each of them.
CREATE ROLE etl LOGIN PASSWORD 'secret';
CREATE SCHEMA etl AUTHORIZATION etl;
ALTER ROLE etl SET search_path = etl;
SET SESSION AUTHORIZATION etl;

CREATE TABLE etl.sale (region text NOT NULL, day date NOT NULL, amount numeric NOT NULL);

-- Stands for the load of a file: longer names are larger regions.
CREATE FUNCTION etl.load(region text, day date) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    rows bigint;
BEGIN
    IF region = 'atlantis' THEN
        RAISE EXCEPTION no_data_found USING MESSAGE = format('there is no file for region "%s"', region), HINT = 'It sank.';
    END IF;
    DELETE FROM etl.sale AS s WHERE s.region = load.region AND s.day = load.day;
    INSERT INTO etl.sale SELECT load.region, load.day, n FROM generate_series(1, 3000 * length(region)) AS n;
    GET DIAGNOSTICS rows = ROW_COUNT;
    RAISE NOTICE '%: % rows', region, rows;
    PERFORM pg_sleep(0.05 * length(region));
    RETURN rows;
END
$$;
