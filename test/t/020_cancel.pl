# Cancel: a durable intent, sent again until it is confirmed; it cascades through packages, steps
# and servers; "canceled" is said only when nothing of it runs any more.
#
# What ran is told by the witness; what runs at the moment of "canceled", by the server itself.
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, proxy => 1, delays => 0);

# Sessions that run such a command on a cluster, whoever looks.
sub active
{
    my ($node, $text) = @_;
    return $f->sql_on($node, q{SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE '%} . $text . q{%'});
}

sub events { my ($key) = @_; return $f->sql_on('witness', "SELECT coalesce(string_agg(what || '\@' || server, ',' ORDER BY id), '') FROM event WHERE key = '$key'"); }

sub task_states { my ($run) = @_; return $f->sql("SELECT string_agg(task || CASE WHEN item > 0 THEN '.' || item ELSE '' END || '=' || state, ' ' ORDER BY task, item) FROM fleet.task_run WHERE run_id = $run"); }

sub cancel { my ($run) = @_; return $f->sql("SELECT fleet.cancel_run($run)"); }

# Work that stays until it is stopped; one text a case, so that its sessions are found.
sub stuck { my ($case) = @_; return "DO \$\$ BEGIN PERFORM etl.witness('start'); PERFORM pg_sleep(600) /* $case */; PERFORM etl.witness('end'); END \$\$"; }

# ---- where it runs -----------------------------------------------------------------------------

$f->job('stay', { sql => stuck('in a job'), transactional => 'false' }, { sql => q{SELECT etl.witness('next')} });
$f->package('three',
    here => { sql => stuck('in a job'), params => '{"key": "where"}' },
    agent => { job => 'stay', server => 'a1', params => '{"key": "where"}' },
    direct => { job => 'stay', server => 'd1', params => '{"key": "where"}' });
$f->sql(q{SELECT fleet.add_task('three', 'later', sql => $$SELECT etl.witness('later')$$, after => '{agent,direct}'),
                 fleet.add_precedence('three', 'here', 'later', on_outcome => 'completion')});
my $run = $f->start('three');
$f->wait_started('where', 3);
is(active($_, 'in a job'), '1', "before: one runs on $_") for qw(parent a1 d1);
is(cancel($run), 't', 'a run that runs can be canceled');
$f->run_is($run, 'canceled', 'a run with work here, on an agent and on a direct server is canceled');
is(active($_, 'in a job'), '0', "at that moment nothing of it runs on $_") for qw(parent a1 d1);
is(task_states($run), 'agent=canceled direct=canceled here=canceled later=canceled', 'each task is canceled, the one that had not begun too');
is(join(',', sort split /,/, events('where')), 'start@a1,start@d1,start@parent', 'nothing came to its end, no next step began, nothing followed');
is($f->sql("SELECT string_agg(DISTINCT sqlstate || ' ' || message, '; ') FROM fleet.job_log WHERE run_id = $run"), '57014 canceling statement due to user request', 'SQLSTATE and message of the steps');
is(cancel($run), 'f', 'a run that has ended is not canceled: false');
is($f->sql("SELECT state FROM fleet.run WHERE run_id = $run"), 'canceled', 'and stays what it was');

# ---- "canceled" means stopped, though the connection or the agent is gone ----------------------

# A session whose connection is cut lives on at its server for seconds.
$f->job('cut', stuck('cut'));
$f->package('cut', t => { job => 'cut', server => 'd1', params => '{"key": "cut"}' });
$run = $f->start('cut');
$f->wait_for('witness', q{SELECT count(*) FROM event WHERE key = 'cut'}, '1', 'a step runs on a direct server');
$f->proxy->ctl('kill', 'd1');
$f->wait_for('witness', q{SELECT count(*) FROM event WHERE key = 'cut'}, '2', 'its connection is cut: it is done again');
is(active('d1', '/* cut */'), '1', 'not before the first session has ended: one runs, not two');
cancel($run);
$f->run_is($run, 'canceled', 'it is canceled');
is(active('d1', '/* cut */'), '0', '… when none of both sessions runs any more');

