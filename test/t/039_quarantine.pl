# (runs long)
# An ERROR that ends the agent belongs to the object that it was working on.  Once, and nothing is
# lost but a moment.  Each time with the same object: the third time that object fails, with SQLSTATE,
# message and a line in the log; another role's package, started every 100 ms all the while, succeeds
# each time.  Shown at each of the agent's steps of work (src/hand.h).
use strict;
use warnings;
use FleetTest;
use PostgreSQL::Test::Utils;
use IPC::Run;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, witness => 0, slots => 8, delays => 0);

$f->sql(<<'SQL');
CREATE ROLE bystander LOGIN;
CREATE ROLE auditor LOGIN IN ROLE fleet_reader;
SET ROLE bystander;
SELECT fleet.create_package('tick');
SELECT fleet.add_task('tick', 't', sql => 'SELECT 1');
SQL
$f->sql_on('d1', 'SET ROLE etl; CREATE SEQUENCE etl.tries');
$f->define_stay;
$f->job('noop', 'SELECT 1');
$f->job('again', { sql => q{SELECT 1 / (nextval('etl.tries') / 6)}, retries => 9, retry_wait => '50ms', retry_wait_max => '50ms', retry_sqlstates => '{22012}' });
$f->package('again', t => { job => 'again', server => 'd1' });
$f->package('inner', t => { sql => 'SELECT 1' });
$f->package('outer', nested => { nested => 'inner' }, beside => { sql => 'SELECT 1' });
$f->package('remote', t => { job => 'noop', server => 'a1' });
$f->package('anywhere', t => { job => 'noop', on_group => 'all' });
$f->package('work',
    here => { sql => 'SELECT 1' },
    agent => { job => 'noop', server => 'a1' },
    direct => { job => 'noop', server => 'd1' },
    nested => { nested => 'inner' },
    items => { sql => 'SELECT 1', for_each => q{SELECT jsonb_build_object('i', i) FROM generate_series(1, 2) AS i} },
    last => { sql => 'SELECT 1', after => '{here,agent,direct,nested,items}' });
$f->run_is($f->start('work'), 'succeeded', 'the agents work');

# The other role's package, every 100 ms.
my ($in, $out, $err) = ("SELECT fleet.run_parent_package('tick') \\watch 0.1\n", '', '');
my $ticks = IPC::Run::start([ 'psql', '-XAtq', '-d', $f->parent->connstr($FleetTest::DB) . ' user=bystander' ], \$in, \$out, \$err);
$ticks->pump_nb;

sub ticks_go_on
{
    my ($while) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $newest = $f->sql(q{SELECT max(run_id) FROM fleet.run WHERE package = 'tick'});
    $f->wait_for('parent', "SELECT count(*) > 2 FROM fleet.run WHERE package = 'tick' AND run_id > $newest AND state = 'succeeded'", 't', "another role's package runs on: $while");
    is($f->sql(q{SELECT count(*) FROM fleet.run WHERE package = 'tick' AND finished_at IS NOT NULL AND state <> 'succeeded'}), '0', "... and each time succeeds: $while");
    return;
}

sub starts { my ($node) = @_; return $f->sql_on($node || 'parent', 'SELECT starts FROM fleet_catalog.agent'); }
sub arm { my ($work, $id, $word) = @_; $f->point('parent', "$work.$id", $word); return; }
sub disarm { my ($work, $id) = @_; return $f->point_release('parent', "$work.$id"); }

# A session that does not mind if there is no agent at the moment: of a WARNING query_safe() would die.
sub requester
{
    my $session = $f->parent->background_psql($FleetTest::DB);
    $session->query_safe('SET client_min_messages = error');
    return $session;
}

# A request whose work is poisoned before the agent can hear of it; "also" is done in its transaction, with the id for ID.
sub start_armed
{
    my ($call, $work, $word, $also) = @_;
    my $session = requester();
    $session->query_safe('BEGIN');
    my $id = $session->query_safe($call) =~ s/\s//gr;
    arm($work, $id, $word) if defined $work;
    $session->query_safe($also =~ s/ID/$id/gr) if defined $also;
    $session->query_safe('COMMIT');
    $session->quit;
    return $id;
}

sub row_is
{
    my ($kind, $id, $expected, $name, $node) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is($f->sql_on($node || 'parent', "SELECT ends || ' ' || work || ' ' || sqlstate || ' ' || message FROM fleet_catalog.quarantine WHERE kind = '$kind' AND id = $id"), $expected, $name);
    return;
}

