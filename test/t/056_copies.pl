# Parents that know less than their servers do: a dump that is restored elsewhere in the middle of runs and told that it is
# a parent of its own; and a promoted standby that has lost its last seconds, and is asked for the same again.
use strict;
use warnings;
use FleetTest;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, streaming => 1, delays => 0);
my $original = $f->parent;

$f->job('hold', 'SELECT etl.work_until_released()');
$f->job('work', 'SELECT etl.work()');
$f->package('middle', -params => '{"key": null}',
    here => { sql => 'SELECT etl.work_until_released()' },
    agent => { job => 'hold', server => 'a1' },
    direct => { job => 'hold', server => 'd1' },
    later => { job => 'work', server => 'd1', after => '{direct}' });
$f->package('work', -params => '{"key": null}', t => { job => 'work', server => 'a1' });
$f->package('hold', -params => '{"key": null}', t => { job => 'hold', server => 'a1' });

sub tasks { my ($run) = @_; return $f->sql("SELECT string_agg(task || '=' || state || coalesce(' ' || sqlstate, ''), ', ' ORDER BY task_no) FROM fleet.task_run WHERE run_id = $run"); }

# ---- a dump is restored in the middle of runs ---------------------------------------------------

my $middle = $f->start('middle', '{"key": "middle"}');
$f->wait_started('middle', 3);
$f->wait_for('parent', "SELECT count(*) FROM fleet.task_run WHERE run_id = $middle AND state = 'running'", '3', 'dump: three tasks are under way');
$f->point('parent', 'remote_before_start', 'wait');
my $unsent = $f->start('work', '{"key": "unsent"}');
$f->point_waits('parent', 'remote_before_start', 'dump: the start of a fourth is stored, and not sent');

# What belongs to a role that was dropped is nobody's in the copy too, whoever has the role's number there.
$f->sql(q{CREATE ROLE ghost; SET ROLE ghost; SELECT fleet.create_package('ghost'); SELECT fleet.add_task('ghost', 't', sql => $$SELECT etl.witness('ghost')$$);
    SELECT fleet.create_job('ghost'); SELECT fleet.add_step('ghost', 's', 'SELECT 1'); SELECT fleet.create_group('ghosts')});
my $ghosts = $f->sql(q{SET ROLE ghost; SELECT fleet.run_parent_package('ghost')});
my $ghost = $f->sql(q{SELECT oid FROM pg_roles WHERE rolname = 'ghost'});
$f->sql('DROP ROLE ghost');
my $copy = $f->make_node('copy');
my $err = '';
ok(IPC::Run::run([ 'pg_dumpall', '-d', $original->connstr('postgres') ], '|', [ 'psql', '-XAtq', '-d', $copy->connstr('postgres') ], '>', \my $out, '2>', \$err), 'dump: it is restored in another cluster');
my %nodes = %{ $f->{nodes} };
$f->{nodes}{parent} = $copy;
my $asked = $f->start('work', '{"key": "asked"}');
$f->wait_for('parent', q{SELECT paused_reason LIKE 'This database is a copy: %' FROM fleet.agent_status()}, 't', 'dump: the copy is paused');
# Who asks it for something is told so, and nobody waits for what does not come.
my $warned = FleetTest::Session->new($copy, $FleetTest::DB);
like($warned->say(q{SELECT fleet.run_parent_package('work', params => '{"key": "asked"}')}), qr/WARNING:.*this parent is paused(?:.*\n)*?DETAIL:.*is a copy/, 'dump: who requests a run is warned');
like($warned->say(q{SELECT fleet.start_job('work', params => '{"key": "asked"}')}), qr/WARNING:.*this parent is paused/, 'dump: … and a job');
like($warned->say(qq{BEGIN; SELECT fleet.cancel_run($asked); SELECT count(fleet.run_parent_package('work', params => '{"key": "asked"}')) FROM generate_series(1, 3); ROLLBACK}), qr/^(?!.*WARNING.*WARNING).*WARNING/s, 'dump: … once a transaction');
like($warned->say("CALL fleet.wait($asked)"), qr/ERROR:  55000: run $asked does not go on: this parent is paused(?:.*\n)*?DETAIL:.*is a copy/, 'dump: CALL fleet.wait() says why it does not wait');
like($warned->say("SELECT fleet.wait_for_run($asked)"), qr/ERROR:  55000: run $asked does not go on/, 'dump: nor does wait_for_run()');
like($warned->say(q{CALL fleet.execute_package('work', params => '{"key": "asked"}')}), qr/ERROR:  55000: run \d+ does not go on: this parent is paused/, 'dump: nor does execute_package()');
undef $warned;
is(tasks($middle), 'here=running, agent=running, direct=running, later=queued', 'dump: the rows are as they were');
is(tasks($unsent), 't=starting', 'dump: … of the one that is not sent too');
is($f->sql(qq{SELECT string_agg(DISTINCT owner || ' ' || owner::oid, ', ') FROM (SELECT owner FROM fleet_catalog.package WHERE name = 'ghost' UNION ALL
    SELECT owner FROM fleet_catalog.job WHERE name = 'ghost' UNION ALL SELECT owner FROM fleet_catalog.run WHERE run_id = $ghosts UNION ALL
    SELECT owner FROM fleet_catalog.server_group WHERE name = 'ghosts') AS o}), '- 0', 'dump: an owner that was dropped is no role, and not a number');