$run = $f->start('cut');
$f->wait_for('witness', q{SELECT count(*) FROM event WHERE key = 'cut'}, '3', 'the same again');
$f->proxy->ctl('refuse', 'd1');
$f->proxy->ctl('kill', 'd1');
cancel($run);
$f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $run", 'canceling', 'cut off and canceled while the server cannot be reached: canceling');
$f->wait_for('parent', q{SELECT last_error IS NOT NULL FROM fleet.server_status WHERE server = 'd1'}, 't', 'the agent knows that it is not there');
is($f->sql("SELECT state FROM fleet.task_run WHERE run_id = $run"), 'canceling', '… for as long as nobody can tell');
$f->proxy->ctl('allow', 'd1');
$f->run_is($run, 'canceled', 'canceled when the server has told');
is(active('d1', '/* cut */'), '0', '… that nothing of it runs');
is(events('cut'), 'start@d1,start@d1,start@d1', 'nothing was begun again, nothing came to its end');

# The same, stopped by the task's timeout: a failure has a reason, also where no step could tell one.
$f->sql(q{SELECT fleet.create_package('cut once'); SELECT fleet.add_task('cut once', 't', job => 'cut', server => 'd1', params => '{"key": "cut once"}', timeout => '500ms')});
$run = $f->start('cut once');
$f->wait_started('cut once');
$f->proxy->ctl('refuse', 'd1');
$f->proxy->ctl('kill', 'd1');
$f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $run", 'canceling', 'cut off, and then too late: canceling');
$f->proxy->ctl('allow', 'd1');
$f->run_is($run, 'failed', 'it is stopped when the server has told');
is($f->sql("SELECT sqlstate || ' ' || message FROM fleet.task_run WHERE run_id = $run"), '57014 the task run was stopped because of its timeout', '… and its failure has a reason');
is($f->sql("SELECT string_agg(level || ' ' || coalesce(sqlstate, ''), ', ' ORDER BY seq) FROM fleet.log WHERE run_id = $run AND level = 'ERROR'"), 'ERROR 08006', '… told in the log, once: by the step that was cut off');

# The agent ends while the cancel is committed: its successor finds both.
for my $case ([ 'job', 'ended' ], [ 'sql', 'here' ])
{
    my ($kind, $key) = @$case;
    my $where = $kind eq 'job' ? 'd1' : 'parent';
    if ($kind eq 'job') { $f->job($key, stuck($key)); $f->package($key, t => { job => $key, server => 'd1', params => qq({"key": "$key"}) }); }
    else { $f->package($key, t => { sql => stuck($key), params => qq({"key": "$key"}) }); }
    $run = $f->start($key);
    $f->wait_for('witness', "SELECT count(*) FROM event WHERE key = '$key'", '1', "a step runs on $where");
    my $pid = $f->agent_pid;
    $f->point('parent', 'agent_moved_in', 'wait');
    $f->sql("SELECT pg_terminate_backend($pid)");
    $f->point_waits('parent', 'agent_moved_in', 'the agent has ended, its successor has not looked yet');
    is(cancel($run), 't', 'a cancel is committed while no agent is there');
    is($f->sql("SELECT state FROM fleet.run WHERE run_id = $run"), 'running', 'nobody has seen it');
    $f->point_release('parent', 'agent_moved_in');
    $f->run_is($run, 'canceled', 'the next agent cancels the run');
    is(active($where, "/* $key */"), '0', '… and says so when nothing of it runs any more');
    is(events($key), "start\@$where", 'it was not begun again');
}

# ---- nested ------------------------------------------------------------------------------------

