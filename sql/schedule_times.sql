-- When a schedule is due, with the time zones of the server; test/core/test_cron.c has the rules.
\set SHOW_CONTEXT never
\set VERBOSITY verbose
SET timezone = 'UTC';

SELECT * FROM fleet.schedule_times('30 2 * * 1-5', 'UTC', '2026-11-27 12:00+00', 3);
-- the clock goes forward, and back
SELECT t, t AT TIME ZONE 'Europe/Berlin' AS there FROM fleet.schedule_times('30 2 * * *', 'Europe/Berlin', '2026-03-28 00:00+00', 3) AS t;
SELECT t, t AT TIME ZONE 'Europe/Berlin' AS there FROM fleet.schedule_times('30 2 * * *', 'Europe/Berlin', '2026-10-24 00:00+00', 3) AS t;
SELECT t, t AT TIME ZONE 'America/New_York' AS there FROM fleet.schedule_times('0 2 * * sun', 'America/New_York', '2026-03-02 00:00+00', 2) AS t;
SELECT t, t AT TIME ZONE 'America/Sao_Paulo' AS there FROM fleet.schedule_times('0 0 * * *', 'America/Sao_Paulo', '2018-11-03 12:00+00', 2) AS t;
SELECT t, t AT TIME ZONE 'Australia/Lord_Howe' AS there FROM fleet.schedule_times('15 2 * * *', 'Australia/Lord_Howe', '2026-10-03 12:00+00', 2) AS t;
-- leap day, last day
SELECT * FROM fleet.schedule_times('0 0 29 2 *', 'UTC', '2026-01-01 00:00+00', 2);
SELECT * FROM fleet.schedule_times('0 0 $ * *', 'UTC', '2028-01-31 00:00+00', 2);
-- the first and the last times
SELECT * FROM fleet.schedule_times('@daily', after => 'infinity');
SELECT * FROM fleet.schedule_times('@daily', 'UTC', '294276-12-30 00:00+00', 10);
SELECT * FROM fleet.schedule_times('@yearly', 'UTC', '4713-01-01 00:00+00 BC', 1);
-- by default: the time zone of the session, the next five times
SET timezone = 'Asia/Kolkata';
SELECT count(*), min(t) > now(), bool_and(extract(hour FROM t) = 3 AND extract(minute FROM t) = 15) FROM fleet.schedule_times('15 3 * * *') AS t;
RESET timezone;

SELECT * FROM fleet.schedule_times(NULL);
SELECT * FROM fleet.schedule_times('not a schedule');
SELECT * FROM fleet.schedule_times('* * * *');
SELECT * FROM fleet.schedule_times('0 0 30 2 *');
SELECT * FROM fleet.schedule_times('* * * * *', 'Europe/Atlantis');
SELECT * FROM fleet.schedule_times('* * * * *', '');
SELECT * FROM fleet.schedule_times('* * * * *', NULL);
SELECT * FROM fleet.schedule_times('* * * * *', count => 0);
SELECT * FROM fleet.schedule_times('* * * * *', count => 1001);
SELECT * FROM fleet.schedule_times('* * * * *', count => NULL);