is($f->sql(qq{SELECT '$ghost'::fleet_catalog.role::oid || ' ' || '10'::fleet_catalog.role::oid}), '0 0', 'dump: nor is a number that a dump of regrole has');
is($f->sql(q{SELECT string_agg(DISTINCT owner::text, ' ') FROM fleet_catalog.package WHERE name <> 'ghost'}), 'postgres', 'dump: the others are whose they were');
$f->sql(q{SELECT fleet.confirm_identity('new')});

# By then its agent has looked at everything that was open.
$f->run_is($f->start('work', '{"key": "own"}'), 'succeeded', 'new parent: it runs what it is asked for now');
is(tasks($middle), 'here=lost 55000, agent=lost 55000, direct=lost 55000, later=skipped 55000', 'new parent: what was under way is lost here, what had not begun is skipped');
is(tasks($unsent), 't=lost 55000', 'new parent: so is what was not sent');
is($f->sql(q{SELECT string_agg(DISTINCT state || ': ' || message, '; ') FROM fleet.run WHERE state <> 'succeeded'}),
    'failed: this database was copied before it had ended; it continues in the original, if anywhere', 'new parent: the runs have ended, and say why');
is($f->sql("SELECT state FROM fleet.run WHERE run_id = $asked"), 'failed', 'new parent: what it was asked for before it was told is to be asked for again');
is($f->sql(q{SELECT count(*) FROM fleet.step_run WHERE finished_at IS NULL}), '0', 'new parent: no step is open');
is($f->sql("SELECT string_agg(task || ' ' || level || ' ' || sqlstate, ', ' ORDER BY task) FROM fleet.log WHERE run_id IN ($middle, $unsent) AND level = 'ERROR'"),
    'agent ERROR 55000, direct ERROR 55000, here ERROR 55000, t ERROR 55000', 'new parent: the log of each has a line of it');
is($f->sql("SELECT count(*) FROM (SELECT run_id, task, count(*) <> max(seq) AS gap FROM fleet.log WHERE run_id IN ($middle, $unsent) GROUP BY 1, 2) AS l WHERE gap"), '0', 'new parent: no gap in a log');
is($f->witnessed('middle', 'start') . $f->witnessed('unsent', 'start') . $f->witnessed('asked', 'start'), '300', 'new parent: it has started nothing of the original');