# ---- runs: each step of the agent's work --------------------------------------------------------

sub run_of { my ($package) = @_; return "SELECT fleet.run_parent_package('$package')"; }
my %package = (work_timer => 'again');
my @works = qw(work_decide work_task_row work_run_row work_write work_write_run work_effect work_job_effect work_job_row work_event
    work_timer work_query work_query_send work_items work_send work_answer work_report work_retire);

for my $work (@works)
{
    my $starts = starts();
    $f->sql_on('d1', q{SELECT setval('etl.tries', 1, false)});
    my $run = start_armed(run_of($package{$work} || 'work'), $work, 'sting');
    $f->run_is($run, 'succeeded', "$work, once: the run succeeds");
    $f->point_fired('parent', "$work.$run", "$work, once: with it in hand");
    is(starts(), $starts + 1, "$work, once: one agent has ended");
    row_is('run', $run, qq{1 $work XX000 test point "$work"}, "$work, once: it is recorded");
}
ticks_go_on('agents end once over a run');

for my $work (grep { $_ ne 'work_write_run' } @works)
{
    my $starts = starts();
    $f->sql_on('d1', q{SELECT setval('etl.tries', 1, false)});
    my $run = start_armed(run_of($package{$work} || 'work'), $work, 'poison');
    $f->run_is($run, 'failed', "$work, always: the run fails");
    disarm($work, $run);
    is(starts(), $starts + 3, "$work, always: after three agents");
    my $message = qq{the agent ended 3 times over this run: test point "$work"};
    is($f->sql("SELECT message FROM fleet.run WHERE run_id = $run"), $message, "$work, always: the run says why");
    is($f->sql("SELECT count(*) FROM fleet.task_run WHERE run_id = $run AND finished_at IS NULL"), '0', "$work, always: its task runs have ended");
    # one whose first rows could not be written has none
    is($f->sql("SELECT count(*) = 0 OR count(*) FILTER (WHERE sqlstate = 'XX000' AND message = '$message') > 0 FROM fleet.task_run WHERE run_id = $run"), 't', "$work, always: ... with SQLSTATE and message");
    is($f->sql("SELECT string_agg(sqlstate || ' ' || message, '; ') FROM fleet.log WHERE run_id = $run AND level = 'ERROR' AND message LIKE 'the agent ended%'"), "XX000 $message", "$work, always: one line in the log");
}
ticks_go_on('runs are poisoned');

# What is protected anyway fails at once.
my $starts = starts();
my $unreadable = start_armed(run_of('work'), 'work_load', 'poison');
$f->run_is($unreadable, 'failed', 'work_load: the run fails');
is($f->sql("SELECT message FROM fleet.run WHERE run_id = $unreadable"), 'test point "work_load"', 'work_load: ... and says why');
is($f->sql("SELECT sqlstate || ' ' || message FROM fleet.log WHERE run_id = $unreadable"), 'XX000 test point "work_load"', 'work_load: ... in the log, too');
disarm('work_load', $unreadable);
my $refused = start_armed(q{SELECT fleet.start_job('noop')}, 'work_load_job', 'poison');
$f->wait_for('parent', "SELECT state || ' ' || sqlstate || ' ' || message FROM fleet.job_run WHERE job_run_id = $refused", 'failed XX000 test point "work_load_job"', 'work_load_job: the job run fails');
disarm('work_load_job', $refused);
is(starts(), $starts, 'no agent has ended over what is protected');
my $staying = $f->start('stay', '{"key": "recovered"}');
$f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $staying", 'running', 'a run is open');
arm('work_recover', $staying, 'poison');
$f->sql('SELECT pg_terminate_backend(' . $f->agent_pid . ')');
$f->run_is($staying, 'failed', 'work_recover: the run fails');
disarm('work_recover', $staying);
is($f->sql("SELECT sqlstate || ' ' || message FROM fleet.task_run WHERE run_id = $staying"), 'XX000 test point "work_recover"', 'work_recover: ... its task says why');
is(starts(), $starts + 1, 'no agent has ended over that, either');
$f->sql(q{INSERT INTO etl.go VALUES ('recovered')});

$staying = $f->start('stay', '{"key": "canceled"}');
$f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $staying", 'running', 'another run is open');
arm('work_cancel', $staying, 'sting');
$f->sql("SELECT fleet.cancel_run($staying)");
$f->run_is($staying, 'canceled', 'work_cancel: the next agent cancels the run');
$f->point_fired('parent', "work_cancel.$staying", 'work_cancel: with it in hand');
is(starts(), $starts + 2, 'work_cancel: one agent has ended');