$f->job('inner', stuck('nested'));
$f->package('leaf', '-params' => '{"key": "nested"}', agent => { job => 'inner', server => 'a1' }, direct => { job => 'inner', server => 'd1' }, here => { sql => stuck('nested') });
$f->package('middle', '-params' => '{"key": "nested"}', leaf => { nested => 'leaf' });
$f->package('outer', middle => { nested => 'middle' });
$run = $f->start('outer');
$f->wait_started('nested', 3);
is($f->sql(q{SELECT count(*) FROM fleet.run WHERE state = 'running'}), '3', 'three runs, one in the other');
cancel($run);
$f->run_is($run, 'canceled', 'a cancel reaches the tasks of nested packages');
is(active($_, '/* nested */'), '0', "… on $_") for qw(parent a1 d1);
is($f->sql("SELECT string_agg(package || '=' || state, ' ' ORDER BY run_id) FROM fleet.run WHERE run_id >= $run"), 'outer=canceled middle=canceled leaf=canceled', 'each of the runs is canceled');
is($f->sql("SELECT count(*) FROM fleet.task_run WHERE run_id >= $run AND state <> 'canceled'"), '0', '… with each of its tasks');

# A package step, of a job here and of a job on an agent server.
for my $node (qw(parent a1))
{
    # over there it belongs to the role of the link
    my $as = $node eq 'a1' ? 'SET ROLE etl; ' : '';
    $f->sql_on($node, $as . q{SELECT fleet.create_package('inside', params => '{"key": "inside"}')}) ;
    $f->sql_on($node, $as . 'SELECT fleet.add_task(' . join(', ', map { FleetTest::quote_literal($_) } 'inside', 't') . ', sql => ' . FleetTest::quote_literal(stuck('inside')) . ')');
    $f->sql_on($node, $as . q{SELECT fleet.create_job('steps'), fleet.add_step('steps', 'run', package => 'inside'), fleet.add_step('steps', 'next', sql => $$SELECT etl.witness('next')$$)});
}
my $job_run = $f->sql(q{SELECT fleet.start_job('steps')});
$f->wait_for('witness', q{SELECT count(*) FROM event WHERE key = 'inside'}, '1', 'a package step of a job here runs');
is($f->sql("SELECT fleet.cancel_job_run($job_run)"), 't', 'its job run is canceled');
$f->wait_for('parent', "SELECT state FROM fleet.job_run WHERE job_run_id = $job_run", 'canceled', 'the job run is canceled');
is(active('parent', '/* inside */'), '0', '… when the work inside is stopped');
is($f->sql(q{SELECT state FROM fleet.run WHERE package = 'inside'}), 'canceled', 'the package is canceled');
is($f->sql("SELECT fleet.cancel_job_run($job_run)"), 'f', 'a job run that has ended is not canceled: false');
$f->fails('SELECT fleet.cancel_job_run(-1)', '42704', 'nor one that there is not', like => 'job run -1 does not exist');
$f->fails('SELECT fleet.cancel_run(-1)', '42704', 'nor such a run', like => 'run -1 does not exist');
$f->package('by_step', t => { job => 'steps', server => 'a1' });
$run = $f->start('by_step');
$f->wait_for('witness', q{SELECT count(*) FROM event WHERE key = 'inside' AND server = 'a1'}, '1', 'a package step of a job on an agent server runs');
cancel($run);
$f->run_is($run, 'canceled', 'a cancel reaches it');
is(active('a1', '/* inside */'), '0', '… when the work inside is stopped');
is($f->sql_on('a1', q{SELECT string_agg(state, ',') FROM (SELECT state FROM fleet.run UNION ALL SELECT state FROM fleet.job_run WHERE job = 'steps') AS r}), 'canceled,canceled', 'the job and the package there are canceled');
is(events('inside'), 'start@parent,start@a1', 'no next step ran');

# ---- other states ------------------------------------------------------------------------------