# It is taken for a copy while somebody waits: the next agent finds that out.
my $held = $f->start('hold', '{"key": "held"}');
$f->wait_started('held');
my $waiter = $copy->background_psql($FleetTest::DB, on_error_stop => 0);
$waiter->query_until(qr/waiting/, "\\echo waiting\nCALL fleet.wait($held);\n\\echo waited\n");
$f->wait_for('parent', q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CALL fleet.wait%' AND wait_event_type = 'Extension'}, '1', 'paused meanwhile: somebody waits');
$f->sql('UPDATE fleet_catalog.identity SET system_identifier = system_identifier - 1');
$f->sql('SELECT pg_terminate_backend(pid) FROM fleet.agent_status()');
$waiter->query_until(qr/waited/, '');
like($waiter->{stderr}, qr/ERROR:  run $held does not go on: this parent is paused/, 'paused meanwhile: the wait ends, and says why');
$waiter->quit;
$f->sql(q{SELECT fleet.confirm_identity('same')});
$f->release('held');
$f->run_is($held, 'succeeded', 'paused meanwhile: told that it is the same, its run goes on');
my $nobodys = $f->start('ghost');
$f->run_is($nobodys, 'failed', 'new parent: what is nobody\'s does not run');
is(tasks($nobodys), 't=failed 42704', 'new parent: with the reason');
$copy->stop('fast');

%{ $f->{nodes} } = %nodes;
$f->point_release('parent', 'remote_before_start');
$f->run_is($unsent, 'succeeded', 'original: nobody has taken the token of the one that was not sent');
$f->run_is($ghosts, 'failed', 'original: the run whose owner was dropped fails');
is(tasks($ghosts), 't=failed 42704', 'original: with the reason');
$f->release('middle');
$f->run_is($middle, 'succeeded', 'original: its run goes on to its end');
is(join(' ', map { "$_=" . $f->effects($_, 'middle') } qw(parent a1 d1)), 'parent=1 a1=1 d1=2', 'original: each effect is there once');
is($f->witnessed('middle', 'start'), '4', 'original: nothing was begun twice');

# ---- a promoted standby that has lost its last seconds ------------------------------------------

$original->backup('before');
sub keyed { my ($package, $key) = @_; return $f->sql("SELECT fleet.run_parent_package('$package', params => '{\"key\": \"$key\"}', run_key => '$key')"); }
my $done = keyed('work', 'done');
$f->run_is($done, 'succeeded', 'lost seconds: a run has ended');
$f->wait_for('a1', q{SELECT acknowledged_at IS NOT NULL FROM fleet.job_run WHERE params ->> 'key' = 'done'}, 't', 'lost seconds: its server knows that the parent has the result');
my $runs = keyed('hold', 'runs');
$f->wait_started('runs');
$f->forget('parent');
$original->stop('immediate');
my $promoted = PostgreSQL::Test::Cluster->new('promoted');
$promoted->init_from_backup($original, 'before', has_streaming => 1);
$promoted->start;
$promoted->promote;
$f->{nodes}{parent} = $promoted;
is($f->sql(q{SELECT count(*) FROM fleet.run WHERE run_key IN ('done', 'runs')}), '0', 'lost seconds: the new primary knows of neither run');
$done = keyed('work', 'done');
$f->run_is($done, 'succeeded', 'lost seconds: asked for again with its key, the run that had ended ends');
is($f->sql("SELECT string_agg(message, ', ' ORDER BY seq) FROM fleet.log WHERE run_id = $done"), 'step "s1" started, step "s1" succeeded', 'lost seconds: with its log');
is($f->sql("SELECT output FROM fleet.task_run WHERE run_id = $done"), 'done', 'lost seconds: and its value');
is($f->effects('a1', 'done') . $f->witnessed('done', 'start'), '11', 'lost seconds: its effect is there once');
$runs = keyed('hold', 'runs');
$f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $runs", 'running', 'lost seconds: the one that runs is found running');
$f->release('runs');
$f->run_is($runs, 'succeeded', 'lost seconds: and ends');
is($f->effects('a1', 'runs') . $f->witnessed('runs', 'start'), '11', 'lost seconds: its effect is there once too');

$f->done(crashes => 1);