# A run that cannot even be failed is left alone, until an operator lifts that.
$starts = starts();
my $left = start_armed(run_of('work'), 'work_write_run', 'poison');
$f->wait_for('parent', "SELECT ends FROM fleet.quarantine WHERE run_id = $left", '4', 'a run that cannot be failed has ended four agents');
ticks_go_on('a run is left alone');
is(starts(), $starts + 4, 'no agent ends over it any more');
$f->sql('SELECT pg_terminate_backend(' . $f->agent_pid . ')');
ticks_go_on('a run is left alone by the next agent');
is($f->sql("SELECT ends || ' ' || quarantined FROM fleet.quarantine WHERE run_id = $left"), '4 true', 'nothing is counted');
disarm('work_write_run', $left);
$f->fails("SELECT fleet.lift_quarantine(run_id => $left)", '42704', 'another role cannot lift it, and does not learn of it', as => 'bystander', help => 1);
$f->fails("SELECT fleet.lift_quarantine(run_id => $left)", '42501', 'who may only read cannot lift it', as => 'auditor', help => 1);
$f->fails("SELECT fleet.lift_quarantine(run_id => $left, server => 'a1')", '22023', 'one at a time', help => 1);
is($f->sql("SELECT fleet.lift_quarantine(run_id => $left)"), 't', 'an operator lifts it');
$f->run_is($left, 'succeeded', 'it runs then');
is($f->sql("SELECT fleet.lift_quarantine(run_id => $left)"), 'f', 'there is nothing left to lift');
is($f->sql_as('bystander', 'SELECT count(*) FROM fleet.quarantine'), '0', 'other roles do not see it');
is($f->sql_as('auditor', 'SELECT count(*) > 10 FROM fleet.quarantine'), 't', 'a reader sees all of it');

# ... or, with the agent there, for an hour.
$left = start_armed(run_of('work'), 'work_write_run', 'poison');
$f->wait_for('parent', "SELECT ends FROM fleet.quarantine WHERE run_id = $left", '4', 'another one is left alone');
ticks_go_on('another run is left alone');
disarm('work_write_run', $left);
$f->sql("UPDATE fleet_catalog.quarantine SET last_at = clock_timestamp() - interval '1 hour' + interval '3 s' WHERE kind = 'run' AND id = $left");
$f->sql('SELECT pg_terminate_backend(' . $f->agent_pid . ')');
$f->run_is($left, 'succeeded', 'it runs after an hour');

# Two at once, and a third between them.
$starts = starts();
my @two = map { start_armed(run_of('work'), $_, 'poison') } qw(work_event work_write);
my $healthy = $f->start('work');
$f->run_is($two[0], 'failed', 'two poisoned runs at once: the first fails');
$f->run_is($two[1], 'failed', '... the second, too');
$f->run_is($healthy, 'succeeded', '... the third succeeds');
is(starts(), $starts + 6, '... and each took three agents');
disarm('work_event', $two[0]);
disarm('work_write', $two[1]);
is($f->sql("SELECT count(*) FROM fleet.quarantine WHERE run_id = $healthy"), '0', '... none of them over the third');

# Gone after the second time.
my $twice = start_armed(run_of('work'), 'work_event', 'sting 2');
$f->run_is($twice, 'succeeded', 'gone after the second time: the run succeeds');
is($f->sql("SELECT ends || ' ' || quarantined FROM fleet.quarantine WHERE run_id = $twice"), '2 false', '... and was not in quarantine');

# ---- a job run, here and at a parent's request ---------------------------------------------------

for my $work (qw(work_job_row work_event work_write))
{
    my $job_run = start_armed(q{SELECT fleet.start_job('noop')}, $work, 'poison');
    $f->wait_for('parent', "SELECT state || ' ' || sqlstate || ' ' || message FROM fleet.job_run WHERE job_run_id = $job_run", qq{failed XX000 the agent ended 3 times over this job run: test point "$work"}, "$work: a job run fails");
    disarm($work, $job_run);
}
ticks_go_on('a job run is poisoned');
$left = start_armed(q{SELECT fleet.start_job('noop')}, 'work_write_run', 'poison');
$f->wait_for('parent', "SELECT ends FROM fleet.quarantine WHERE job_run_id = $left", '4', 'a job run that cannot be failed has ended four agents');
ticks_go_on('a job run is left alone');
disarm('work_write_run', $left);
$f->fails("SELECT fleet.lift_quarantine(job_run_id => $left)", '42704', 'another role cannot lift it', as => 'bystander', help => 1);
is($f->sql("SELECT fleet.lift_quarantine(job_run_id => $left)"), 't', 'an operator lifts it');
$f->wait_for('parent', "SELECT state FROM fleet.job_run WHERE job_run_id = $left", 'succeeded', 'it runs then');