# queued (no slot is free), for_each, and a job run canceled as it runs on its own
$f->sql(q{SELECT fleet.set_server_state('d1', 'draining')});
$f->package('queue', t => { job => 'inner', server => 'd1', for_each => q{SELECT jsonb_build_object('key', 'queue') FROM generate_series(1, 3)} }, here => { sql => q{SELECT 1} });
$run = $f->start('queue');
$f->wait_for('parent', "SELECT count(*) FROM fleet.task_run WHERE run_id = $run AND task = 't' AND item > 0 AND state = 'queued'", '3', 'three items wait for a server');
cancel($run);
$f->run_is($run, 'canceled', 'a run whose work waits is canceled');
is($f->sql("SELECT count(*) FROM fleet.task_run WHERE run_id = $run AND state = 'canceled'"), '4', '… with all its items');
$f->sql(q{SELECT fleet.set_server_state('d1', 'online')});
is(events('queue'), '', 'none of them starts when the server is back');

# retrying
$f->sql(q{SELECT fleet.create_package('again'), fleet.add_task('again', 't', sql => $$DO 'BEGIN PERFORM etl.witness(''start''); RAISE ''no''; END'$$, params => '{"key": "again"}', retries => 5, retry_wait => '1h')});
$run = $f->start('again');
$f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $run", 'retrying', 'a task waits for its retry');
cancel($run);
$f->run_is($run, 'canceled', 'its run is canceled at once, not after the wait');
is(events('again'), 'start@parent', 'there was no second attempt');

# starting: canceled between the start's row and its send
$f->job('early', stuck('early'));
for my $case ([ 'a1', 'agent_after_commit' ], [ 'd1', 'agent_after_commit' ], [ 'a1', 'remote_before_start' ], [ 'd1', 'step_before_send' ])
{
    my ($server, $point) = @$case;
    my $key = "$server $point";
    $f->package($key, t => { job => 'early', server => $server, params => qq({"key": "$key"}) });
    $f->point('parent', 'agent_before_messages', 'wait');
    $run = $f->start($key);
    $f->point_waits('parent', 'agent_before_messages', "$key: the agent is asked");
    $f->point('parent', $point, 'wait');
    $f->point_release('parent', 'agent_before_messages');
    $f->point_waits('parent', $point, '… its start is on its way');
    cancel($run);
    $f->point_release('parent', $point);
    $f->run_is($run, 'canceled', '… and is canceled');
    is(active($server, '/* early */'), '0', '… when nothing of it runs');
    is($f->witnessed($key, 'end'), '0', '… nor has come to its end');
}

# ---- sent again until it is confirmed ----------------------------------------------------------

# The server lets no further session in: the cancel's own.
$f->job('full', stuck('full'));
$f->package('full', t => { job => 'full', server => 'd1', params => '{"key": "full"}' });
$run = $f->start('full');
$f->wait_for('witness', q{SELECT count(*) FROM event WHERE key = 'full'}, '1', 'a step runs');
$f->sql_on('d1', 'ALTER ROLE etl CONNECTION LIMIT 0');
$f->sql_on('d1', q{SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'etl' AND state = 'idle'});
cancel($run);
$f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $run", 'canceling', 'a cancel that cannot be delivered: canceling');
is(active('d1', '/* full */'), '1', 'the step runs on');
$f->sql_on('d1', 'ALTER ROLE etl CONNECTION LIMIT -1');
$f->run_is($run, 'canceled', 'delivered when the server lets it in');
is(active('d1', '/* full */'), '0', 'nothing of it runs');

# A step that does not end by the first one.
my $deaf = q{DO $$ DECLARE n integer := 0; BEGIN PERFORM etl.witness('start'); WHILE n < 2 LOOP BEGIN PERFORM pg_sleep(600) /* deaf */; EXCEPTION WHEN query_canceled THEN n := n + 1; PERFORM etl.witness('canceled'); END; END LOOP; RAISE query_canceled; END $$};
$f->job('deaf', $deaf);
$f->package('deaf', t => { job => 'deaf', server => 'd1', params => '{"key": "deaf"}' });
$run = $f->start('deaf');
$f->wait_for('witness', q{SELECT count(*) FROM event WHERE key = 'deaf'}, '1', 'a step that catches its cancel runs');
cancel($run);
$f->run_is($run, 'canceled', 'it is sent again until the step is over');
is(events('deaf'), 'start@d1,canceled@d1,canceled@d1', '… twice');

