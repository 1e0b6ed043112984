-- 54_cron.sql: when a schedule is due (src/core/cron.h).

CREATE FUNCTION fleet_catalog.check_cron(a_cron text, a_time_zone text) RETURNS void
    LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'fleet_sql_check_cron';
COMMENT ON FUNCTION fleet_catalog.check_cron(text, text) IS 'Error if this is no schedule of cron, or no time zone';

CREATE FUNCTION fleet_catalog.times_of(a_cron text, a_time_zone text, a_after timestamptz, a_until timestamptz, a_count integer) RETURNS SETOF timestamptz
    LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'fleet_sql_schedule_times';
COMMENT ON FUNCTION fleet_catalog.times_of(text, text, timestamptz, timestamptz, integer) IS 'When a schedule is due: after a time and until another one, at most so often; null: no such limit, but 100,000';

CREATE FUNCTION fleet.schedule_times(cron text, time_zone text DEFAULT current_setting('TimeZone'), after timestamptz DEFAULT now(), count integer DEFAULT 5)
    RETURNS SETOF timestamptz LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.schedule_times(text, text, timestamptz, integer)
    IS 'The next times of a schedule. cron: minute, hour, day of month, month, day of week, on the clock of a time zone; at most 1000 times';

CREATE FUNCTION fleet_catalog.schedule_times(a_cron text, a_time_zone text, a_after timestamptz, a_count integer) RETURNS SETOF timestamptz
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet_catalog.check_given('cron', a_cron);
    PERFORM fleet_catalog.check_given('time_zone', a_time_zone);
    PERFORM fleet_catalog.check_range('count', a_count, 1, 1000);
    RETURN QUERY SELECT t FROM fleet_catalog.times_of(a_cron, a_time_zone, coalesce(a_after, now()), NULL, a_count) AS t;
END
$$;

CREATE FUNCTION fleet_catalog.next_time(a_cron text, a_time_zone text, a_after timestamptz) RETURNS timestamptz
    LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'fleet_sql_next_time';
COMMENT ON FUNCTION fleet_catalog.next_time(text, text, timestamptz) IS 'When a schedule is due next; null: never, or it is none that is known here';

CREATE FUNCTION fleet_catalog.calendar() RETURNS timestamptz
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'fleet_sql_calendar';
COMMENT ON FUNCTION fleet_catalog.calendar() IS 'The clock that schedules go by: clock_timestamp(), but for tests';