sub next_at_child { return $f->sql_on('a1', 'SELECT last_value + CASE WHEN is_called THEN 1 ELSE 0 END FROM fleet_catalog.job_run_job_run_id_seq'); }
my $child = next_at_child();
$starts = starts('a1');
$f->point('a1', "work_event.$child", 'poison');
my $remote = $f->start('remote');
$f->run_is($remote, 'failed', 'a job run on a server is poisoned there');
$f->point_release('a1', "work_event.$child");
is($f->sql("SELECT sqlstate || ' ' || message FROM fleet.task_run WHERE run_id = $remote"), 'XX000 the agent ended 3 times over this job run: test point "work_event"', '... and its parent learns why');
is(starts('a1'), $starts + 3, '... three agents ended there');
$child = next_at_child();
$f->point('a1', "work_event.$child", 'sting 2');
$f->run_is($f->start('remote'), 'succeeded', 'a job run on a server, gone after the second time');

# A crash belongs to no object.
$f->sql_on('a1', 'ALTER SYSTEM SET restart_after_crash = on');
$f->sql_on('a1', 'SELECT pg_reload_conf()');
$f->wait_for('a1', 'SHOW restart_after_crash', 'on', 'a server comes back after a crash');
$child = next_at_child();
$f->point('a1', "work_event.$child", 'kill 3');
$f->run_is($f->start('remote'), 'succeeded', 'a job run in whose hands the server crashes three times succeeds');
$f->point_fired('a1', "work_event.$child", '... it did');
is($f->sql_on('a1', "SELECT count(*) FROM fleet.quarantine WHERE job_run_id = $child"), '0', '... nothing is counted');

# ---- a deployment -------------------------------------------------------------------------------

my $a1 = $f->sql(q{SELECT server_id FROM fleet_catalog.server WHERE name = 'a1'});
$starts = starts();
my $DEPLOYED = q{SELECT state || ' ' || coalesce(message, '-') FROM fleet.deployment WHERE job = 'noop' AND server = 'a1'};
# A deployment whose work is poisoned before the agent can hear of it.
sub deploy_armed
{
    my ($work, $word) = @_;
    my $session = requester();
    $session->query_safe('BEGIN');
    $session->query_safe(q{SELECT fleet.deploy_job('noop', 'a1')});
    my $id = $session->query_safe('SELECT max(deployment_id) FROM fleet_catalog.deployment') =~ s/\s//gr;
    arm($work, $id, $word);
    $session->query_safe('COMMIT');
    $session->quit;
    return $id;
}
my $deployment = deploy_armed('work_deploy', 'poison');
$f->wait_for('parent', $DEPLOYED, 'failed test point "work_deploy"', 'a deployment that is protected fails at once');
disarm('work_deploy', $deployment);
is(starts(), $starts, '... and no agent has ended over it');
$deployment = deploy_armed('work_deployed', 'poison');
$f->wait_for('parent', $DEPLOYED, 'failed the agent ended 3 times over this deployment: test point "work_deployed"', 'a deployment fails');
disarm('work_deployed', $deployment);
is($f->sql(q{SELECT server || ' ' || job || ' ' || quarantined FROM fleet.quarantine WHERE kind = 'deployment'}), 'a1 noop true', '... and is in quarantine');
ticks_go_on('a deployment is poisoned');
$deployment = deploy_armed('work_deployed', 'sting 2');
$f->wait_for('parent', $DEPLOYED, 'deployed -', 'the next one has a new chance');
is($f->sql("SELECT ends FROM fleet_catalog.quarantine WHERE kind = 'deployment' AND id = $deployment"), '2', '... and is counted anew');

# ---- a server -----------------------------------------------------------------------------------

