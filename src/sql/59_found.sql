-- 59_found.sql: how history is found, by state and by time, however much of it there is.
--
-- An index costs the agent most where it makes a change of a row write into all indexes of the table (the row is no longer
-- "heap only"): so no index of task_run and step_run has a column that changes when work starts, or ends well.  ended_as
-- changes only when it ends otherwise, and started_at of a step run never does.  A run changes three times, whatever
-- it consists of, and each time writes into all indexes of its table anyway.
--
-- The views show states as text, state_name() of a code.  Conditions on them find an index on that expression.
--
-- What has not ended is found by its run (run_open) or job run (job_run_open): nothing of what has ended is open.  So the views
-- of 60_views.sql have three arms: what is open, what ended otherwise than well, and what succeeded, in which the state is a
-- constant.  Of each the planner knows which states it cannot have.

CREATE INDEX run_state ON fleet_catalog.run (fleet_catalog.state_name(state), run_id) WHERE fleet_catalog.state_name(state) <> 'succeeded';
CREATE INDEX run_title ON fleet_catalog.run ((coalesce(job, package)), run_id);
CREATE INDEX run_queued ON fleet_catalog.run (queued_at);
CREATE INDEX run_started ON fleet_catalog.run (started_at);
CREATE INDEX run_finished ON fleet_catalog.run (finished_at);
CREATE INDEX run_late ON fleet_catalog.run (late_at) WHERE late_at IS NOT NULL;

CREATE INDEX task_run_ended_as ON fleet_catalog.task_run (fleet_catalog.state_name(ended_as), run_id) WHERE ended_as IS NOT NULL;

CREATE INDEX step_run_ended_as ON fleet_catalog.step_run (fleet_catalog.state_name(ended_as), run_id) WHERE ended_as IS NOT NULL;
CREATE INDEX step_run_started ON fleet_catalog.step_run (started_at);

CREATE INDEX job_run_ended_as ON fleet_catalog.job_run (fleet_catalog.state_name(ended_as), job_run_id) WHERE ended_as IS NOT NULL;
CREATE INDEX job_run_queued ON fleet_catalog.job_run (queued_at);

CREATE INDEX event_raised ON fleet_catalog.event (raised_at);
