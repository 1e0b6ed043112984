# One run, one version: a run executes the jobs of the moment in which it was asked for, on every server, in both
# modes, whatever becomes of them meanwhile.  What really ran is in the servers' own tables.  (test build)
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 2, direct => 1, slots => 4, delays => 0);
$f->sql_on($_, <<'SQL') for qw(parent a1 a2 d1);
CREATE TABLE etl.broken (key text);
GRANT SELECT ON etl.broken TO PUBLIC;
CREATE FUNCTION etl.ran(version text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO etl.effect (key) VALUES (etl.key() || ' ' || version);
    IF EXISTS (SELECT FROM etl.broken WHERE key = etl.key()) THEN
        RAISE EXCEPTION 'broken';
    END IF;
    RETURN version;
END $$;
SQL

# No job is deployed here.
sub define { my ($job, @sql) = @_; my $n = 0; $f->sql("SELECT fleet.create_job('$job')" . join('', map { $n++; "; SELECT fleet.add_step('$job', 's$n', " . FleetTest::quote_literal($_) . ')' } @sql)); return; }
sub change { my ($job, $sql) = @_; $f->sql("SELECT fleet.drop_step('$job', 's1'); SELECT fleet.add_step('$job', 's1', " . FleetTest::quote_literal($sql) . ')'); return; }
sub ran { my ($server, $like) = @_; return $f->sql_on($server, "SELECT coalesce(string_agg(key, ', ' ORDER BY key), '') FROM etl.effect WHERE key LIKE '$like'"); }
sub outputs { my ($run) = @_; return $f->sql("SELECT string_agg(task || ' ' || coalesce(output, state), ', ' ORDER BY task, item) FROM fleet.task_run WHERE run_id = $run AND (item > 0 OR kind = 'job')"); }
sub hash_of { my ($run, $task) = @_; return $f->sql("SELECT DISTINCT job_definition FROM fleet.task_run WHERE run_id = $run AND task = '$task' AND attempt > 0"); }
sub received { my ($server) = @_; return $f->sql_on($server, "SELECT count(*) FROM fleet_catalog.received"); }
sub end_agent
{
    my ($node, $what) = @_;
    my $pid = $f->agent_pid($node);
    $f->sql_on($node, "SELECT pg_terminate_backend($pid)");
    $f->wait_for($node, "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", '0', $what);
    return;
}

# ---- between two runs --------------------------------------------------------------------------

define('j', q{SELECT etl.ran('v1')});
$f->package('three', map { $_ => { job => 'j', server => $_, params => '{"key": "two"}' } } qw(a1 a2 d1));
my $run = $f->start('three');
$f->run_is($run, 'succeeded', 'a job that was never deployed runs on servers of both modes');
is(outputs($run), 'a1 v1, a2 v1, d1 v1', 'in its version');
my $first = hash_of($run, 'a1');
is($f->sql("SELECT string_agg(DISTINCT job_definition::text, ' ') FROM fleet.task_run WHERE run_id = $run"), $first, 'which is the same for all, and shown');
is($f->sql("SELECT string_agg(DISTINCT job_definition::text, ' ') FROM fleet.job_log WHERE run_id = $run"), $first, 'with each step');
is($f->sql_on('a1', 'SELECT definition FROM fleet.job_run'), $first, 'and on the server');
is($f->sql_on('a1', 'SELECT owner FROM fleet.job_run'), 'etl', 'where it belongs to the role of the link');
is($f->sql_on('a1', 'SELECT count(*) FROM fleet.job'), '0', 'and there is no job');
change('j', q{SELECT etl.ran('v2')});
$run = $f->start('three');
$f->run_is($run, 'succeeded', 'it is changed, and runs again');
is(outputs($run), 'a1 v2, a2 v2, d1 v2', 'in the new version, everywhere');
isnt(hash_of($run, 'd1'), $first, 'which is another one');
is($f->sql("SELECT fleet.deploy_job('j', on_group => 'agents')") ne '', 1, 'it is deployed');
$f->wait_for('parent', "SELECT count(*) FROM fleet.deployment WHERE state = 'deployed'", '2', 'to both');
change('j', q{SELECT etl.ran('v3')});
$run = $f->start('three');
$f->run_is($run, 'succeeded', 'it is changed after it was deployed');
is(outputs($run), 'a1 v3, a2 v3, d1 v3', 'what is deployed is not what runs');

# the document is sent once
my $when = $f->sql_on('a1', 'SELECT string_agg(xmin::text, \' \' ORDER BY received_at) FROM fleet_catalog.received');
$f->run_is($f->start('three'), 'succeeded', 'once more');
is($f->sql_on('a1', 'SELECT string_agg(xmin::text, \' \' ORDER BY received_at) FROM fleet_catalog.received'), $when, 'and its document was not sent again');
is(received('a1'), '3', 'the server has the three versions');

# ---- during a run ------------------------------------------------------------------------------

$f->sql_on($_, 'TRUNCATE etl.effect') for qw(a1 a2 d1);
define('during', 'SELECT etl.work_until_released()', q{SELECT etl.ran('old')});
$f->package('items', i => { job => 'during', on_group => 'all', throttle => 2, for_each => q{SELECT jsonb_build_object('key', 'k' || i) FROM generate_series(1, 12) AS i} },
    last => { job => 'during', server => 'a2', after => '{i}', params => '{"key": "last"}' });
$run = $f->start('items');
$f->wait_for('witness', q{SELECT count(*) FROM event WHERE what = 'start' AND key LIKE 'k%'}, '2', 'items run');
$f->sql(q{SELECT fleet.drop_step('during', 's2'); SELECT fleet.add_step('during', 's2', 'SELECT etl.ran(''new'')')});
my $other = $f->start('items');
end_agent('parent', 'the job is changed, and the agent ends');
end_agent('a1', 'so does that of a server');
$f->sql(q{SELECT fleet.drop_package('items')});
$f->sql(q{SELECT fleet.drop_job('during')});
$f->release('*');
$f->run_is($run, 'succeeded', 'a run whose job was changed and dropped succeeds');
$f->run_is($other, 'succeeded', 'so does the one that was asked for between');
is($f->sql("SELECT string_agg(DISTINCT output, ' ') FROM fleet.task_run WHERE run_id = $run AND item > 0"), 'old', 'all items of the first have the old version');
is($f->sql("SELECT string_agg(DISTINCT output, ' ') FROM fleet.task_run WHERE run_id = $other AND item > 0"), 'new', 'all of the second the new one');
is($f->sql("SELECT output FROM fleet.task_run WHERE run_id = $run AND task = 'last'"), 'old', 'and so has what came at the end');
is($f->sql("SELECT count(DISTINCT server) > 1 AND count(DISTINCT job_definition) = 1 FROM fleet.task_run WHERE run_id = $run AND item > 0"), 't', 'on several servers');

# ---- retries and restarts ----------------------------------------------------------------------

define('again', q{SELECT etl.ran('v1')});
$f->package('again', map { $_ => { job => 'again', server => $_, params => qq({"key": "again"}) } } qw(a1 d1));
$f->sql_on($_, q{INSERT INTO etl.broken VALUES ('again')}) for qw(a1 d1);
$f->package('gated', g => { job => 'again', server => 'a1', params => '{"key": "again"}' }, w => { sql => 'SELECT etl.work_until_released()', params => '{"key": "w"}' });
$f->sql_on('witness', 'DELETE FROM event');
$run = $f->start('again');
my $gated = $f->start('gated');
$f->run_is($run, 'failed', 'a run fails');
$f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $gated AND task = 'g'", 'failed', 'so does a task of another one');
change('again', q{SELECT etl.ran('v2')});
$f->sql_on($_, 'TRUNCATE etl.broken') for qw(a1 d1);
$f->sql("SELECT fleet.retry_task($gated, 'g')");
$f->wait_for('parent', "SELECT state || ' ' || output FROM fleet.task_run WHERE run_id = $gated AND task = 'g'", 'succeeded v1', 'a retry in the run has the version of the run');
$f->release('w');
$f->run_is($gated, 'succeeded', 'which goes on');
my $same = $f->sql("SELECT fleet.restart_run($run)");
$f->run_is($same, 'succeeded', 'a restart');
is(outputs($same), 'a1 v1, d1 v1', 'has the versions of the run that it restarts');
$f->sql_on($_, q{INSERT INTO etl.broken VALUES ('again')}) for qw(a1 d1);
$run = $f->start('again');
$f->run_is($run, 'failed', 'another one fails');
change('again', q{SELECT etl.ran('v3')});
$f->sql_on($_, 'TRUNCATE etl.broken') for qw(a1 d1);
my $current = $f->sql("SELECT fleet.restart_run($run, definition => 'current')");
$f->run_is($current, 'succeeded', 'a restart with the current definition');
is(outputs($current), 'a1 v3, d1 v3', 'has the current versions');

# ---- packages as steps -------------------------------------------------------------------------

define('inmost', q{SELECT etl.ran('v1')});
$f->package('inner', i => { job => 'inmost', params => '{"key": "inner"}' });
$f->sql(q{SELECT fleet.create_job('outer'); SELECT fleet.add_step('outer', 'wait', 'SELECT etl.work_until_released()'); SELECT fleet.add_step('outer', 'inner', package => 'inner')});
$f->package('steps', t => { job => 'outer', server => 'a1', params => '{"key": "steps"}' });
$run = $f->start('steps');
$f->wait_started('steps', 1);
change('inmost', q{SELECT etl.ran('v2')});
$f->release('steps');
$f->run_is($run, 'succeeded', 'a package as a step on a server');
is(ran('a1', 'inner %'), 'inner v1', 'is that of the moment in which the run began');
is($f->sql_on('a1', q{SELECT owner FROM fleet.run WHERE package = 'inner'}), 'etl', 'and belongs to the role of the link');
$f->package('nests', w => { sql => 'SELECT etl.work_until_released()', params => '{"key": "nests"}' }, n => { nested => 'inner', after => '{w}' });
$run = $f->start('nests');
$f->wait_started('nests', 1);
change('inmost', q{SELECT etl.ran('v3')});
$f->release('nests');
$f->run_is($run, 'succeeded', 'a nested package');
is($f->sql("SELECT output FROM fleet.task_run WHERE run_id = (SELECT run_id FROM fleet.run WHERE parent_run_id = $run)"), 'v2', 'too');

# ---- a server that has lost its documents ------------------------------------------------------

$f->package('one', t => { job => 'j', server => 'a1', params => '{"key": "one"}' });
$f->sql_on('a1', q{DELETE FROM fleet_catalog.received});
$run = $f->start('one');
$f->run_is($run, 'succeeded', 'a server has lost its documents: it is sent again');
is($f->sql("SELECT attempt || ' ' || output FROM fleet.task_run WHERE run_id = $run"), '1 v3', 'in the same attempt');
is(received('a1'), '1', 'and is there again');
$f->sql_on('a1', q{UPDATE fleet_catalog.received SET received_at = now() - interval '2 hours'; DELETE FROM fleet_catalog.job_run});
$f->sql_on('a1', q{SELECT fleet.purge()});
$f->wait_for('a1', 'SELECT count(*) FROM fleet_catalog.received', '0', 'a purge takes what nothing uses');
$f->wait_for('a1', q{SELECT count(*) FROM fleet_catalog.definition WHERE kind = 'received'}, '0', 'with its text');
$f->run_is($f->start('one'), 'succeeded', 'and it comes again');
$f->sql_on('a1', q{UPDATE fleet_catalog.received SET received_at = now() - interval '2 hours'; SELECT fleet.purge()});
$f->wait_for('a1', q{SELECT count(*) FROM fleet_catalog.purge_request}, '0', 'another purge');
is(received('a1'), '1', 'leaves what a job run has');

# one that forgets each at once is not sent it for ever
$f->sql_on('a1', <<'SQL');
DELETE FROM fleet_catalog.received;
CREATE FUNCTION public.forget() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;
CREATE TRIGGER forget BEFORE INSERT ON fleet_catalog.received FOR EACH ROW EXECUTE FUNCTION public.forget();
SQL
$run = $f->start('one');
$f->run_is($run, 'failed', 'a server that keeps nothing');
is($f->sql("SELECT sqlstate FROM fleet.task_run WHERE run_id = $run"), 'FE003', 'fails what needs it');
$f->sql_on('a1', 'DROP TRIGGER forget ON fleet_catalog.received');
$f->run_is($f->start('one'), 'succeeded', 'and goes on when it does');

# ---- processes end -----------------------------------------------------------------------------

change('j', q{SELECT etl.ran('v4')});
$f->point('parent', 'document_sent', 'exit');
$run = $f->start('one');
$f->point_fired('parent', 'document_sent', 'the agent ends between document and start');
$f->run_is($run, 'succeeded', 'its successor sends both');
is(ran('a1', 'one v4'), 'one v4', 'and it ran once');
change('j', q{SELECT etl.ran('v5')});
$f->node('a1')->stop;
$run = $f->start('one');
$f->wait_for('parent', "SELECT state IN ('queued', 'starting') FROM fleet.task_run WHERE run_id = $run", 't', 'the server is away');
$f->node('a1')->start;
$f->run_is($run, 'succeeded', 'and comes back');
is(ran('a1', 'one v5'), 'one v5', 'it ran once');

# ---- jobs of servers ---------------------------------------------------------------------------

$f->sql_on('a1', q{SET ROLE etl; SELECT fleet.create_job('theirs'); SELECT fleet.add_step('theirs', 's1', $$SELECT etl.ran('theirs 1')$$)});
$f->package('theirs', t => { job => 'theirs', server => 'a1', params => '{"key": "x"}' });
$run = $f->start('theirs');
$f->run_is($run, 'succeeded', 'a job that is only on the server runs by name');
is(hash_of($run, 't'), $f->sql_on('a1', q{SELECT definition FROM fleet.job_run WHERE job = 'theirs'}), 'and the parent knows which version it was');
is($f->sql("SELECT job_definition FROM fleet.job_log WHERE run_id = $run"), hash_of($run, 't'), 'of each step');
# nobody else's job takes its place
$f->sql(q{CREATE ROLE squatter LOGIN; SET ROLE squatter; SELECT fleet.create_job('theirs'); SELECT fleet.add_step('theirs', 's1', 'SELECT ''squatted''')});
$f->sql(q{CREATE ROLE owner LOGIN; GRANT USAGE ON FOREIGN SERVER a1 TO owner; CREATE USER MAPPING FOR owner SERVER a1 OPTIONS (user 'etl', password 'x'); SET ROLE owner;
          SELECT fleet.create_package('mine'); SELECT fleet.add_task('mine', 't', job => 'theirs', server => 'a1', params => '{"key": "y"}')});
$f->sql(q{ALTER USER MAPPING FOR owner SERVER a1 OPTIONS (SET password '} . $FleetTest::PASSWORD . q{')});
$run = $f->sql_as('owner', q{SELECT fleet.run_parent_package('mine')});
$f->run_is($run, 'succeeded', 'a stranger has defined a job of the same name at the parent');
is($f->sql("SELECT output FROM fleet.task_run WHERE run_id = $run"), 'theirs 1', 'which is not what a package of others means');

# ---- strangers ---------------------------------------------------------------------------------

my $p = $f->sql('SELECT parent_uuid FROM fleet_catalog.identity');
my $q = q{'00000000-0000-0000-0000-0000000000ee'};
my $hello = "SELECT fleet_link.agent_hello(2, $q, 1, 'eve')";
$f->sql_on('a1', q{CREATE ROLE eve LOGIN; CREATE ROLE boss SUPERUSER});
$f->sql_as('eve', $hello, on => 'a1');
my $good = q({"name": "e", "owner": "x", "params": {}, "packages": {}, "leaves_clean": false, "steps": [{"name": "s", "step_no": 1, "command": "SELECT 1", "package": null, "on_success": "next", "on_failure": "quit_failure", "success_goto": null, "failure_goto": null, "retries": 0, "retry_wait_us": 1, "retry_max_us": 1, "on_unknown": "fail", "single": true}]});
sub document { my ($text, $hash) = @_; my $literal = FleetTest::quote_literal($text); $hash //= "encode(substr(sha256(convert_to($literal, 'UTF8')), 1, 16), 'hex')::uuid"; return "SELECT fleet_link.agent_document($q, 1, $hash, $literal)"; }
sub refused { my ($text, $sqlstate, $what, $hash) = @_; $f->fails(document($text, $hash), $sqlstate, $what, as => 'eve', node => 'a1'); return; }
is($f->sql_as('eve', document($good), on => 'a1'), '', 'a role may send a document for itself');
for my $case ([ 'not JSON', 'nonsense', '22P02' ], [ 'no document', '[]', '22023' ], [ 'no steps', $good =~ s/"steps": \[.*\]/"steps": []/r, '55000' ],
    [ 'a step that is no object', $good =~ s/"steps": \[.*\]/"steps": [1]/r, '22023' ],
    [ 'a step of a superuser', $good =~ s/"single": true/"single": true, "run_as": "boss"/r, '42501' ],
    [ 'a step of nobody', $good =~ s/"single": true/"single": true, "run_as": "nobody"/r, '42704' ],
    [ 'too many retries', $good =~ s/"retries": 0/"retries": 100000/r, '42P17' ],
    [ 'a wait that is negative', $good =~ s/"retry_wait_us": 1/"retry_wait_us": -1/r, '22023' ],
    [ 'an action that there is not', $good =~ s/"next"/"explode"/r, '42P17' ],
    [ 'a step that goes nowhere', $good =~ s/"on_success": "next"/"on_success": "goto", "success_goto_no": 7/r =~ s/"success_goto": null/"success_goto": "x"/r, '42P17' ],
    [ 'a step without work', $good =~ s/"SELECT 1"/null/r, '42P17' ],
    [ 'parameters that are none', $good =~ s/"params": \{\}/"params": []/r, '22023' ],
    [ 'a package that contains itself', $good =~ s/"packages": \{\}/"packages": {"p": {"name": "p", "params": {}, "tasks": [], "precedence": [], "jobs": {}, "packages": {"p": {"name": "p", "params": {}, "tasks": [], "precedence": [], "jobs": {}, "packages": {}}}}}/r, '42P17' ],
    [ 'a task of no kind', $good =~ s/"packages": \{\}/"packages": {"p": {"name": "p", "params": {}, "tasks": [{"name": "t", "task_no": 0, "kind": "x"}], "precedence": [], "jobs": {}, "packages": {}}}/r, '42P17' ])
{
    my ($what, $text, $sqlstate) = @$case;
    my ($rc, $out, $err) = $f->try_as('eve', document($text), on => 'a1');
    like($err, qr/ERROR:\s+$sqlstate:/, "a document with $what is refused") or diag("$rc $out $text");
}
my ($rc, $out, $err) = $f->try_as('eve', document($good, q{'00000000-0000-0000-0000-000000000001'}), on => 'a1');
like($err, qr/ERROR:\s+XX001:/, 'one of another hash is refused');
($rc, $out, $err) = $f->try_as('eve', "SELECT fleet_link.agent_document($q, 1, gen_random_uuid(), repeat('x', 17000000))", on => 'a1');
like($err, qr/ERROR:\s+54000:/, 'one that is too large is refused');
my $known = $f->sql_on('a1', q{SELECT hash FROM fleet_catalog.received WHERE role::text = 'etl' AND job = 'j' LIMIT 1});
is($f->sql_as('eve', "SELECT sqlstate FROM fleet_link.agent_start($q, 1, ARRAY[gen_random_uuid()], '{j}', '{\"{}\"}', NULL, '{$known}')", on => 'a1'), 'FE003', 'documents of others are not there for it');
my $mine = $f->sql_on('a1', q{SELECT hash FROM fleet_catalog.received WHERE role::text = 'eve'});
is($f->sql_as('eve', "SELECT sqlstate FROM fleet_link.agent_start($q, 1, ARRAY[gen_random_uuid()], '{j}', '{\"{}\"}', NULL, '{$mine}')", on => 'a1'), 'FE003', 'nor its own by another name');
is($f->sql_as('eve', "SELECT coalesce(sqlstate, 'started') FROM fleet_link.agent_start($q, 1, ARRAY[gen_random_uuid()], '{e}', '{\"{}\"}', NULL, '{$mine}')", on => 'a1'), 'started', 'its own starts');
$f->wait_for('a1', q{SELECT owner || ' ' || state FROM fleet.job_run WHERE job = 'e'}, 'eve succeeded', 'as itself');
# where somebody holds the lock that keeps documents, a copy is used
my $held = FleetTest::Session->new($f->node('a1'), $FleetTest::DB);
$held->say('BEGIN; SELECT pg_advisory_xact_lock(1179407681, 0)');
is($f->sql_as('eve', "SELECT coalesce(sqlstate, 'started') FROM fleet_link.agent_start($q, 1, ARRAY[gen_random_uuid()], '{e}', '{\"{}\"}', NULL, '{$mine}')", on => 'a1'), 'started', 'a user who holds the lock of documents stops nothing');
$held->say('ROLLBACK');
$f->wait_for('a1', q{SELECT string_agg(DISTINCT owner || ' ' || state, ',') FROM fleet.job_run WHERE job = 'e'}, 'eve succeeded', 'and it runs');

$f->done;