my $hour = "UPDATE fleet_catalog.quarantine SET last_at = clock_timestamp() - interval '1 hour' + interval '3 s' WHERE kind = 'server'";
my @servers = (
    [ work_server => 'an operator sets its state', sub { $f->sql(q{SELECT fleet.set_server_state('a1', 'online')}); } ],
    [ work_link => 'its definition is changed', sub { $f->sql(q{SELECT fleet.alter_server('a1', slots => 7)}); } ],
    [ work_socket => 'its quarantine is lifted', sub { is($f->sql(q{SELECT fleet.lift_quarantine('a1')}), 't', 'it is lifted'); } ],
    [ work_health => 'an hour has gone', sub { $f->sql($hour); $f->sql('SELECT pg_terminate_backend(' . $f->agent_pid . ')'); } ]);
for my $case (@servers)
{
    my ($work, $what, $lift) = @$case;
    $f->sql('SELECT pg_terminate_backend(' . $f->agent_pid . ')');    # its links are new
    ticks_go_on("$work: a new agent");
    $starts = starts();
    arm($work, $a1, 'poison');
    $f->sql(q{SELECT fleet.alter_server('a1', slots => 8)});
    my $run = $f->start('work');
    my $message = qq{the agent ended 3 times over this server: test point "$work"};
    $f->wait_for('parent', q{SELECT state || ' ' || last_error FROM fleet.server_status WHERE server = 'a1'}, "suspect $message", "$work: the server says why it gets nothing");
    ticks_go_on("$work: a server is poisoned");
    $f->run_is($f->start('anywhere'), 'succeeded', "$work: tasks for its group are placed on others") for 1 .. 3;
    $f->wait_for('parent', "SELECT string_agg(task || ' ' || state, ' ' ORDER BY task) FROM fleet.task_run WHERE run_id = $run AND item = 0 AND state <> 'succeeded' AND task <> 'agent'", 'last queued', "$work: a run's tasks elsewhere go on");
    $f->sql('SELECT pg_terminate_backend(' . $f->agent_pid . ')');
    ticks_go_on("$work: the next agent");
    is(starts(), $starts + 4, "$work: no agent has ended over it any more");
    is($f->sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet agent%'}), '1', "$work: one is there");
    if ($work eq 'work_socket')
    {
        $f->sql(q{SELECT fleet.deploy_job('noop', 'a1')});
        $f->wait_for('parent', $DEPLOYED, "failed $message", 'a deployment to it fails');
    }
    disarm($work, $a1);
    $lift->();
    $f->run_is($run, 'succeeded', "$work: it gets work again when $what");
    is($f->sql(q{SELECT count(*) FROM fleet.quarantine WHERE kind = 'server' AND quarantined}), '0', "$work: nothing is held against it");
    $f->wait_for('parent', q{SELECT state FROM fleet.server_status WHERE server = 'a1'}, 'online', "$work: it is online");
}
# Times that lie apart are not in a row.
for my $expected (1, 2, 1)
{
    $f->sql(q{UPDATE fleet_catalog.quarantine SET last_at = last_at - interval '61 minutes' WHERE kind = 'server' AND ends = 2});
    arm('work_link', $a1, 'sting');
    $f->run_is($f->start('remote'), 'succeeded', "a server: the run succeeds, with $expected agents that ended in a row");
    is($f->sql("SELECT ends FROM fleet_catalog.quarantine WHERE kind = 'server' AND id = $a1"), $expected, '... which are counted');
}

# ---- errors that no point makes -----------------------------------------------------------------

# An administrator's trigger raises: before and after the row, and deferred, that is at the commit of
# what many runs share.
$f->sql(<<'SQL');
CREATE TABLE etl.disliked (run_id bigint, nested_in bigint);
CREATE FUNCTION public.administrator() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM etl.disliked AS d WHERE d.run_id = NEW.run_id)
       OR EXISTS (SELECT FROM fleet_catalog.run AS r JOIN etl.disliked AS d ON d.nested_in = r.parent_run_id WHERE r.run_id = NEW.run_id) THEN
        RAISE EXCEPTION 'not with me' USING ERRCODE = '22012';
    END IF;
    RETURN NEW;
