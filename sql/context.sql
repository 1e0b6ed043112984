-- What a session knows of its run, and what came before it; templates in parameters.
\set SHOW_CONTEXT never
\set VERBOSITY verbose

-- the run that a session is part of, and what came before it there
SELECT fleet.run_id() IS NULL AND fleet.context('task') IS NULL AS none;
SELECT fleet.output('a');
SELECT fleet.outcome(NULL);
SET fleet.context = '{"run_id": 1000000000, "task": "a \"b\""}';
SELECT fleet.run_id(), fleet.context('task'), fleet.context('nothing'), fleet.context(NULL);
SELECT fleet.output('a');
SET fleet.context = 'no JSON';
SELECT fleet.run_id();
SELECT fleet.output('a');
RESET fleet.context;
BEGIN;
SELECT fleet.create_package('before', params => '{"p": 1}');
SELECT fleet.add_task('before', 'one', sql => 'SELECT 1');
SELECT fleet.add_task('before', 'each', sql => 'SELECT 1', for_each => 'SELECT 1 AS i');
SELECT fleet.add_task('before', 'two', sql => 'SELECT 1', params => '{"a": {"$output": "one"}, "b": [{"$outcome": "each"}, {"$literal": {"$x": 1}}], "c": {"d": {"$param": "p"}}}');
SELECT params FROM fleet.task WHERE task = 'two';
SELECT fleet.run_parent_package('before') AS run \gset
UPDATE fleet_catalog.run SET run_id = 4711 WHERE run_id = :run;
\set run 4711
SELECT fleet_catalog.resolve_params(:run, 2, params) FROM fleet.task WHERE task = 'two';
INSERT INTO fleet_catalog.task_run (run_id, task_no, item, queued_at, state, output) VALUES
    (:run, 0, 0, now(), 11, '007'), (:run, 1, 0, now(), 12, NULL), (:run, 1, 1, now(), 11, 'x"y'), (:run, 1, 2, now(), 12, 'not this');
SELECT set_config('fleet.context', jsonb_build_object('run_id', run_id, 'run_uuid', run_uuid)::text, true) <> '' FROM fleet.run WHERE run_id = :run;
SELECT fleet.output('one'), fleet.outcome('one'), fleet.output('each'), fleet.outcome('each'), fleet.output('two'), fleet.outcome('two');
SELECT fleet_catalog.resolve_params(:run, 2, params) FROM fleet.task WHERE task = 'two';
SELECT fleet_catalog.resolve_params(:run, 2, '{"a": {"$context": "run_id"}, "b": {"$context": "task"}, "c": {"$context": "job"}}') = jsonb_build_object('a', :run, 'b', 'two', 'c', NULL) AS context;
SAVEPOINT s;
SELECT fleet.output('none');
ROLLBACK TO s;
SELECT fleet_catalog.resolve_params(:run, 2, '{"a": {"$param": "q"}}');
ROLLBACK TO s;
SELECT fleet_catalog.resolve_params(:run, 2, '{"a": {"$output": "none"}}');
ROLLBACK TO s;
SELECT fleet_catalog.resolve_params(:run, 2, '{"a": {"$env": "PATH"}}');
ROLLBACK TO s;
UPDATE fleet_catalog.task_run SET item = 10001 WHERE run_id = :run AND item = 2;
SELECT fleet_catalog.resolve_params(:run, 2, '{"a": {"$output": "each"}}');
ROLLBACK TO s;
UPDATE fleet_catalog.task_run SET output = repeat('x', 1000001) WHERE run_id = :run AND task_no = 0;
SELECT fleet_catalog.resolve_params(:run, 2, '{"a": {"$output": "one"}}');
ROLLBACK TO s;
SET LOCAL fleet.context = '{"run_uuid": "00000000-0000-0000-0000-000000000001", "run_id": 4711}';
SELECT fleet.output('one');
ROLLBACK TO s;
SELECT fleet.drop_task('before', 'one');
ROLLBACK;