# ---- what never began there, over the agent's end -----------------------------------------------

# Its step has a row already, since it does not fit a transaction; the next attempt counts on from it.
$f->job('moves', { sql => q{SELECT etl.work()}, transactional => 'false' });
$f->proxy->ctl('refuse', 'd1');
$f->sql("SELECT fleet.add_server('new', '" . $f->conninfo('d1') . "', username => 'etl', password => '$FleetTest::PASSWORD', mode => 'direct')");
$f->package('moves', t => { job => 'moves', server => 'new', params => '{"key": "moves"}' });
$run = $f->start('moves');
$f->wait_for('parent', "SELECT string_agg(state, ',') FROM fleet.job_log WHERE run_id = $run", 'skipped', 'a step that never began on a server that is not there');
$f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $run", 'queued', 'its task waits for the server');
my $gone = $f->agent_pid;
$f->sql("SELECT pg_terminate_backend($gone)");
$f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet agent%' AND pid <> $gone", '1', 'another agent comes');
my $next = $f->agent_pid;
$f->proxy->ctl('allow', 'd1');
$f->run_is($run, 'succeeded', 'the next attempt runs when the server is back');
is($f->agent_pid, $next, 'and no agent stumbles over the rows of the first');
is($f->effects('d1', 'moves'), '1', 'it ran once');

# ---- the request is a part of its transaction --------------------------------------------------

$run = $f->start('cut');
$f->wait_started('cut', 4);
my $s = $f->parent->background_psql($FleetTest::DB);
$s->query_safe('BEGIN');
is($s->query_safe("SELECT fleet.cancel_run($run)"), 't', 'a cancel in a transaction');
$s->query_safe('ROLLBACK');
$f->package('noop', t => { sql => 'SELECT 1' });
$f->run_is($f->start('noop'), 'succeeded', 'the agent has turned since');
is($f->sql("SELECT state FROM fleet.run WHERE run_id = $run"), 'running', 'rolled back: the run goes on');
$s->query_safe("BEGIN; SAVEPOINT s; SELECT fleet.cancel_run($run); ROLLBACK TO s; COMMIT");
$f->run_is($f->start('noop'), 'succeeded', 'the agent has turned since');
is($f->sql("SELECT state FROM fleet.run WHERE run_id = $run"), 'running', 'rolled back to a savepoint: the run goes on');
$s->query_safe("BEGIN; SELECT fleet.cancel_run($run); SELECT fleet.cancel_run($run)");
$f->run_is($f->start('noop'), 'succeeded', 'the agent has turned since');
is($f->sql("SELECT state FROM fleet.run WHERE run_id = $run"), 'running', 'not yet committed: the run goes on');
$s->query_safe('COMMIT');
$f->run_is($run, 'canceled', 'committed, and asked for twice: it is canceled');
$run = $f->start('cut');
$f->wait_started('cut', 5);
$s->query_safe("BEGIN; SAVEPOINT s; SELECT fleet.cancel_run($run); RELEASE s; SAVEPOINT t; SELECT fleet.cancel_run($run); ROLLBACK TO t; COMMIT");
$f->run_is($run, 'canceled', 'asked for in a savepoint that was released, and again in one that was rolled back: it is canceled');
$run = $s->query_safe("BEGIN; SELECT fleet.run_parent_package('cut') AS r \\gset\nSELECT fleet.cancel_run(:r), :r; COMMIT");
$run =~ s/^t\|//;
$f->run_is($run, 'canceled', 'asked for and canceled in one transaction');
is(events('cut'), join(',', ('start@d1') x 5), 'it never started') or diag($f->sql_on('witness', q{SELECT * FROM event WHERE key = 'cut'}), "\n", $f->sql(q{SELECT run_id, step, state, started_at, finished_at, sqlstate, message FROM fleet.job_log WHERE package = 'cut' ORDER BY 1}));
$s->quit;

$f->done;