END $$;
SQL
for my $trigger ([ 'BEFORE', 'TRIGGER', '' ], [ 'AFTER', 'TRIGGER', '' ], [ 'AFTER', 'CONSTRAINT TRIGGER', 'DEFERRABLE INITIALLY DEFERRED' ])
{
    my ($when, $kind, $how) = @$trigger;
    my $what = lc("$kind $when");
    $f->sql("CREATE $kind administrator $when UPDATE ON fleet_catalog.task_run $how FOR EACH ROW WHEN (NEW.state = 11) EXECUTE FUNCTION public.administrator()");
    my @disliked = map { start_armed(run_of('work'), undef, undef, 'INSERT INTO etl.disliked VALUES (ID)') } 1 .. 2;
    my $liked = $f->start('work');
    for my $run (@disliked)
    {
        $f->run_is($run, 'failed', "a $what of an administrator raises: that run fails");
        is($f->sql("SELECT message FROM fleet.run WHERE run_id = $run"), 'the agent ended 3 times over this run: not with me', '... and says why');
        is($f->sql("SELECT sqlstate FROM fleet.log WHERE run_id = $run AND message LIKE 'the agent ended%'"), '22012', '... with SQLSTATE, in the log');
    }
    $f->run_is($liked, 'succeeded', '... another one of the same package succeeds');
    my $nested = start_armed(run_of('outer'), undef, undef, 'INSERT INTO etl.disliked (nested_in) VALUES (ID)');
    $f->run_is($nested, 'failed', '... a run with a nested one that it raises for fails');
    is($f->sql("SELECT string_agg(task || ' ' || state || ' ' || coalesce(message, '-'), '; ' ORDER BY task) FROM fleet.task_run WHERE run_id = $nested"),
        'beside succeeded -; nested failed the agent ended 3 times over this run: not with me', '... but only the task with the nested one');
    ticks_go_on("a $what raises");
    is($f->sql("SELECT count(*) FROM fleet.quarantine WHERE sqlstate = '22012' AND run_id NOT IN (SELECT run_id FROM etl.disliked WHERE run_id IS NOT NULL)
        AND run_id NOT IN (SELECT run_id FROM fleet.run WHERE parent_run_id IN (SELECT nested_in FROM etl.disliked))"), '0', '... and nothing is blamed on it, or on any other');
    $f->sql('DROP TRIGGER administrator ON fleet_catalog.task_run');
}

# One that lets no row of the run through, not even its failure: the run is left alone.
$f->sql('CREATE TRIGGER administrator BEFORE UPDATE ON fleet_catalog.task_run FOR EACH ROW EXECUTE FUNCTION public.administrator()');
$left = start_armed(run_of('work'), undef, undef, 'INSERT INTO etl.disliked VALUES (ID)');
$f->wait_for('parent', "SELECT ends FROM fleet.quarantine WHERE run_id = $left", '4', 'a run that a trigger does not even let fail has ended four agents');
ticks_go_on('a run is left alone because of a trigger');
is($f->sql("SELECT ends || ' ' || work || ' ' || sqlstate FROM fleet.quarantine WHERE run_id = $left"), '4 work_refuse 22012', '... and no more');
$f->sql('DROP TRIGGER administrator ON fleet_catalog.task_run');
$f->sql("SELECT fleet.lift_quarantine(run_id => $left)");
$f->run_is($left, 'succeeded', '... and runs, when the trigger has gone and the quarantine is lifted');

# A commit that fails for a reason of the server's, as that of a NOTIFY whose queue became full
# after it was asked about: it is tried again, and blamed on nothing.
my $before = $f->sql('SELECT count(*), sum(ends) FROM fleet.quarantine');
$starts = starts();
$f->point('parent', 'agent_before_commit', 'errors 4');
my $committed = $f->start('work');
$f->run_is($committed, 'succeeded', 'four commits fail: the run succeeds');
is(starts(), $starts + 4, '... after four agents');
is($f->sql('SELECT count(*), sum(ends) FROM fleet.quarantine'), $before, '... nothing is counted');
$f->point('a1', 'agent_before_commit', 'errors 4');
$f->run_is($f->start('remote'), 'succeeded', 'four commits fail on a server: the run succeeds');
$f->point_fired('a1', 'agent_before_commit', '... they did');
is($f->sql_on('a1', q{SELECT count(*) FROM fleet.quarantine WHERE last_at > (SELECT max(queued_at) FROM fleet_catalog.job_run)}), '0', '... nothing is counted there');
ticks_go_on('commits fail');

$ticks->kill_kill;
$f->wait_for('parent', 'SELECT count(*) FROM fleet.run WHERE finished_at IS NULL', '0', 'everything has ended');
is($f->sql(q{SELECT string_agg(DISTINCT state, ' ') FROM fleet.run WHERE package = 'tick'}), 'succeeded', 'no run of the other role was lost');
$f->done(crashes => 1);
