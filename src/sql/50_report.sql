-- 50_report.sql: the states, and what a package would do.

CREATE FUNCTION fleet.state_transitions() RETURNS TABLE (machine text, state text, event text, next_state text, note text)
    LANGUAGE C IMMUTABLE AS 'MODULE_PATHNAME', 'fleet_sql_state_transitions';
COMMENT ON FUNCTION fleet.state_transitions() IS 'Every possible change of state of runs, task runs, job runs and step runs';

CREATE FUNCTION fleet.state_graph(machine text) RETURNS text
    LANGUAGE C IMMUTABLE AS 'MODULE_PATHNAME', 'fleet_sql_state_graph';
COMMENT ON FUNCTION fleet.state_graph(text) IS 'The states and changes of a machine (run, task, job or step) as a Graphviz drawing';
